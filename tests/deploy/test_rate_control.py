"""The finest rate that fits: against brute force, over many images and budgets."""

from __future__ import annotations

import random

import pytest

from bottlenecks.deploy.rate_control import BudgetError, Deadline, RateControl

CURVE = {0.001: 10.0, 0.003: 14.0, 0.01: 20.0, 0.03: 30.0, 0.1: 45.0}


def encoder(scale: float, calls: list[float]):
    def encode(lmbda: float) -> bytes:
        calls.append(lmbda)
        return bytes(round(CURVE[lmbda] * scale))

    return encode


def test_the_finest_rate_that_fits_is_found_for_every_image() -> None:
    control, random_ = RateControl(CURVE), random.Random(0)
    for _ in range(2000):
        scale, budget = random_.uniform(0.4, 2.5), random_.uniform(8, 120)
        fitting = [lmbda for lmbda, mean in CURVE.items() if round(mean * scale) <= budget]
        if not fitting:
            with pytest.raises(BudgetError, match=r"no rate fits; lambda=0\.001 takes the fewest bytes"):
                control.code(encoder(scale, []), budget)
            continue
        coded = control.code(encoder(scale, []), budget)
        assert coded.lmbda == max(fitting) and len(coded.stream) <= budget


def test_it_learns_from_the_images_before() -> None:
    control, calls = RateControl(CURVE), list[float]()
    for _ in range(20):
        control.code(encoder(2.0, []), 42)
    control.code(encoder(2.0, calls), 42)
    assert calls == [0.01, 0.03]  # what fits, and the next that does not


def test_the_way_down_ends_at_the_coarsest() -> None:
    with pytest.raises(BudgetError, match=r"budget of 5 bytes: no rate fits; lambda=0\.001 takes .* image, 10;"):
        RateControl(CURVE).code(encoder(1.0, []), 5)


def test_a_finer_rate_that_takes_less_is_found_before_giving_up() -> None:
    sizes = {0.001: 12, 0.003: 8, 0.01: 20, 0.03: 30, 0.1: 45}
    assert RateControl(CURVE).code(lambda lmbda: bytes(sizes[lmbda]), 11).lmbda == 0.003


def test_a_deadline_becomes_a_budget() -> None:
    deadline = Deadline(80, 250)
    assert deadline.budget_bytes(spent_ms=16) == pytest.approx(64 * 250 / 8)
    deadline.observe(num_bytes=100, round_trip_ms=3.2 + 24)  # 800 bits at 250 kbit/s are 3.2 ms
    assert deadline.budget_bytes(spent_ms=16) == pytest.approx(40 * 250 / 8)
    for _ in range(50):
        deadline.observe(num_bytes=100, round_trip_ms=3.2 + 44)
    assert deadline.budget_bytes(spent_ms=16) == pytest.approx(20 * 250 / 8, rel=0.01)
    with pytest.raises(BudgetError, match=r"the device took 60.0 ms and an answer takes 44.0 ms beside its bytes"):
        deadline.budget_bytes(spent_ms=60)


def test_one_slow_answer_does_not_end_all_sending() -> None:
    deadline = Deadline(30, 250, overhead_ms=5)
    for _ in range(5):
        deadline.observe(num_bytes=10, round_trip_ms=500)
    refused = 0
    while deadline.overhead_ms > 20:
        with pytest.raises(BudgetError, match="deadline of 30 ms"):
            deadline.budget_bytes(spent_ms=10)
        refused += 1
    assert 0 < refused < 30 and deadline.budget_bytes(spent_ms=5) > 0


def test_many_rates_are_searched_in_few_steps() -> None:
    curve, random_ = {1e-3 * 1.02**step: 10 * 1.01**step for step in range(250)}, random.Random(0)
    control, most = RateControl(curve), 0
    for _ in range(300):
        scale, budget, calls = random_.uniform(0.8, 1.3), random_.uniform(5, 160), list[float]()

        def encode(lmbda: float, scale: float = scale, calls: list[float] = calls) -> bytes:
            calls.append(lmbda)
            return bytes(round(curve[lmbda] * scale))

        fitting = [lmbda for lmbda, mean in curve.items() if round(mean * scale) <= budget]
        if fitting:
            assert control.code(encode, budget).lmbda == max(fitting)
        else:
            with pytest.raises(BudgetError, match=r"lambda=0\.001 takes the fewest"):
                control.code(encode, budget)
        assert len(calls) == len(set(calls))
        most = max(most, len(calls))
    assert most <= 26  # of 250
