"""Transform units with random weights, some of whose coefficients are not coded."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from bottlenecks.units import TransformUnit

RANGE = {"multipliers": [-20, 28], "lambdas": [0.003, 0.03]}


def transform_unit(shapes: Sequence[Sequence[int]], structures: Sequence[str], any_rate: bool = False) -> TransformUnit:
    """Build a unit for features of these shapes, one structure each; its encoder nearly keeps their size."""
    parts = [
        {
            "feature_shape": shape,
            "structure": structure,
            "rank": min(10, shape[0]),
            "block": (8, 8) if structure == "separable" else shape[1:],
            "restorer": 0 if structure == "separable" else 16,
            "nonnegative": True,
            "rounding": 0.42,
            "hidden": 8 if structure == "joint" and not any_rate else 0,
        }
        for shape, structure in zip(shapes, structures, strict=True)
    ]
    torch.manual_seed(0)
    unit = TransformUnit(parts, RANGE if any_rate else None)
    for part in unit.parts:
        part.scales.data = torch.linspace(-20, 120, part.scales.numel()).view_as(part.scales)
        for weight in (part.transform.project.weight, part.transform.expand.weight):
            nn.init.orthogonal_(weight, gain=1 if part.structure == "separable" else 10)
        for logarithm in part.transform.logarithms():
            nn.init.uniform_(logarithm, -3, -2)
        if part.restorer is not None:
            nn.init.normal_(part.restorer.narrow.weight, std=0.1)
        if part.hidden is not None:
            nn.init.normal_(part.hidden.narrow.weight)
        if part.gains is not None:
            nn.init.uniform_(part.gains, 0.8, 1)
    unit.finalise()
    return unit
