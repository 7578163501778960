"""Figures of merit: what a curve is worth in one number, or why there is none."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bottlenecks.errors import UsageError

FloatArray = npt.NDArray[np.float64]
Numbers = Sequence[float] | FloatArray

FEWEST_POINTS = 4  # of a curve that Bjøntegaard's figures are taken from
LEAST_OVERLAP = 0.5  # of the shorter of the two ranges that are compared


class NoFigureError(ValueError):
    """A figure that would be nonsense; the message says why."""


@dataclass(frozen=True)
class Line:
    """One codec's operating points, from few bytes to many.

    Attributes:
        num_bytes: mean per image, (P,).
        values: of the metric, (P,).
        highs: how high the metric could be at each point (the upper end of its interval), (P,).
    """

    num_bytes: FloatArray
    values: FloatArray
    highs: FloatArray

    @classmethod
    def of(cls, num_bytes: Numbers, values: Numbers, highs: Numbers | None = None) -> Line:
        """Sort points by their bytes."""
        order = np.lexsort((-np.asarray(values), np.asarray(num_bytes)))  # of equal bytes the best comes first
        arrays = (num_bytes, values, values if highs is None else highs)
        return cls(*(np.asarray(array, dtype=np.float64)[order] for array in arrays))

    def front(self) -> Line:
        """Keep the points that are better than all that take no more bytes."""
        best = np.maximum.accumulate(np.concatenate([[-np.inf], self.values[:-1]]))
        kept = self.values > best
        return Line(self.num_bytes[kept], self.values[kept], self.highs[kept])

    def monotone(self) -> Line:
        """Return the front, where the points beside it are there by chance alone.

        Raises:
            NoFigureError: too few points rise, or one that takes more bytes is worse by more than its interval.
        """
        more = np.diff(self.num_bytes, prepend=0) > 0  # a worse point of equal bytes falls short of nothing
        fallen = more & (np.maximum.accumulate(self.values) > self.highs)
        if fallen.any():
            index = int(fallen.argmax())
            raise NoFigureError(
                f"not monotone: {self.values[index]:.1%} at {self.num_bytes[index]:,.0f} bytes, "
                f"{self.values[:index].max():.1%} at fewer"
            )
        front = self.front()
        if len(front.values) < FEWEST_POINTS:
            raise NoFigureError(f"only {len(front.values)} of its points rise, {FEWEST_POINTS} must")
        return front


def bd_rate(anchor: Line, test: Line) -> float:
    """Mean difference in rate at equal metric, as a share: -0.5 is half the bytes.

    G. Bjøntegaard, "Calculation of average PSNR differences between RD-curves", VCEG-M33, 2001, with
    shape-preserving cubics (PCHIP) in place of its one cubic.

    Args:
        anchor: what is compared with.
        test: what is compared.

    Raises:
        NoFigureError: the curves do not rise, or hardly share a range of the metric.
    """
    anchor, test = _rising(anchor, test)
    _check_overlap(anchor.values, test.values, lambda value: f"{value:.1%}")
    rate = _bjontegaard().bd_rate(
        anchor.num_bytes, anchor.values, test.num_bytes, test.values, "pchip", require_matching_points=False,
        min_overlap=0,
    )  # fmt: skip
    return float(rate) / 100


def bd_metric(anchor: Line, test: Line) -> float:
    """Mean difference in the metric at equal rate, over the logarithm of the bytes (see `bd_rate`).

    Raises:
        NoFigureError: the curves do not rise, or hardly share a range of rates.
    """
    anchor, test = _rising(anchor, test)
    _check_overlap(np.log(anchor.num_bytes), np.log(test.num_bytes), lambda value: f"{math.exp(value):,.0f} bytes")
    return float(
        _bjontegaard().bd_psnr(
            anchor.num_bytes, anchor.values, test.num_bytes, test.values, "pchip", require_matching_points=False,
            min_overlap=0,
        )
    )  # fmt: skip


def bytes_at(line: Line, value: float) -> float:
    """Interpolate the fewest bytes at which the metric reaches a value, linearly over the logarithm of the bytes.

    Where every point reaches it, the bytes of the coarsest are an upper bound.

    Raises:
        NoFigureError: it does so nowhere.
    """
    front = line.front()
    reached = front.values >= value
    if not reached.any():
        raise NoFigureError(f"not reached: {front.values[-1]:.1%} at the most")
    index = int(reached.argmax())
    if index == 0:
        return float(front.num_bytes[0])
    low, high = front.values[index - 1 : index + 1]
    share = (value - low) / (high - low)
    rates = np.log(front.num_bytes[index - 1 : index + 1])
    return float(np.exp(rates[0] + share * (rates[1] - rates[0])))


def _rising(anchor: Line, test: Line) -> tuple[Line, Line]:
    try:
        anchor = anchor.monotone()
    except NoFigureError as error:
        raise NoFigureError(f"anchor: {error}") from None
    return anchor, test.monotone()


def _check_overlap(first: FloatArray, second: FloatArray, show: Callable[[float], str]) -> None:
    shared = min(first.max(), second.max()) - max(first.min(), second.min())
    shorter = min(np.ptp(first), np.ptp(second))
    if shared < LEAST_OVERLAP * shorter or shorter <= 0:
        ranges = [f"{show(float(one.min()))} to {show(float(one.max()))}" for one in (first, second)]
        raise NoFigureError(f"hardly any overlap: {ranges[0]} against {ranges[1]}")


def check_installed() -> None:
    """Ask for the package that curves are compared with.

    Raises:
        UsageError: it is not there.
    """
    _bjontegaard()


def _bjontegaard() -> Any:
    try:
        import bjontegaard
    except ModuleNotFoundError:
        raise UsageError("codecs: comparing several needs a package; pip install 'bottlenecks[evaluation]'") from None
    return bjontegaard
