"""Quantisers of few levels: uniform, or designed for a rate and a distortion from samples."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

Rate = Literal["entropy", "unary"]

FloatArray = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]
IndexArray = npt.NDArray[np.uint8]

MAX_LEVELS = 256
_TOLERANCE = 1e-6  # relative decrease at which a design has settled
_LEAST_SHARE = 1e-9  # an empty cell's, for the length of its codeword


@dataclass(frozen=True, eq=False)
class Quantiser:
    """Levels and the thresholds between them, as both sides have them; the decoder needs the levels alone.

    The arrays are kept as read-only float32 copies.

    Attributes:
        levels: what indices are reconstructed to, ascending, of shape (N,), 2 to 256 of them.
        thresholds: an element's index is the number of thresholds that it reaches, of shape (N - 1,), not descending;
            an infinite one at an end keeps a level from use.

    Raises:
        ValueError: a shape or order breaks these rules.
    """

    levels: FloatArray
    thresholds: FloatArray

    def __post_init__(self) -> None:
        for name in ("levels", "thresholds"):
            array = np.array(getattr(self, name), dtype=np.float32, order="C")
            if array.ndim != 1:
                raise ValueError(f"{name} must be 1-D, got shape {array.shape}")
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        levels, thresholds = self.levels, self.thresholds
        if not 2 <= len(levels) <= MAX_LEVELS or len(thresholds) != len(levels) - 1:
            raise ValueError(
                f"there must be 2 to {MAX_LEVELS} levels and one threshold fewer, got {len(levels)} "
                f"and {len(thresholds)}"
            )
        if not np.isfinite(levels).all() or np.isnan(thresholds).any():
            raise ValueError(f"levels must be finite and thresholds numbers, got {levels} and {thresholds}")
        if not (levels[1:] > levels[:-1]).all() or not (thresholds[1:] >= thresholds[:-1]).all():
            raise ValueError(f"levels and thresholds must ascend in float32, got {levels} and {thresholds}")

    @property
    def num_levels(self) -> int:
        """Number of levels N."""
        return len(self.levels)

    def indices(self, x: FloatArray) -> IndexArray:
        """Return the index of each element, in the shape of `x`."""
        indices = np.zeros(x.shape, dtype=np.uint8)
        for threshold in self.thresholds:
            indices += x >= threshold
        return indices

    def values(self, indices: npt.NDArray[np.integer]) -> FloatArray:
        """Reconstruct, in the shape of `indices`."""
        return self.levels[indices]


def uniform(num_levels: int, low: float, high: float) -> Quantiser:
    """Make the uniform quantiser of the papers: its outermost levels are the ends of the range.

    It is floor((clip(x) - low) / (high - low) * (N - 1) + 0.5): thresholds are midpoints and go upwards.

    Args:
        num_levels: N.
        low: first level.
        high: last level.

    Raises:
        ValueError: N is out of range, or low is not below high by N float32 numbers.
    """
    levels = _even(num_levels, low, high)
    return Quantiser(levels.astype(np.float32), ((levels[1:] + levels[:-1]) / 2).astype(np.float32))


def design(
    samples: FloatArray,
    num_levels: int,
    lmbda: float,
    low: float,
    high: float,
    pinned: bool = True,
    rate: Rate = "entropy",
    max_steps: int = 200,
) -> Quantiser:
    """Design a quantiser with a small mean of (x - r)^2 + lmbda b, where x is clipped and b an index's bits.

    The entropy-constrained design of Chou, Lookabaugh and Gray, in turns: codeword lengths b_i = -log2 p_i follow from
    the shares p_i of the cells; thresholds from levels and lengths, for two neighbours cost the same where
    (x - r_i)^2 + lmbda b_i = (x - r_{i+1})^2 + lmbda b_{i+1}, that is at

        t_i = (r_i + r_{i+1}) / 2 + lmbda (b_{i+1} - b_i) / (2 (r_{i+1} - r_i));

    levels from thresholds, as the mean of their cell. No turn raises the cost. A level whose cell is empty is dropped.

    The modification (arXiv 2105.07102) pins the outermost levels to the ends of the range. As clipping has moved the
    tail onto the ends, the mean of the last cell lies below that of what was there before clipping: levels that follow
    it have the lower error against the clipped elements but, for activations with long tails, the higher one against
    the elements themselves.

    Truncated unary with an ideal arithmetic coder, one context a bin, costs -log2 p_i by the chain rule, so `entropy`
    is its rate; `unary` counts its bins, as without an arithmetic coder.

    Args:
        samples: of any shape, such as calibration features.
        num_levels: N; fewer may be left.
        lmbda: bits weigh this much, in squared units of the samples; 0 minimises the distortion.
        low: first level.
        high: last level.
        pinned: whether the outermost levels stay where they are; else all follow their cells.
        rate: which bits.
        max_steps: most turns; fewer where the cost has settled.

    Raises:
        ValueError: an argument is out of range; the message names the rule.
    """
    _check_design(samples, lmbda, rate)
    levels = _even(num_levels, low, high)
    state = _Design(np.clip(samples, levels[0], levels[-1]), levels, lmbda, pinned, rate)
    cost = math.inf
    for _ in range(max_steps):
        previous, cost = cost, state.step()
        if previous - cost <= _TOLERANCE * cost:
            break
    return state.quantiser()


class _Design:
    """Levels, counts and thresholds on their way; sorted samples with prefix sums make a turn a few look-ups."""

    def __init__(self, clipped: FloatArray, levels: Float64Array, lmbda: float, pinned: bool, rate: Rate) -> None:
        self.x = np.sort(clipped, axis=None)
        self.prefix = np.zeros((3, len(self.x) + 1))  # of x^0, x and x^2
        for power, row in enumerate(self.prefix):
            np.cumsum(self.x.astype(np.float64) ** power, out=row[1:])
        self.lmbda, self.pinned, self.rate = lmbda, pinned, rate
        self.levels, self.ends = levels.copy(), levels[[0, -1]]
        self.thresholds = (levels[1:] + levels[:-1]) / 2
        self.counts = np.diff(self.prefix[0, self._edges()])
        self._place_thresholds()

    def step(self) -> float:
        """Do one turn; the cost is that of the thresholds with the levels and lengths they were placed for."""
        edges = self._edges()
        counts, sums, squares = np.diff(self.prefix[:, edges], axis=1)
        distortion = (squares - 2 * self.levels * sums + self.levels**2 * counts).sum()
        cost = float(distortion + self.lmbda * (self._bits() * counts).sum()) / len(self.x)
        used = counts > 0
        first, last = self.x[edges[:-1][used]], self.x[edges[1:][used] - 1]
        self.levels[used] = np.clip(sums[used] / counts[used], first, last)  # rounding leaves no cell
        for end in (0, -1):
            if self.pinned or not used[end]:
                self.levels[end] = self.ends[end]
        self.counts = counts
        self._place_thresholds()
        return cost

    def quantiser(self) -> Quantiser:
        """Return what there is; as elements will not have been clipped, a threshold beyond an end becomes infinite."""
        low, high = self.ends
        thresholds = np.where(self.thresholds > low, self.thresholds, -np.inf)
        thresholds[thresholds > high] = np.inf
        return Quantiser(self.levels.astype(np.float32), thresholds.astype(np.float32))

    def _edges(self) -> npt.NDArray[np.intp]:
        """Where cells begin and end among the sorted samples, (N + 1,)."""
        return np.concatenate(([0], np.searchsorted(self.x, self.thresholds, side="left"), [len(self.x)]))

    def _bits(self) -> Float64Array:
        if self.rate == "entropy":
            return -np.log2(np.maximum(self.counts / len(self.x), _LEAST_SHARE))
        return np.minimum(np.arange(1.0, len(self.levels) + 1), len(self.levels) - 1)

    def _place_thresholds(self) -> None:
        """Drop what is empty or as low or high as an end, then what no element would choose at any value."""
        rounded = self.levels.astype(np.float32)
        self._keep((self.counts > 0) & (rounded > rounded[0]) & (rounded < rounded[-1]))
        while True:
            steps, longer = np.diff(self.levels), np.diff(self._bits())
            self.thresholds = (self.levels[1:] + self.levels[:-1]) / 2 + self.lmbda * longer / (2 * steps)
            backward = np.flatnonzero(np.diff(self.thresholds) <= 0)
            if not len(backward):
                return
            self._keep(np.arange(len(self.levels)) != backward[0] + 1)

    def _keep(self, kept: npt.NDArray[np.bool_]) -> None:
        kept[[0, -1]] = True
        self.levels, self.counts = self.levels[kept], self.counts[kept]


def _even(num_levels: int, low: float, high: float) -> Float64Array:
    if not 2 <= num_levels <= MAX_LEVELS:
        raise ValueError(f"num_levels must lie in 2..{MAX_LEVELS}, got {num_levels}")
    if not (math.isfinite(low) and math.isfinite(high) and np.float32(low) < np.float32(high)):
        raise ValueError(f"low must be below high, both finite in float32, got {low} and {high}")
    return np.linspace(np.float32(low), np.float32(high), num_levels, dtype=np.float64)


def _check_design(samples: FloatArray, lmbda: float, rate: str) -> None:
    if not samples.size or not np.isfinite(samples).all():
        raise ValueError(f"samples must be finite and not empty, got shape {samples.shape}")
    if not 0 <= lmbda < math.inf:
        raise ValueError(f"lmbda must be 0 or more and finite, got {lmbda}")
    if rate not in get_args(Rate):
        raise ValueError(f"rate must be one of {', '.join(get_args(Rate))}, got {rate!r}")
