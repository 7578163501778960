"""The layer that makes an encoder nonlinear: it draws together what the tail does not tell apart."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class HiddenLayer(nn.Module):
    """A small network on the coefficients of a joint transform, which begins as nothing.

        y -> 1x1 (K to K) ---------------------------- + -> y
          -> 1x1 (K to width) -> GELU -> 1x1 (to K) --^

    A linear encoder sends what tells images of one class apart as far as its directions tell classes apart. A layer
    between them sends which class it is.

    Args:
        rank: K, coefficients at each place.
        width: channels inside.
    """

    def __init__(self, rank: int, width: int) -> None:
        super().__init__()
        self.straight = nn.Conv2d(rank, rank, 1)
        self.widen = nn.Conv2d(rank, width, 1)
        self.narrow = nn.Conv2d(width, rank, 1)
        with torch.no_grad():
            self.straight.weight.copy_(torch.eye(rank)[:, :, None, None])
        for zeros in (self.straight.bias, self.narrow.weight, self.narrow.bias):
            nn.init.zeros_(zeros)  # type: ignore[arg-type]

    def forward(self, y: Tensor) -> Tensor:
        """Return coefficients (N, K, h, w), in quantiser steps."""
        return self.straight(y) + self.narrow(F.gelu(self.widen(y)))

    @property
    def width(self) -> int:
        """Channels inside."""
        return self.widen.out_channels
