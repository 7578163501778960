"""What a rate is to come to, in bytes or in points lost, and which lambda that takes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.isotonic import isotonic_regression
from torch import Tensor

from bottlenecks.settings.target import HEADER_BYTES, PERCENT, Target
from bottlenecks.tasks import Task
from bottlenecks.training.frozen import FrozenBatch
from bottlenecks.training.hull import lower_hull, price
from bottlenecks.training.loss import precise
from bottlenecks.training.structure import Trial, high_rate_step

WHOLE_BYTES = 0.5  # that a payload is longer than its bits, in the mean
FIRST_LAMBDA = 0.01  # where the search begins
MOST_PLACES = 80  # halves of an octave that steps are searched in, either way
WORTHWHILE, NO_LOSS = 0.99, 1e-3  # share of the distortion that a finer step may leave; percent that count as none
NO_BITS = 1e-9  # per pixel


class PointsLost:
    """Collects what split and unsplit network decide, and says how many points lie between them.

    Args:
        task: gives the metric.
        targets: of all the images; without labels among them it is agreement that counts.
    """

    def __init__(self, task: Task, targets: Tensor) -> None:
        self.task, self.labelled = task, task.is_labelled(targets)
        self.name = task.metric_name if self.labelled else "agreement"
        self._seen: list[tuple[Tensor, Tensor]] = []

    def __call__(self, output: Any, frozen: FrozenBatch) -> None:
        """Take in the output for some images, and what the frozen network made of them."""
        own, reference = self.task.predict(precise(output)), self.task.predict(precise(frozen.teacher))
        if self.labelled:
            truth = self.task.truth(frozen.targets, reference)
            statistics = [self.task.statistics(one, truth) for one in (own, reference)]
        else:
            statistics = [self.task.agreement(one, reference)[:, None] for one in (own, reference)]
        self._seen.append((statistics[0].double().cpu(), statistics[1].double().cpu()))

    def take(self, draws: int = 0) -> tuple[float, float]:
        """Return the points lost on what was taken in since the last time, and their standard error.

        Args:
            draws: bootstrap samples of the images, for the standard error; without any it is no number.
        """
        own, reference = (torch.cat(one).numpy() for one in zip(*self._seen, strict=True))
        self._seen = []
        count = len(own)
        drawn = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), draws)
        weights = np.concatenate([np.ones((1, count)), drawn])
        score = self.task.score if self.labelled else _mean
        lost = PERCENT * (score(reference, weights) - score(own, weights))
        return float(lost[0]), float(np.nanstd(lost[1:])) if draws else math.nan


def _mean(statistics: np.ndarray, counts: np.ndarray) -> np.ndarray:
    return (counts @ statistics)[:, 0] / counts.sum(1)


class Point(NamedTuple):
    """What one step of a structure comes to, on images that it was not fitted to.

    Attributes:
        bpp: bits per pixel of the input image.
        distortion: in percent.
        value: in the target's unit.
    """

    bpp: float
    distortion: float
    value: float


def find_lambda(target: Target, trials: Sequence[Trial], lost: PointsLost) -> float:
    """Return the lambda at whose best step a target is met before training, to three digits.

    Args:
        target: what is asked for.
        trials: structures, none of them measured so far.
        lost: looks on where points are asked for.
    """
    curves = [_around(target, trial, lost) for trial in trials]
    if target.kind == "bytes":
        bpp = 8 * (target.value - HEADER_BYTES - WHOLE_BYTES) / trials[0].num_pixels
    else:
        bpp = min(map(partial(fewest_bits, target.value), curves))[1]
    return float(f"{read_off(bpp, [point for curve in curves for point in curve]):.3g}")


def fewest_bits(value: float, curve: Sequence[Point]) -> tuple[float, float]:
    """Return which value a structure comes to at its nearest to one that is asked for, and in how many bits per pixel.

    What is lost on some hundred images goes up and down by chance; a monotone function of the step is fitted to it.

    Args:
        value: points that may be lost; fewer are no better.
        curve: from fine to coarse.
    """
    fitted = isotonic_regression([point.value for point in curve])
    bits = [math.log(max(point.bpp, NO_BITS)) for point in curve]
    return max(value, float(fitted[0])), math.exp(np.interp(value, fitted, bits))


def read_off(bpp: float, points: Sequence[Point]) -> float:
    """Read the lambda that spends so many bits per pixel off the lower convex hull of rate and distortion.

    A corner of the hull is best for the lambdas between the slopes of its two sides; their geometric mean stands for
    it. Between corners the logarithm of lambda goes with that of the bits.
    """
    hull = lower_hull(sorted(point for point in points if all(map(math.isfinite, point))))
    slopes = [math.log(price(*side)) for side in pairwise(hull)]
    if not slopes:
        return FIRST_LAMBDA
    octave = math.log(2)  # lambda goes with the square of the step, of which neighbours are half an octave apart
    ends = [slopes[0] - octave, *slopes, slopes[-1] + octave]
    bits = [math.log(max(point.bpp, NO_BITS)) for point in hull]
    return math.exp(np.interp(math.log(max(bpp, NO_BITS)), bits, [(one + two) / 2 for one, two in pairwise(ends)]))


def _around(target: Target, trial: Trial, lost: PointsLost) -> list[Point]:
    """Measure a trial at steps on both sides of the target, where finer ones are worthwhile; from fine to coarse."""
    points: dict[int, Point] = {}

    def look(place: int) -> Point:
        if place not in points:
            distortion, bpp = trial.measure(place)
            num_bytes = bpp * trial.num_pixels / 8
            value = HEADER_BYTES + WHOLE_BYTES + num_bytes if target.kind == "bytes" else lost.take()[0]
            points[place] = Point(bpp, distortion, value)
        return points[place]

    first = round(2 * math.log2(0.4 * high_rate_step(FIRST_LAMBDA, trial.num_pixels)))
    place = first
    while place < first + MOST_PLACES and look(place).bpp > 0 and not target.asks_for_more(look(place).value):
        place += 1
    look(place + 1)
    place = first
    while place > first - MOST_PLACES and target.asks_for_more(look(place).value):
        before, after = look(place).distortion, look(place - 1).distortion
        if not (before > NO_LOSS and after < WORTHWHILE * before):
            break
        place -= 1
    look(place - 1)
    return [points[place] for place in sorted(points)]
