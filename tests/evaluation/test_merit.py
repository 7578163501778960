"""Figures of merit against numerical oracles, and what is refused as nonsense."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.interpolate import PchipInterpolator

from bottlenecks.errors import UsageError
from bottlenecks.evaluation.merit import Line, NoFigureError, bd_metric, bd_rate, bytes_at, check_installed

ANCHOR = Line.of([100, 200, 400, 800, 1600], [0.5, 0.7, 0.8, 0.86, 0.89])


def scaled(factor: float, gain: float = 0.0) -> Line:
    return Line.of(factor * ANCHOR.num_bytes, ANCHOR.values + gain)


@given(st.floats(0.3, 3.0))
def test_a_curve_at_a_multiple_of_the_bytes_has_that_bd_rate(factor: float) -> None:
    assert bd_rate(ANCHOR, scaled(factor)) == pytest.approx(factor - 1, abs=1e-9)


def test_a_curve_raised_by_two_points_has_that_bd_metric() -> None:
    assert bd_metric(ANCHOR, scaled(1.0, 0.02)) == pytest.approx(0.02)


def test_bd_rate_is_the_mean_gap_of_the_logarithms() -> None:
    test = Line.of([50, 90, 300, 500, 1400, 3000], [0.45, 0.6, 0.78, 0.84, 0.88, 0.885])
    low, high = 0.5, 0.885
    curves = [PchipInterpolator(line.values, np.log(line.num_bytes)) for line in (ANCHOR, test)]
    gap, _ = quad(lambda value: curves[1](value) - curves[0](value), low, high, limit=500)
    assert bd_rate(ANCHOR, test) == pytest.approx(np.exp(gap / (high - low)) - 1, rel=1e-6)


def test_order_and_points_that_no_one_would_take_do_not_matter() -> None:
    shuffled = Line.of([1600, 100, 450, 400, 800, 200], [0.89, 0.5, 0.795, 0.8, 0.86, 0.7], [0.9] * 6)
    assert bd_rate(ANCHOR, shuffled) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize(
    ("anchor", "test", "reason"),
    [
        (ANCHOR, Line.of([100, 200, 400], [0.5, 0.7, 0.8]), r"^only 3 of its points rise, 4 must"),
        (Line.of([1, 2], [0.5, 0.6]), ANCHOR, r"^anchor: only 2 of its points rise"),
        (ANCHOR, Line.of([1, 2, 3, 4], [0.1, 0.2, 0.3, 0.4]), r"hardly any overlap: 50.0% to 89.0% against 10.0%"),
        (
            ANCHOR,
            Line.of([100, 200, 400, 800, 1600], [0.5, 0.7, 0.8, 0.6, 0.89], [0.53, 0.73, 0.83, 0.63, 0.9]),
            r"not monotone: 60.0% at 800 bytes, 80.0% at fewer",
        ),
    ],
)
def test_nonsense_is_refused_with_the_reason(anchor: Line, test: Line, reason: str) -> None:
    with pytest.raises(NoFigureError, match=reason):
        bd_rate(anchor, test)


def test_rates_that_hardly_meet_have_no_bd_metric() -> None:
    with pytest.raises(NoFigureError, match="hardly any overlap: 100 bytes to 1,600 bytes against 1 bytes"):
        bd_metric(ANCHOR, scaled(0.01))


def test_bytes_are_interpolated_between_the_points_around() -> None:
    assert bytes_at(ANCHOR, 0.75) == pytest.approx(np.sqrt(200 * 400))
    assert bytes_at(ANCHOR, 0.8) == pytest.approx(400)
    assert bytes_at(ANCHOR, 0.3) == 100
    with pytest.raises(NoFigureError, match=r"not reached: 89\.0% at the most"):
        bytes_at(ANCHOR, 0.9)


def test_the_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bjontegaard", None)
    with pytest.raises(UsageError, match=r"pip install 'bottlenecks\[evaluation\]'"):
        check_installed()


def test_points_of_equal_bytes_count_once() -> None:
    line = Line.of([7, 7, 100, 300, 900], [0.5, 0.6, 0.7, 0.8, 0.88])
    assert line.front().num_bytes.tolist() == [7, 100, 300, 900] and line.front().values[0] == 0.6
    assert bd_metric(line, line) == 0
