"""The server's network behind the linear decoder: it restores what a linear map cannot."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ROUNDING = 1e-6  # of a mean: what single precision makes of a constant
FEW_CHANNELS = 64  # up to here the outer convolutions are 3x3: they are small


class Restorer(nn.Module):
    """A residual network on features that were decoded, which begins as nothing.

        features_hat -> normalise -> convolution (C to width) -> GELU -> depthwise 3x3 -> GELU
                     -> convolution (width to C) -> + features_hat

    Args:
        channels: C of the features.
        width: channels inside.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        kernel = 3 if channels <= FEW_CHANNELS else 1
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("deviation", torch.ones(channels))
        self.widen = nn.Conv2d(channels, width, kernel, padding=kernel // 2)
        self.mix = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.narrow = nn.Conv2d(width, channels, kernel, padding=kernel // 2)
        nn.init.zeros_(self.narrow.weight)
        nn.init.zeros_(self.narrow.bias)  # type: ignore[arg-type]

    def forward(self, features_hat: Tensor) -> Tensor:
        """Return features (N, C, H, W) that are nearer to what they were."""
        mean, deviation = self.mean[:, None, None], self.deviation[:, None, None]
        inner = F.gelu(self.mix(F.gelu(self.widen((features_hat - mean) / deviation))))
        return features_hat + deviation * self.narrow(inner)

    @torch.no_grad()
    def normalise(self, mean: Sequence[float] | Tensor, deviation: Sequence[float] | Tensor) -> None:
        """Take mean and deviation (C,) of the features; where they are constant up to rounding, it counts as 1."""
        self.mean.copy_(torch.as_tensor(mean))
        own = torch.as_tensor(deviation).to(self.deviation)
        self.deviation.copy_(torch.where(own > ROUNDING * self.mean.abs(), own, 1.0))
