"""Which transform, and which step: by the loss itself, through the real tail, on images it was not fitted to."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from bottlenecks.training.closed_form import (
    ChannelTransform,
    Projections,
    Sample,
    channel_transform,
    fit_decoder,
    fit_joint,
    fit_scales,
    fit_separable,
    joint_projections,
)
from bottlenecks.units.laplacian import code_bits
from bottlenecks.units.transform import TransformUnit

EVALUATED = 160  # images that a candidate is measured on
FOLDS = 4  # where there are so few images that all of them are needed to fit
MOST_DRAWS = 2048  # columns of a joint transform's metric
LARGEST_BLOCK = 16

Distort = Callable[[Sequence[Tensor], Tensor], Tensor]  # features_hat of each tensor, their images -> percent, (n,)


@dataclass(frozen=True)
class Candidate:
    """A structure that a unit could have.

    Attributes:
        structure: `separable` or `joint`.
        ranks: K of each tensor.
        blocks: sides of each tensor's blocks.
        rounding: the quantiser's offset.
    """

    structure: str
    ranks: tuple[int, ...]
    blocks: tuple[tuple[int, int], ...]
    rounding: float = 0.5

    def __str__(self) -> str:
        blocks = " and ".join(f"{height}x{width}" for height, width in self.blocks)
        ranks = " and ".join(map(str, self.ranks))
        return f"{self.structure}, {ranks} channels, blocks of {blocks}, rounding {self.rounding:g}"


@dataclass(frozen=True)
class Fit:
    """Everything that is the same for all candidates of some training images."""

    samples: Sequence[Sample]
    most_rank: int
    _projections: dict[tuple[int, tuple[int, int]], Projections] = field(default_factory=dict)

    @cached_property
    def channels(self) -> list[ChannelTransform]:
        """The channel transform of each tensor."""
        return [channel_transform(sample) for sample in self.samples]

    def projections(self, at: int, block: tuple[int, int]) -> Projections:
        """Return the joint directions of blocks of a tensor."""
        if (at, block) not in self._projections:
            sample = self.samples[at].in_blocks(block)
            self._projections[at, block] = joint_projections(sample, MOST_DRAWS, self.most_rank)
        return self._projections[at, block]

    def unit(self, candidate: Candidate, nonnegative: Sequence[bool], restorers: Sequence[int]) -> TransformUnit:
        """Make a unit with this structure and steps of 1; scales and way back are for `set_step`."""
        transforms = [
            fit_joint(self.projections(at, block), rank)
            if candidate.structure == "joint"
            else fit_separable(self.samples[at], self.channels[at], rank, block[0])
            for at, (rank, block) in enumerate(zip(candidate.ranks, candidate.blocks, strict=True))
        ]
        unit = TransformUnit(
            [
                {
                    "feature_shape": sample.features.shape[1:],
                    "structure": candidate.structure,
                    "rank": transform.coefficient_shape[0],
                    "block": block,
                    "restorer": restorer,
                    "nonnegative": own,
                    "rounding": candidate.rounding,
                }
                for sample, transform, block, own, restorer in zip(
                    self.samples, transforms, candidate.blocks, nonnegative, restorers, strict=True
                )
            ]
        )
        for part, transform, sample in zip(unit.parts, transforms, self.samples, strict=True):
            part.transform = transform
            if part.restorer is not None:
                part.restorer.normalise(sample.features.mean((0, 2, 3)), sample.features.std((0, 2, 3), correction=0))
        return unit.eval()


@torch.no_grad()
def set_step(unit: TransformUnit, features: Sequence[Tensor], coefficients: Sequence[Tensor], step: float) -> None:
    """Give a unit whose steps are 1 another step, and fit scales and way back to training images.

    Args:
        unit: as `Fit.unit` makes it.
        features: of each tensor, (N, C, H, W).
        coefficients: the same encoded at steps of 1, (N, K, h, w).
        step: factor of all steps.
    """
    for part, own, y in zip(unit.parts, features, coefficients, strict=True):
        part.transform.rescale(1 / step)
        fit_scales(part, y / step)
        fit_decoder(part, own, y / step)


class Fold(NamedTuple):
    """Training images that a candidate was fitted to, and others that it is measured on.

    Attributes:
        scratch: the unit, at whatever step it was last.
        fitted: its state with steps of 1.
        features: of each tensor, of the former images.
        coefficients: the same, encoded at steps of 1.
        images: the latter ones, by their places.
        held: their coefficients.
    """

    scratch: TransformUnit
    fitted: Mapping[str, Tensor]
    features: Sequence[Tensor]
    coefficients: Sequence[Tensor]
    images: Tensor
    held: Sequence[Tensor]

    def unit(self) -> TransformUnit:
        """Return the unit with steps of 1, until it is asked for again."""
        self.scratch.load_state_dict(self.fitted)
        return self.scratch


@dataclass(eq=False)
class Trial:
    """A candidate, fitted to some training images and measured on others.

    Attributes:
        candidate: what is tried.
        folds: what it was fitted to, and is measured on.
        distort: passes what was decoded through the tail.
        num_pixels: of the network's input.
    """

    candidate: Candidate
    folds: Sequence[Fold]
    distort: Distort
    num_pixels: int
    measured: dict[int, tuple[float, float]] = field(default_factory=dict)

    @torch.no_grad()
    def measure(self, place: int) -> tuple[float, float]:
        """Return distortion in percent and bits per pixel at a step of 2 ** (place / 2)."""
        if place not in self.measured:
            step = 2 ** (place / 2)
            totals = torch.zeros(2, dtype=torch.float64)
            for fold in self.folds:
                unit = fold.unit()
                set_step(unit, fold.features, fold.coefficients, step)
                decoded, bits = [], torch.zeros(len(fold.images))
                for part, y in zip(unit.parts, fold.held, strict=True):
                    indices = part.indices(part.own_size)
                    symbols = part.round(y / step) * (indices > 0)
                    bits += code_bits(symbols, indices).flatten(1).sum(1)
                    decoded.append(part.decode(symbols, part.own_size))
                totals += torch.stack([self.distort(decoded, fold.images).double().sum(), bits.double().sum()])
            count = sum(len(fold.images) for fold in self.folds)
            self.measured[place] = (float(totals[0]) / count, float(totals[1]) / count / self.num_pixels)
        return self.measured[place]

    def loss(self, lmbda: float, place: int) -> float:
        """Return `lmbda * distortion + bpp` there; what is no number is no choice."""
        distortion, bpp = self.measure(place)
        loss = lmbda * distortion + bpp
        return loss if math.isfinite(loss) else math.inf

    def best(self, lmbda: float) -> tuple[float, float]:
        """Walk to the step with the smallest loss; return its place, between the measured ones, and the loss."""
        place = round(2 * math.log2(0.4 * high_rate_step(lmbda, self.num_pixels)))
        if self.measured:
            place = min(self.measured, key=lambda one: (self.loss(lmbda, one), one))
        while True:
            around = {one: self.loss(lmbda, one) for one in (place - 1, place, place + 1)}
            lowest = min(around, key=lambda one: (around[one], abs(one - place)))
            if lowest == place or abs(lowest) > 80:
                break
            place = lowest
        left, middle, right = (around[place + one] for one in (-1, 0, 1))
        bend = left - 2 * middle + right
        shift = 0.5 * (left - right) / bend if math.isfinite(bend) and bend > 0 else 0.0
        return place + max(-0.5, min(0.5, shift)), middle


def high_rate_step(lmbda: float, num_pixels: int) -> float:
    """Return the step that theory gives a lambda at high rates, in the metric of percent.

    There a step s costs `lambda / 2 * s^2 / 12` a coefficient, and halving it a bit.
    """
    return math.sqrt(12 / (math.log(2) * lmbda * num_pixels))


def fold_images(count: int) -> list[tuple[Tensor, Tensor]]:
    """Divide images into pairs of those to fit to and those to measure on: all in turn where there are few."""
    order = torch.arange(count)
    if count == 1:
        return [(order, order)]
    if count >= 2 * EVALUATED:
        return [(order[: count - EVALUATED], order[count - EVALUATED :])]
    parts = [order[start::FOLDS] for start in range(min(FOLDS, count))]
    return [(torch.cat([one for one in parts if one is not part]), part) for part in parts]


def try_candidates(
    candidates: Sequence[Candidate],
    samples: Sequence[Sample],
    seen: Sequence[Tensor],
    nonnegative: Sequence[bool],
    distort: Distort,
    num_pixels: int,
    most_rank: int,
) -> list[Trial]:
    """Fit every candidate to each fold, ready to be measured at any step.

    Args:
        candidates: to be tried.
        samples: of each tensor, of the training images as they are.
        seen: features of each tensor that candidates are measured on, of these images or of a view of each: a network
            that knows its training images by heart forgives more than it will.
        nonnegative: whether each tensor's features are never negative.
        distort: passes what was decoded of such views through the tail.
        num_pixels: of the network's input.
        most_rank: directions that a joint transform may have.
    """
    folds = [
        (Fit([sample.select(fitted) for sample in samples], most_rank), measured)
        for fitted, measured in fold_images(len(seen[0]))
    ]
    trials = []
    for candidate in candidates:
        fitted = []
        for fit, measured in folds:
            unit = fit.unit(candidate, nonnegative, [0] * len(samples))
            features = [sample.features for sample in fit.samples]
            coefficients = encode(unit, features)
            held = encode(unit, [one[measured] for one in seen])
            fitted.append(Fold(unit, copy.deepcopy(unit.state_dict()), features, coefficients, measured, held))
        trials.append(Trial(candidate, fitted, distort, num_pixels))
    return trials


@torch.no_grad()
def encode(unit: TransformUnit, features: Sequence[Tensor]) -> list[Tensor]:
    """Return the coefficients of many images, a few at a time."""
    pairs = zip(unit.parts, features, strict=True)
    return [torch.cat([part.encode(one) for one in own.split(64)]) for part, own in pairs]
