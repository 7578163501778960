"""Meets a target after training: one factor on all steps of a unit, found on the held-back images."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bottlenecks.features import Features, elements_of, like, num_pictures, tensors_of
from bottlenecks.split import SplitNetwork
from bottlenecks.tasks import Task
from bottlenecks.training.closed_form import fit_scales
from bottlenecks.training.frozen import FrozenBatch, rows_of
from bottlenecks.training.loss import RateDistortionLoss
from bottlenecks.training.metrics import RateMetrics
from bottlenecks.training.start import CHUNK
from bottlenecks.training.structure import encode
from bottlenecks.training.target import PointsLost, Target
from bottlenecks.units.base import UnitOutput
from bottlenecks.units.transform import TransformUnit

LIMIT = 4.0  # octaves that steps may become finer or coarser
FIRST_STEP = 0.25  # octaves
HALVINGS = 9
CLOSE, CLOSE_POINTS = 0.05, 0.3  # of the bytes; points that are within reach of chance
CLOSER = 0.1  # of that, where the search stops
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
    coefficients = encode(trained, tensors_of(features))
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
    chunks = zip(*(one.split(CHUNK) for one in tensors_of(features)), strict=True)
    sizes = torch.tensor([float(len(frame)) for chunk in chunks for frame in unit.compress(like(features, chunk))])
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
    device, count = next(network.parameters()).device, num_pictures(held.features)
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
    seen: dict[float, Figure] = {}

    def more(octaves: float) -> bool:
        if octaves not in seen:
            seen[octaves] = look(octaves)
        return target.asks_for_more(seen[octaves].value)

    def near(octaves: float) -> float:
        return abs(seen[octaves].value - target.value)

    way = 1 if more(0.0) else -1
    inner, outer = 0.0, way * FIRST_STEP
    if near(0.0) > CLOSER * tolerance(target, seen[0.0]):
        while more(outer) == more(0.0) and abs(outer) < LIMIT:
            inner, outer = outer, way * min(2 * abs(outer), LIMIT)
        if more(outer) != more(0.0):
            for _ in range(HALVINGS):
                middle = (inner + outer) / 2
                inner, outer = (middle, outer) if more(middle) == more(inner) else (inner, middle)
                if near(middle) <= CLOSER * tolerance(target, seen[middle]):
                    break
    best = min(seen, key=lambda octaves: (near(octaves), octaves))
    return best, seen[best]


def tolerance(target: Target, figure: Figure) -> float:
    """Return how far from its target a rate may be."""
    return CLOSE * target.value if target.kind == "bytes" else max(CLOSE_POINTS, figure.error)


def describe(target: Target, figure: Figure, octaves: float, metric: str) -> str:
    """Say what was asked for and what was reached."""
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
