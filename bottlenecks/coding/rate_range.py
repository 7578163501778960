"""Which multiplier of a unit's steps stands for which lambda, in a unit that takes any rate; no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bottlenecks.errors import UsageError

LEAST, MOST = -128, 127  # what the byte of a frame holds
WIDEST = 300.0  # the largest lambda over the smallest: what multipliers surely span


@dataclass(frozen=True)
class RateRange:
    """A table of the lambdas that multipliers are best for; between its rows, multipliers go with lambda's logarithm.

    Attributes:
        multipliers: of the unit's steps, in eighths of a table step, rising; whole or not.
        lmbdas: that they are best for, rising; the first and the last are the ends of the range.

    Raises:
        ValueError: they do not rise, or are beyond what a frame can state.
    """

    multipliers: tuple[float, ...]
    lmbdas: tuple[float, ...]

    def __post_init__(self) -> None:
        rising = [all(np.diff(own) > 0) and bool(np.isfinite(own).all()) for own in (self.multipliers, self.lmbdas)]
        if len(self.multipliers) != len(self.lmbdas) or len(self.lmbdas) < 2 or not all(rising) or self.low <= 0:
            raise ValueError(
                "a range must have two rows or more, of rising multipliers and lambdas above 0, "
                f"got {self.multipliers} and {self.lmbdas}"
            )
        if self.multipliers[0] < LEAST or self.multipliers[-1] > MOST:
            raise ValueError(f"multipliers must be within {LEAST}..{MOST}, got {self.multipliers}")

    def __str__(self) -> str:
        return f"{self.low!r}..{self.high!r}"

    @property
    def low(self) -> float:
        """The smallest lambda."""
        return self.lmbdas[0]

    @property
    def high(self) -> float:
        """The largest lambda."""
        return self.lmbdas[-1]

    @property
    def lowest(self) -> int:
        """The multiplier of the smallest lambda."""
        return round(self.multipliers[0])

    @property
    def highest(self) -> int:
        """The multiplier of the largest lambda."""
        return round(self.multipliers[-1])

    def multiplier(self, lmbda: float) -> int:
        """Return the multiplier that is best for a lambda.

        Raises:
            UsageError: it is outside of the range.
        """
        if not self.low <= lmbda <= self.high:
            raise UsageError(
                f"lambda={lmbda!r}: this unit takes any lambda from {self.low!r} to {self.high!r}; give one of these, "
                "or train another range"
            )
        return round(float(np.interp(np.log(lmbda), np.log(self.lmbdas), self.multipliers)))

    def lmbda(self, multiplier: int) -> float:
        """Return the shortest number among the lambdas that a multiplier stands for; at the ends, the ends."""
        if multiplier <= self.lowest or multiplier >= self.highest:
            return self.low if multiplier <= self.lowest else self.high
        exact = float(np.exp(np.interp(multiplier, self.multipliers, np.log(self.lmbdas))))
        shorter = (float(f"{exact:.{digits}g}") for digits in range(1, 17))
        inside = (one for one in shorter if self.low <= one <= self.high and self.multiplier(one) == multiplier)
        return next(inside, exact)

    def spread(self, count: int) -> list[float]:
        """Return so many lambdas at even distances, both ends among them; one alone lies in the middle.

        They are fewer where there are fewer multipliers.
        """
        ends = (self.lowest, self.highest) if count > 1 else ((self.lowest + self.highest) / 2,)
        places = np.linspace(ends[0], ends[-1], count).round()
        return list(dict.fromkeys(self.lmbda(int(place)) for place in places))

    def to_dict(self) -> dict[str, list[float]]:
        """Return it as JSON has it."""
        return {"multipliers": list(self.multipliers), "lambdas": list(self.lmbdas)}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> RateRange:
        """Read what `to_dict` gave.

        Raises:
            ValueError: it is something else.
        """
        rows = [content.get(name) for name in ("multipliers", "lambdas")] if isinstance(content, Mapping) else [None]
        if not all(isinstance(row, list) and all(type(one) in (int, float) for one in row) for row in rows):
            raise ValueError(f"a range must have lists of numbers, multipliers and lambdas, got {content!r}")
        multipliers, lmbdas = (tuple(map(float, row)) for row in rows)  # type: ignore[arg-type]
        return cls(multipliers, lmbdas)


def finest_within(lowest: int, highest: int, encode: Callable[[int], bytes], budget_bytes: float) -> tuple[int, bytes]:
    """Return the largest multiplier at which an image fits, with its bytes; where none fits, the lowest.

    Bytes rise with the multiplier but for a few here and there, so that halving the interval finds one that fits and is
    the last of its kind, or nearly.

    Args:
        lowest: multiplier of all that are tried.
        highest: likewise.
        encode: gives the image's bytes at a multiplier.
        budget_bytes: that they may take.
    """
    multiplier, found = highest, encode(highest)
    if len(found) <= budget_bytes or lowest == highest:
        return multiplier, found
    multiplier, found, above = lowest, encode(lowest), highest
    while len(found) <= budget_bytes and above - multiplier > 1:
        middle = (multiplier + above) // 2
        stream = encode(middle)
        if len(stream) <= budget_bytes:
            multiplier, found = middle, stream
        else:
            above = middle
    return multiplier, found
