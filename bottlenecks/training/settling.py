"""After training a unit of any rate: which multiplier stands for which lambda, on the held-back images."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from bottlenecks.coding.rate_range import LEAST, MOST, RateRange
from bottlenecks.processes import add_up
from bottlenecks.splitting.features import num_images
from bottlenecks.training.any_rate import Measured, find_range
from bottlenecks.training.module import LadderModule

APART, BEYOND = 10, 20  # multipliers that are measured: so far apart, and so far beyond the range


@torch.no_grad()
def settle_range(module: LadderModule, rate: int, batches: Iterable[Any], device: torch.device) -> RateRange:
    """Find the range of a trained unit anew; of several processes each looks at its share of the images.

    Args:
        module: has the unit, with the state that is kept.
        rate: number of the unit.
        batches: held-back images and targets, or what the frozen network made of them.
        device: where to run.
    """
    unit, loss = module.to(device).units[rate].eval(), module.rate_loss
    old = unit.range
    assert isinstance(old, RateRange)
    first, last = max(LEAST, old.lowest - BEYOND), min(MOST, old.highest + BEYOND)
    multipliers = torch.linspace(first, last, 1 + (last - first) // APART).round().int().tolist()
    totals = torch.zeros(len(multipliers), 3, dtype=torch.float64)
    for batch in batches:
        frozen = module.look(tree_map(lambda one: one.to(device) if isinstance(one, Tensor) else one, batch))
        for row, multiplier in zip(totals, multipliers, strict=True):
            output = unit(frozen.features, None, multiplier)
            own = loss(0.0, output.rate_bits, module.network.finish(output.features_hat), output.features_hat, frozen)
            row += torch.tensor([num_images(frozen.features), float(own.distortion.sum()), float(own.bpp.sum())])
    totals = add_up(totals.to(device, torch.float32)).cpu()
    means = (totals[:, 1:] / totals[:, :1]).tolist()
    points = [Measured(multiplier, *own) for multiplier, own in zip(multipliers, means, strict=True)]
    return find_range(points, old.low, old.high)
