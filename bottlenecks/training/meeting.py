"""Meets a target after training: one factor on all steps of a unit, found on the held-back images."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.isotonic import isotonic_regression
from torch import Tensor

from bottlenecks.settings.target import Target
from bottlenecks.shapes import elements_of
from bottlenecks.splitting.cut import SplitNetwork
from bottlenecks.splitting.features import Features, num_images
from bottlenecks.tasks import Task
from bottlenecks.training.closed_form import fit_scales
from bottlenecks.training.frozen import FrozenBatch, rows_of
from bottlenecks.training.loss import RateDistortionLoss
from bottlenecks.training.metrics import RateMetrics
from bottlenecks.training.structure import encode
from bottlenecks.training.target import PointsLost
from bottlenecks.training.through_tail import CHUNK
from bottlenecks.units.base import UnitOutput
from bottlenecks.units.transform import TransformUnit

LIMIT, LIMIT_OF_BYTES = 4.0, 8.0  # octaves that steps may become finer or coarser
FIRST_STEP, HALVINGS = 0.25, 9  # octaves
WIDE = 1.0  # octaves that are looked at either way in any case
CLOSE, CLOSE_POINTS = 0.05, 0.3  # share of the bytes, and points, that a rate may be off
CLOSER = 0.005  # share of the bytes that is near enough to stop at
DRAWS = 200


class Figure(NamedTuple):
    """What a unit comes to on the held-back images, in the target's unit.

    Attributes:
        value: the mean.
        error: its standard error.
    """

    value: float
    error: float


class Met(NamedTuple):
    """How a target was met.

    Attributes:
        unit: at the steps that come nearest, ready for bytes.
        figure: what it comes to.
        octaves: by which its steps are finer than as trained.
        text: a line for the user.
    """

    unit: TransformUnit
    figure: Figure
    octaves: float
    text: str


def meet(
    target: Target, unit: TransformUnit, features: Features, held: FrozenBatch, network: SplitNetwork, task: Task
) -> Met:
    """Scale all steps of a trained unit by one factor so that it comes as near to a target as it can.

    Scales are fitted anew to training images, sizes and the restoring network are kept.

    Args:
        target: what is asked for.
        unit: trained, on the CPU.
        features: of training images, on the CPU.
        held: what the frozen network made of the held-back images, on the CPU.
        network: whose tail decides what is lost.
        task: gives the metric.
    """
    trained = copy.deepcopy(unit)
    coefficients = encode(trained, features)
    lost = PointsLost(task, held.targets)

    def look(octaves: float) -> Figure:
        changed = finer(trained, coefficients, octaves)
        return bytes_of(changed, held.features) if target.kind == "bytes" else loss_of(changed, held, network, lost)

    octaves, figure = search(target, look)
    text = describe(target, figure, octaves, lost.name)
    return Met(finer(trained, coefficients, octaves), figure, octaves, text)


def finer(unit: TransformUnit, coefficients: list[Tensor], octaves: float) -> TransformUnit:
    """Return a unit, ready for bytes, whose steps are finer, with scales fitted to training images.

    Args:
        unit: any.
        coefficients: of each tensor of training images, at this unit's steps.
        octaves: 1 for steps of half the size; 0 leaves the scales as they are, too.
    """
    changed = copy.deepcopy(unit)
    if octaves:
        for part, y in zip(changed.parts, coefficients, strict=True):
            part.transform.rescale(2**octaves)
            fit_scales(part, y * 2**octaves)
    changed.finalise()
    return changed


def bytes_of(unit: TransformUnit, features: Features) -> Figure:
    """Take the mean of real bytes, header included."""
    chunks = zip(*(one.split(CHUNK) for one in features), strict=True)
    sizes = torch.tensor([float(len(frame)) for chunk in chunks for frame in unit.compress(chunk)])
    return Figure(float(sizes.mean()), float(sizes.std(correction=0)) / math.sqrt(len(sizes)))


def loss_of(unit: TransformUnit, held: FrozenBatch, network: SplitNetwork, lost: PointsLost) -> Figure:
    """Take the points that are lost against the unsplit network."""
    for rows, _, student in pass_through(unit, held, network):
        lost(student, rows)
    return Figure(*lost.take(DRAWS))


def figures_of(
    unit: TransformUnit, lmbda: float, held: FrozenBatch, network: SplitNetwork, loss: RateDistortionLoss
) -> dict[str, float]:
    """Take the figures that an epoch ends with, as `val/bpp`."""
    metrics = RateMetrics(loss.task, elements_of(network.feature_shape), [*loss.weights], True)
    for rows, output, student in pass_through(unit, held, network):
        losses = loss(lmbda, output.rate_bits, student, output.features_hat, rows)
        metrics.to(output.rate_bits.device).update(losses, output.rate_bits, student, rows)
    return {f"val/{name}": value for name, value in metrics.compute().items()}


@torch.no_grad()
def pass_through(
    unit: TransformUnit, held: FrozenBatch, network: SplitNetwork
) -> Iterator[tuple[FrozenBatch, UnitOutput, Any]]:
    """Pass images through unit and tail, a few at a time; yield them, and what each of the two made of them."""
    device, count = next(network.parameters()).device, num_images(held.features)
    unit = copy.deepcopy(unit).to(device)
    for start in range(0, count, CHUNK):
        rows = rows_of(held, torch.arange(start, min(start + CHUNK, count)), device)
        output = unit(rows.features)
        yield rows, output, network.finish(output.features_hat)


def search(target: Target, look: Callable[[float], Figure]) -> tuple[float, Figure]:
    """Find how many octaves finer the steps have to be.

    Args:
        target: what is asked for.
        look: gives what so many octaves come to.

    Returns:
        Octaves, and what they come to.
    """
    seen: dict[float, Figure] = {0.0: look(0.0)}
    for octaves in (_halve if target.kind == "bytes" else _scan)(target, seen):
        seen[octaves] = look(octaves)
    best = min(seen, key=lambda octaves: (abs(seen[octaves].value - target.value), octaves))
    return best, seen[best]


def _halve(target: Target, seen: Mapping[float, Figure]) -> Iterator[float]:
    """Go to both sides of a target, and halve the distance between them until it is near enough."""

    def far(octaves: float) -> bool:
        return abs(seen[octaves].value - target.value) > CLOSER * target.value

    more = target.asks_for_more(seen[0.0].value)
    inner, outer = 0.0, FIRST_STEP if more else -FIRST_STEP
    if not far(0.0):
        return
    yield outer
    while target.asks_for_more(seen[outer].value) == more:
        if abs(outer) >= LIMIT_OF_BYTES:
            return
        inner, outer = outer, 2 * outer
        yield outer
    for _ in range(HALVINGS):
        middle = (inner + outer) / 2
        yield middle
        if not far(middle):
            return
        inner, outer = (middle, outer) if target.asks_for_more(seen[middle].value) == more else (inner, middle)


def _scan(target: Target, seen: Mapping[float, Figure]) -> Iterator[float]:
    """Look at steps around, fit a monotone function to what they lose, and look where it meets the target.

    What some hundred images lose goes up and down by chance: a single look says little.
    """
    finest = coarsest = 0.0
    fitted = np.array([seen[0.0].value])
    while True:
        if abs(finest) < LIMIT and (finest < WIDE or fitted[0] > target.value):
            finest += WIDE / 2
            yield finest
        elif abs(coarsest) < LIMIT and (-coarsest < WIDE or fitted[-1] <= target.value):
            coarsest -= WIDE / 2
            yield coarsest
        else:
            break
        octaves = sorted(seen, reverse=True)
        fitted = isotonic_regression([seen[one].value for one in octaves])
    middle = float(np.interp(target.value, fitted, octaves))
    yield from (middle + apart for apart in (0.0, -WIDE / 8, WIDE / 8))


def tolerance(target: Target, figure: Figure) -> float:
    """Return how far from its target a rate may be."""
    return CLOSE * target.value if target.kind == "bytes" else max(CLOSE_POINTS, figure.error)


def describe(target: Target, figure: Figure, octaves: float, metric: str) -> str:
    """Return what was asked for and what was reached."""
    if target.kind == "bytes":
        reached = f"{figure.value:.4g} bytes an image (standard error {figure.error:.2g})"
    else:
        reached = f"{figure.value:.2f} points of {metric} lost (standard error {figure.error:.2f})"
    if abs(figure.value - target.value) <= tolerance(target, figure):
        return f"{target}: {reached} on the held-back images, with steps {2**-octaves:.3g} times those of training"
    if target.asks_for_more(figure.value):
        reason = "finer steps come no nearer; another split, more images or larger unit.max_bytes and unit.max_macs may"
    else:
        reason = "coarser steps come no nearer"
    return f"{target}: cannot be met; kept what is nearest, {reached} on the held-back images: {reason}"
