"""Which clipping range, and which settings, a codec is evaluated at: decided on training images alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from bottlenecks.baselines.features import FeatureBaseline, TensorCalibration
from bottlenecks.splitting.features import FloatArray

B = TypeVar("B", bound=FeatureBaseline)
COVERAGES = (0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.9995, 1.0)  # share of the elements that are not clipped above

USEFUL = 0.5  # of the distortion of sending nothing

Range = tuple[float, float]


def candidate_ranges(features: FloatArray) -> list[Range]:
    """Return clipping ranges from narrow to all: quantiles of the elements, and 0 where none is negative.

    Percentiles rather than mean and variance, for features can be heavy-tailed: ResNet-50's on CIFAR-10 at layer3
    have 99 % below 2.3 and the largest at 752. Float32 numbers, as both sides have them.
    """
    elements = np.sort(features, axis=None)
    last = len(elements) - 1
    ranges = []
    for coverage in COVERAGES:
        high = float(elements[round(coverage * last)])
        low = 0.0 if elements[0] >= 0 else float(elements[round((1 - coverage) * last)])
        if high > low and (low, high) not in ranges:
            ranges.append((low, high))
    return ranges or [(float(elements[0]), float(elements[0]) + 1.0)]


def best_range(calibration: TensorCalibration, requantise: Callable[[FloatArray, Range], FloatArray]) -> Range:
    """Take the range at which the rest of the network is disturbed least.

    Args:
        calibration: training features, and what disturbing them does.
        requantise: clips and quantises features to a range, and reconstructs them.
    """
    ranges = candidate_ranges(calibration.features)
    distortions = [calibration.distortion(requantise(calibration.features, one)) for one in ranges]
    return ranges[int(np.argmin(distortions))]


def on_the_front(candidates: Sequence[B], calibration: TensorCalibration, most: int = 6) -> list[B]:
    """Keep the settings that no other beats in both bytes and distortion, evenly spread over the rates.

    Those that disturb the output half as much as sending nothing would are left out, unless all do.

    Args:
        candidates: of one codec.
        calibration: measures them.
        most: how many to keep.

    Returns:
        Them, from few bytes to many.
    """
    measured = calibration.measure(candidates)
    order = sorted(range(len(candidates)), key=lambda index: measured[index])
    front: list[int] = []
    for index in order:
        if not front or measured[index][1] < measured[front[-1]][1]:
            front.append(index)
    nothing = calibration.distortion(np.broadcast_to(calibration.features.mean(0), calibration.features.shape).copy())
    front = [index for index in front if measured[index][1] < USEFUL * nothing] or front
    rates = np.log([measured[index][0] for index in front])
    wanted = np.linspace(rates[0], rates[-1], most)
    kept = sorted({int(np.abs(rates - rate).argmin()) for rate in wanted})
    return [candidates[front[index]] for index in kept]
