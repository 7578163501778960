"""A trained unit's tables, fitted to other features than those it was trained on."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor

from bottlenecks.training.any_rate import FITTED, fit_scales_over
from bottlenecks.training.closed_form import fit_scales
from bottlenecks.training.structure import encode
from bottlenecks.units import Bottleneck, TransformUnit
from bottlenecks.units.transform_part import TransformPart


@torch.no_grad()
def refit_tables(unit: Bottleneck, features: Sequence[Tensor]) -> Bottleneck:
    """Return a unit whose coefficients have the tables that code these features in the fewest bits.

    What is coded remains so: few images do not show every coefficient at work. Units of other architectures than the
    default one stay as they are.

    Args:
        unit: ready for bytes.
        features: of each tensor that crosses, (N, C, H, W).
    """
    if not isinstance(unit, TransformUnit):
        return unit
    refitted = copy.deepcopy(unit)
    for part, y in zip(refitted.parts, encode(refitted, features), strict=True):
        former = part.scales.clone()
        ends = (0, 0) if unit.range is None else (unit.range.lowest, unit.range.highest)
        coded = _coded(part, ends)
        if unit.range is None:
            fit_scales(part, y)
        else:
            fit_scales_over(part, y, torch.linspace(*ends, FITTED).round().int().tolist())
        changes = (coded == _coded(part, ends)).all(0)
        part.scales.copy_(torch.where(changes, part.scales, former))
    refitted.finalise()
    return refitted


def _coded(part: TransformPart, multipliers: Sequence[int]) -> Tensor:
    """Return which coefficients are coded at each of some multipliers."""
    return torch.stack([part.numbers(one) > 0 for one in multipliers])
