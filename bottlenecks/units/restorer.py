"""The server's network behind the linear decoder: it restores what a linear map cannot."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bottlenecks.coding.rate_range import LEAST, MOST
from bottlenecks.units.laplacian import PARTS, RATIO
from bottlenecks.units.part import Multiplier

ROUNDING = 1e-6  # of a mean: what single precision makes of a constant
FEW_CHANNELS = 64  # up to here the outer convolutions are 3x3: they are small
APART = 32  # multipliers from one knot of `Tuning` to the next


class Tuning(nn.Module):
    """What a restoring network does otherwise at other steps: values at some multipliers, and lines between them.

    It begins with the amount that goes with the step, since what quantising loses does.

    Args:
        channels: C of the features.
        width: channels inside.
    """

    knots: Tensor

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.register_buffer("knots", torch.arange(LEAST, MOST + 2.0, APART), persistent=False)
        self.gains = nn.Parameter(torch.zeros(len(self.knots), width))
        self.bias = nn.Parameter(torch.zeros(len(self.knots), width))
        finer = math.log(RATIO) / PARTS * self.knots[:, None]
        self.amounts = nn.Parameter(-finer.repeat(1, channels))

    def forward(self, multiplier: Multiplier) -> tuple[Tensor, Tensor, Tensor]:
        """Return gains and offsets of the inner channels, and amounts of the outer ones, each (1 or N, C, 1, 1)."""
        places = torch.as_tensor(multiplier, dtype=self.knots.dtype, device=self.knots.device).reshape(-1, 1)
        shares = (1 - (places - self.knots).abs() / APART).clamp_min(0)
        gains, bias, amounts = ((shares @ own)[:, :, None, None] for own in (self.gains, self.bias, self.amounts))
        return 1 + gains, bias, amounts.exp()


class Restorer(nn.Module):
    """A residual network on features that were decoded, which begins as nothing.

        features_hat -> normalise -> convolution (C to width) -> GELU -> depthwise 3x3 -> GELU
                     -> convolution (width to C) -> + features_hat

    Args:
        channels: C of the features.
        width: channels inside.
        tuned: whether it is told the multiplier of the steps.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, channels: int, width: int, tuned: bool = False) -> None:
        super().__init__()
        kernel = 3 if channels <= FEW_CHANNELS else 1
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("deviation", torch.ones(channels))
        self.widen = nn.Conv2d(channels, width, kernel, padding=kernel // 2)
        self.mix = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.narrow = nn.Conv2d(width, channels, kernel, padding=kernel // 2)
        nn.init.zeros_(self.narrow.weight)
        nn.init.zeros_(self.narrow.bias)  # type: ignore[arg-type]
        self.tuning = Tuning(channels, width) if tuned else None

    def forward(self, features_hat: Tensor, multiplier: Multiplier = 0) -> Tensor:
        """Return features (N, C, H, W) that are nearer to what they were before they were quantised at a multiplier."""
        mean, deviation = self.mean[:, None, None], self.deviation[:, None, None]
        inner = self.widen((features_hat - mean) / deviation)
        if self.tuning is None:
            return features_hat + deviation * self.narrow(F.gelu(self.mix(F.gelu(inner))))
        gains, bias, amounts = self.tuning(multiplier)
        return features_hat + deviation * amounts * self.narrow(F.gelu(self.mix(F.gelu(gains * inner + bias))))

    @torch.no_grad()
    def normalise(self, mean: Sequence[float] | Tensor, deviation: Sequence[float] | Tensor) -> None:
        """Take mean and deviation (C,) of the features; where they are constant up to rounding, it counts as 1."""
        self.mean.copy_(torch.as_tensor(mean))
        own = torch.as_tensor(deviation).to(self.deviation)
        self.deviation.copy_(torch.where(own > ROUNDING * self.mean.abs(), own, 1.0))
