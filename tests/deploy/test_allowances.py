"""How much each client may ask, in one process and in several."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.exceptions import HTTPException

from bottlenecks.deploy.allowances import Allowances


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that a clock shows, long after its start."""
    seconds = [1e6]
    monkeypatch.setattr("time.monotonic", lambda: seconds[0])
    return seconds


def granted(allowances: Allowances, client: str, num_bytes: int = 0) -> bool:
    try:
        allowances.take(client, num_bytes)
    except HTTPException as error:
        assert error.status_code == 429 and error.headers and int(error.headers["Retry-After"]) >= 1
        return False
    return True


@pytest.mark.parametrize(
    ("a_second", "at_once", "seconds", "later"), [(3, 3, 1, 3), (3, 3, 0.34, 1), (0.1, 1, 9.9, 0), (0.1, 1, 10, 1)]
)
def test_requests_are_given_by_the_second(
    now: list[float], a_second: float, at_once: int, seconds: float, later: int
) -> None:
    allowances = Allowances(requests=a_second)
    assert sum(granted(allowances, "a") for _ in range(9)) == at_once
    assert granted(allowances, "b")
    now[0] += seconds
    assert sum(granted(allowances, "a") for _ in range(9)) == later
    now[0] += 1000  # no more than a second's worth is saved up
    assert sum(granted(allowances, "a") for _ in range(9)) == at_once


def test_what_a_client_owes_counts_against_its_next_request(now: list[float]) -> None:
    allowances = Allowances(num_bytes=100)
    assert granted(allowances, "a", 250) and not granted(allowances, "a", 1)
    assert granted(allowances, "b")
    allowances.owe("b", 150)
    assert not granted(allowances, "b")
    now[0] += 1.6
    assert granted(allowances, "a", 1) and granted(allowances, "b", 1)


def test_any_may_be_asked_where_nothing_is_said(now: list[float]) -> None:
    allowances = Allowances()
    assert all(granted(allowances, "a", 10**9) for _ in range(99))


def test_several_processes_give_a_client_no_more_than_one(tmp_path: Path, now: list[float]) -> None:
    path = tmp_path / "allowances"
    first, second = Allowances(4, 1000, path), Allowances(4, 1000, path)
    assert [granted(one, "a", 1) for one in (first, second, first, second)] == [True] * 4
    third = Allowances(4, 1000, path)  # in the place of one that died
    assert not any(granted(one, "a", 1) for one in (first, second, third))
    assert granted(third, "b", 2000) and not granted(first, "b", 1)
    now[0] += 0.25
    assert [granted(one, "a", 1) for one in (first, second, third)] == [True, False, False]
