"""What a layer's output looks like, and the clipping range that a coarse quantiser of it should have."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy import optimize

Float64Array = npt.NDArray[np.float64]

_MU_STARTS = (-1.0, 0.5, -4.0, 3.0, -12.0, 10.0)  # in standard deviations of what is fitted
_FIT_TOLERANCE = 1e-8
_NUM_COARSE = 48  # points of the coarse search that the fine one starts from


@dataclass(frozen=True)
class ActivationModel:
    """An asymmetric Laplace variable through a leaky ReLU (arXiv 2105.07102).

    Before the activation, X has the density A exp(a (x - mu)) below mu and A exp(-b (x - mu)) above, where
    a = lam / kappa, b = lam kappa and A = lam / (kappa + 1 / kappa). After it, Y = X where X >= 0, else alpha X. A
    piece of X's density below 0 therefore becomes one of Y with its height and rate divided by alpha and its ends
    multiplied by it; every piece stays an exponential, and every integral below has a closed form. With alpha = 0 all
    that is below 0 gathers in a point mass at 0.

    Attributes:
        lam: rate of X.
        mu: mode of X.
        kappa: asymmetry of X; 1 is the Laplace distribution.
        alpha: slope below 0: 0.1 is Darknet's leaky ReLU, 0 is ReLU, 1 is no activation.

    Raises:
        ValueError: one is not finite or out of range; the message names the rule.
    """

    lam: float
    mu: float
    kappa: float = 0.5
    alpha: float = 0.1

    def __post_init__(self) -> None:
        for name in ("lam", "kappa"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be finite and above 0, got {getattr(self, name)}")
        if not math.isfinite(self.mu):
            raise ValueError(f"mu must be finite, got {self.mu}")
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha must lie in 0..1, got {self.alpha}")

    @classmethod
    def fit(cls, mean: float, variance: float, alpha: float = 0.1, kappa: float = 0.5) -> ActivationModel:
        """Find the model with this mean and variance of Y, for a given asymmetry.

        Two equations in log lam and mu, solved for Y divided by its standard deviation.

        Args:
            mean: of the layer's output.
            variance: of the layer's output.
            alpha: slope of the activation below 0.
            kappa: asymmetry; the range depends on it little, and the papers keep it at 0.5.

        Raises:
            ValueError: an argument is out of range, or no model has these moments.
        """
        if not (math.isfinite(mean) and 0 < variance < math.inf):
            raise ValueError(f"mean must be finite and variance above 0 and finite, got {mean} and {variance}")
        cls(1.0, 0.0, kappa, alpha)
        if alpha == 0 and mean <= 0:
            raise ValueError(f"mean must be above 0 where alpha is 0, got {mean}")
        std = math.sqrt(variance)
        for start in _starts(mean / std, kappa, alpha):
            lam, mu = _solve(mean / std, start, kappa, alpha)
            if math.isfinite(lam * mu):
                return cls(lam / std, mu * std, kappa, alpha)
        raise ValueError(f"no fit with alpha={alpha}, kappa={kappa} to mean {mean} and variance {variance} converged")

    @property
    def decay(self) -> float:
        """Rate b = lam kappa of the upper tail."""
        return self.lam * self.kappa

    @cached_property
    def pieces(self) -> Float64Array:
        """Density of Y: rows (height, rate, origin, start, end) for height exp(rate (y - origin)) on [start, end)."""
        return np.array(list(self._pieces()))

    @cached_property
    def mass_at_zero(self) -> float:
        """Probability of exactly 0: P(X < 0) for ReLU, else 0."""
        return 1.0 - self._moment(0) if self.alpha == 0 else 0.0

    @cached_property
    def mean(self) -> float:
        """Mean of Y."""
        return self._moment(1)

    @cached_property
    def variance(self) -> float:
        """Variance of Y."""
        return self._moment(2, self.mean)

    def density(self, values: npt.ArrayLike) -> Float64Array:
        """Return the density of Y at some values, without the point mass at 0."""
        y = np.asarray(values, dtype=np.float64)
        density = np.zeros_like(y)
        for height, rate, origin, start, end in self.pieces:
            inside = (start <= y) & (y < end)
            density[inside] = height * np.exp(rate * (y[inside] - origin))
        return density

    def error(self, low: float, high: float, num_levels: int) -> float:
        """Return the mean squared error of clipping to a range and rounding to levels from end to end of it.

        Levels are r_i = low + i (high - low) / (num_levels - 1) and thresholds their midpoints. As r_0 is low, clipping
        from below and rounding to low are one error, (y - r_0)^2, from minus infinity to the first threshold; so too
        above. Each cell adds, for each piece of the density that it meets, the integral of (y - r)^2 K exp(s (y - o)),
        an antiderivative of which is K exp(s (y - o)) ((y - r)^2 / s - 2 (y - r) / s^2 + 2 / s^3).

        Args:
            low: first level.
            high: last level.
            num_levels: how many.

        Raises:
            ValueError: there are fewer than 2, or low is not below high.
        """
        if num_levels < 2 or not low < high:
            raise ValueError(f"num_levels must be 2 or more and low below high, got {num_levels}, {low} and {high}")
        levels = np.linspace(low, high, num_levels)
        edges = np.concatenate(([-np.inf], (levels[1:] + levels[:-1]) / 2, [np.inf]))
        at_zero = levels[np.searchsorted(edges[1:-1], 0.0, side="right")]
        return float(_integrals(self.pieces, edges, levels, 2).sum() + self.mass_at_zero * at_zero**2)

    def best_high(self, num_levels: int, low: float = 0.0) -> float:
        """Find the upper end of the range with the least error, for a given lower end.

        Raises:
            ValueError: there are fewer than 2 levels, or low is not finite.
        """
        if not math.isfinite(low):
            raise ValueError(f"low must be finite, got {low}")
        top = max(self.mu, low, 0.0) + (2 + shortcut(num_levels)) / self.decay
        step = (top - low) / _NUM_COARSE
        best = int(np.argmin([self.error(low, low + (i + 1) * step, num_levels) for i in range(_NUM_COARSE)]))
        bounds = (low + max(best, 1e-6) * step, low + (best + 2) * step)
        options = {"xatol": 1e-8 * step}
        found = optimize.minimize_scalar(
            lambda high: self.error(low, high, num_levels), bounds=bounds, method="bounded", options=options
        )
        return float(found.x)

    def best_range(self, num_levels: int) -> tuple[float, float]:
        """Find both ends of the range with the least error.

        Raises:
            ValueError: there are fewer than 2 levels.
        """
        spread = math.sqrt(self.variance)
        low = self.mean - spread if self.alpha == 1 else 0.0
        start = (low, self.best_high(num_levels, low))

        def error(ends: Float64Array) -> float:
            return self.error(ends[0], ends[1], num_levels) if ends[0] < ends[1] else math.inf

        options = {"xatol": 1e-7 * spread, "fatol": 1e-12 * self.variance, "maxiter": 1000}
        found = optimize.minimize(error, start, method="Nelder-Mead", options=options)
        return float(found.x[0]), float(found.x[1])

    def _pieces(self) -> Iterator[tuple[float, float, float, float, float]]:
        height = self.lam / (self.kappa + 1 / self.kappa)
        for rate, start, end in ((self.lam / self.kappa, -np.inf, self.mu), (-self.decay, self.mu, np.inf)):
            if start < 0 and self.alpha > 0:
                slope = self.alpha
                yield height / slope, rate / slope, self.mu * slope, start * slope, min(end, 0.0) * slope
            if end > 0:
                yield height, rate, self.mu, max(start, 0.0), end

    def _moment(self, order: int, centre: float = 0.0) -> float:
        everything = np.array([-np.inf, np.inf])
        moment = float(_integrals(self.pieces, everything, np.array([centre]), order).sum())
        return moment if order == 0 else moment + self.mass_at_zero * (-centre) ** order


def shortcut(num_levels: int) -> float:
    """Return r_N of the best range [0, r_N / b] where mu <= 0 and the lower end is 0.

    Then the density is one exponential above 0, and what is below half a step has one level, whatever the range: with
    the step u / b, the derivative of the error vanishes where (N - 1) exp(-(N - 1) u + u / 2) (1 - u / 2) =
    (u cosh(u / 2) - 2 sinh(u / 2)) (exp(-u) + 2 exp(-2 u) + ... + (N - 2) exp(-(N - 2) u)), for one u in (0, 2]. The
    end of the range follows from b alone; for ReLU, b = 2 E[Y] / E[Y^2], with nothing to fit.

    Args:
        num_levels: N.

    Returns:
        r_N = (N - 1) u.

    Raises:
        ValueError: N is below 2.
    """
    if num_levels < 2:
        raise ValueError(f"num_levels must be 2 or more, got {num_levels}")
    inner = np.arange(1, num_levels - 1)

    def slope(u: float) -> float:
        below = (u * math.cosh(u / 2) - 2 * math.sinh(u / 2)) * float((inner * np.exp(-inner * u)).sum())
        return (num_levels - 1) * math.exp(-(num_levels - 1.5) * u) * (1 - u / 2) - below

    return (num_levels - 1) * float(optimize.brentq(slope, 1e-6, 2.0, xtol=1e-12))


def _starts(mean: float, kappa: float, alpha: float) -> Iterator[tuple[float, float]]:
    """Log lam and mu for a variance of 1: some around 0, then as if all were above it, or all below."""
    if alpha == 0:  # exact where mu is not above 0, for then b = 2 E[Y] / E[Y^2] and E[Y] = A exp(b mu) / b^2
        decay = 2 * mean / (1 + mean**2)
        yield math.log(decay / kappa), math.log(mean * decay * (1 + kappa**2)) / decay
    yield from ((0.0, mu) for mu in _MU_STARTS)
    yield 0.0, mean
    if alpha > 0:
        yield math.log(alpha), mean / alpha


def _solve(mean: float, start: tuple[float, float], kappa: float, alpha: float) -> tuple[float, float]:
    """Lam and mu for this mean and a variance of 1, from one start; not numbers where it does not converge."""

    def residual(unknowns: Float64Array) -> tuple[float, float]:
        model = ActivationModel(math.exp(min(max(unknowns[0], -60.0), 60.0)), unknowns[1], kappa, alpha)
        return model.mean - mean, model.variance - 1.0

    found, info, *_ = optimize.fsolve(residual, start, full_output=True)
    if not (np.abs(info["fvec"]) <= (_FIT_TOLERANCE * max(1.0, abs(mean)), _FIT_TOLERANCE)).all():
        return math.nan, math.nan
    return math.exp(found[0]), float(found[1])


def _integrals(pieces: Float64Array, edges: Float64Array, levels: Float64Array, order: int) -> Float64Array:
    """Integral over each cell of (y - level)^order times the density, shape (cells,)."""
    height, rate, origin, start, end = (column[:, None] for column in pieces.T)
    lower, upper = np.clip(edges[:-1], start, end), np.clip(edges[1:], start, end)

    def antiderivative(y: Float64Array) -> Float64Array:
        finite = np.isfinite(y)  # at an infinite end the exponential has vanished
        y = np.where(finite, y, origin)
        distance = y - levels
        terms = (1, distance - 1 / rate, distance**2 - 2 * distance / rate + 2 / rate**2)
        return finite * height / rate * np.exp(rate * (y - origin)) * terms[order]

    return (antiderivative(upper) - antiderivative(lower)).sum(0)
