"""The lightweight codec at its operating points, and the settings that span its curve."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from bottlenecks.baselines.features import FeatureBaseline, TensorCalibration
from bottlenecks.baselines.lightweight.activations import ActivationModel
from bottlenecks.baselines.lightweight.quantiser import Quantiser, design, uniform
from bottlenecks.baselines.lightweight.unary import AdaptiveUnary, IndexCoder, StaticTable
from bottlenecks.baselines.selection import Range, best_range, on_the_front
from bottlenecks.splitting.features import FloatArray

NUM_LEVELS = range(2, 9)
LMBDAS = (0.0, 0.1, 0.3, 0.6, 1.0, 2.0)  # in variances of the clipped features
MAX_SAMPLES = 2**18  # that a quantiser is designed on


class Lightweight(FeatureBaseline):
    """Clip, quantise to few levels, code channel by channel in raster order (arXiv 2105.06002, arXiv 2105.07102).

        features (C, H, W) -> quantiser -> indices (C H W) -> coder -> payload -> frame

    The papers send 12 bytes of side information with a tensor, among them its shape, the number of levels and the end
    of the range. Here all of that is agreed beforehand and named by a fingerprint, in the frame of six bytes that every
    codec of features in this project has. Their arithmetic coder is replaced too, as `AdaptiveUnary` describes.

    Args:
        feature_shape: (C, H, W).
        quantiser: of each element.
        coder: of the indices.
        setting: of the operating point, such as `N=4 l=0.03`.
        name: of the codec.

    Raises:
        ValueError: coder and quantiser differ in the number of levels.
    """

    name = "lightweight"

    def __init__(
        self,
        feature_shape: Sequence[int],
        quantiser: Quantiser,
        coder: IndexCoder,
        setting: str,
        name: str = "lightweight",
    ) -> None:
        if coder.num_levels != quantiser.num_levels:
            raise ValueError(f"coder and quantiser differ: {coder.num_levels} and {quantiser.num_levels} levels")
        self.name, self.setting, self.quantiser, self.coder = name, setting, quantiser, coder
        super().__init__(feature_shape, quantiser.levels, quantiser.thresholds, coder.table)

    def write(self, features: FloatArray) -> bytes:
        """Code features (C, H, W) into a payload."""
        return self.coder.encode(self.quantiser.indices(features).reshape(-1))

    def read(self, payload: bytes) -> FloatArray:
        """Decode a payload into features (C, H, W)."""
        indices = self.coder.decode(payload, int(np.prod(self.feature_shape)))
        return self.quantiser.values(indices).reshape(self.feature_shape)


def lightweight(calibration: TensorCalibration) -> list[Lightweight]:
    """Return the settings of the papers' best variant: levels designed with pinned ends, adaptive coding.

    For each N the range is that at which uniform levels disturb the rest of the network least. N and lambda that
    others beat are left out.

    Args:
        calibration: training features, and what coding them does.

    Returns:
        Codecs, from few bytes to many.
    """
    candidates = [
        Lightweight(calibration.features.shape[1:], quantiser, AdaptiveUnary(quantiser.num_levels), setting)
        for quantiser, setting in _designed(calibration)
    ]
    return on_the_front(candidates, calibration)


def lightweight_static(calibration: TensorCalibration) -> list[Lightweight]:
    """Return the settings of `lightweight` with a table of frequencies from calibration features."""
    candidates = []
    for quantiser, setting in _designed(calibration):
        indices = quantiser.indices(calibration.features)
        table = StaticTable(np.bincount(indices.reshape(-1), minlength=quantiser.num_levels))
        shape = calibration.features.shape[1:]
        candidates.append(Lightweight(shape, quantiser, table, setting, "lightweight_static"))
    return on_the_front(candidates, calibration)


def lightweight_uniform(calibration: TensorCalibration) -> list[Lightweight]:
    """Return one setting for each N: uniform levels in the range of `lightweight`, adaptive coding."""
    return _uniform(calibration, "lightweight_uniform", lambda num_levels: _empirical_range(calibration, num_levels))


def lightweight_model(calibration: TensorCalibration) -> list[Lightweight]:
    """Return one setting for each N: uniform levels in the range of the activation model, adaptive coding.

    The range needs nothing but the mean and the variance of the calibration features: neither labels nor the rest of
    the network. Features that are never negative are taken for a ReLU's, with 0 as the lower end; others for signed
    ones, from a Laplace distribution.

    Raises:
        ValueError: all features are equal.
    """
    features = calibration.features.astype(np.float64)
    mean, variance = float(features.mean()), float(features.var())
    if features.min() < 0:
        signed = ActivationModel.fit(mean, variance, alpha=1, kappa=1)
        return _uniform(calibration, "lightweight_model", signed.best_range)
    model = ActivationModel.fit(mean, variance, alpha=0)
    return _uniform(calibration, "lightweight_model", lambda num_levels: (0.0, model.best_high(num_levels)))


def _uniform(calibration: TensorCalibration, name: str, find_range: Callable[[int], Range]) -> list[Lightweight]:
    shape = calibration.features.shape[1:]
    return [
        Lightweight(
            shape, uniform(num_levels, *find_range(num_levels)), AdaptiveUnary(num_levels), f"N={num_levels}", name
        )
        for num_levels in NUM_LEVELS
    ]


def _empirical_range(calibration: TensorCalibration, num_levels: int) -> Range:
    def requantise(features: FloatArray, ends: Range) -> FloatArray:
        quantiser = uniform(num_levels, *ends)
        return quantiser.values(quantiser.indices(features))

    return best_range(calibration, requantise)


def _designed(calibration: TensorCalibration) -> Iterator[tuple[Quantiser, str]]:
    """Quantisers and their settings; lambda is in variances of the features inside of the range.

    Heavy tails make the variance of the features themselves a matter of a few elements, which are clipped: a lambda in
    units of it would leave one level of those within the range.
    """
    samples = _thinned(calibration.features)
    for num_levels in NUM_LEVELS:
        low, high = _empirical_range(calibration, num_levels)
        variance = float(np.clip(samples, low, high).var(dtype=np.float64))
        for multiple in LMBDAS:
            quantiser = design(samples, num_levels, multiple * variance, low, high)
            yield quantiser, f"N={num_levels} l={multiple:g}"


def _thinned(features: FloatArray) -> FloatArray:
    """Evenly spaced quantiles of the elements in the place of all, where they are many."""
    elements = np.sort(features, axis=None)
    step = -(-len(elements) // MAX_SAMPLES)
    return elements[step // 2 :: step]
