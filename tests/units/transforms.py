"""Transform units as training begins them: the closed form of a sample, with draws of a made-up score."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bottlenecks.training.closed_form import Sample
from bottlenecks.training.seeds import generator_for
from bottlenecks.training.structure import Candidate, Fit, encode, set_step
from bottlenecks.units import TransformUnit


def samples_of(features: Sequence[Tensor], num_draws: int = 2) -> list[Sample]:
    """Put draws beside features (N, C, H, W) of each tensor: some channels and places count more than others."""
    samples = []
    for at, own in enumerate(features):
        generator = generator_for("draws", at)
        weight = torch.rand(own.shape[1:], generator=generator).exp() / own.std()
        draws = weight * torch.randn(num_draws, *own.shape, generator=generator)
        samples.append(Sample(own, draws, 0.0))
    return samples


def begin(
    features: Sequence[Tensor],
    structure: str,
    block: tuple[int, int],
    rank: int = 6,
    restorer: int = 0,
    nonnegative: bool = True,
    rounding: float = 0.45,
    step: float = 4.0,
) -> TransformUnit:
    """Begin a unit from features (N, C, H, W) of each tensor, in closed form."""
    count = len(features)
    candidate = Candidate(structure, (rank,) * count, (block,) * count, rounding)
    unit = Fit(samples_of(features), rank).unit(candidate, [nonnegative] * count, [restorer] * count)
    set_step(unit, features, encode(unit, features), step)
    for part in unit.parts:
        if part.restorer is not None:  # as if it had learned something
            torch.nn.init.normal_(part.restorer.narrow.weight, std=0.1)
    return unit
