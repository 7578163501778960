"""The two linear transforms of a transform unit: channels and frequencies apart, or all at once."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bottlenecks.shapes import Size
from bottlenecks.units.blocks import axis_transform


class LinearTransform(nn.Module, ABC):
    """Features (N, C, H, W) to coefficients in quantiser steps, and back.

    A *coefficient* is one kind of latent element: it has a step and a scale of its own wherever it occurs.

    Attributes:
        coefficient_shape: of what there is one of for each coefficient.
    """

    coefficient_shape: tuple[int, int, int]

    @abstractmethod
    def encode(self, features: Tensor) -> Tensor:
        """Return the coefficients (N, K, h, w), in quantiser steps."""

    @abstractmethod
    def decode(self, y_hat: Tensor, size: Size) -> Tensor:
        """Return features (N, C, H, W), where `size` is (H, W)."""

    @abstractmethod
    def latent_size(self, size: Sequence[int]) -> tuple[int, int]:
        """Return (h, w) of the coefficients for features of (H, W).

        Raises:
            ValueError: this transform cannot take that size.
        """

    @abstractmethod
    def feature_size(self, latent: Size) -> Size:
        """Return (H, W) of the features that have coefficients of (h, w)."""

    @abstractmethod
    def spread(self, values: Tensor, size: Size) -> Tensor:
        """Lay values, one for each coefficient, where the coefficients of features of (H, W) lie: (…, K, h, w)."""

    @abstractmethod
    def pool(self, latent: Tensor, size: Size) -> Tensor:
        """Average a latent (K, h, w) over the places of each coefficient."""

    @abstractmethod
    def rescale(self, factor: float) -> None:
        """Make every quantiser step this many times smaller."""

    @abstractmethod
    def linear_parameters(self) -> list[nn.Parameter]:
        """List the weights that are no logarithms."""

    @abstractmethod
    def logarithms(self) -> list[nn.Parameter]:
        """List the logarithms of steps and sizes, where they are apart from the weights."""


class SeparableTransform(LinearTransform):
    """A channel matrix, then the DCT of blocks of at most B x B, and one step for each channel and frequency.

        features -> 1x1 (C to K) -> block DCT, in place -> / step[channel, frequency] -> y (K, H, W)
        features_hat <- 1x1 (K to C) <- inverse DCT <- * size[channel, frequency] <- y_hat

    A symbol's size is the step or a little less. Both are kept as logarithms, so that they stay positive.

    Any height and width will do: an axis that no block divides is cut into blocks as equal as can be, and a frequency
    of a shorter block takes step and size of the nearest one of a full block.

    Args:
        channels: C.
        rank: K.
        block: B.
    """

    def __init__(self, channels: int, rank: int, block: int) -> None:
        super().__init__()
        self.block, self.coefficient_shape = block, (rank, block, block)
        self.project = nn.Conv2d(channels, rank, 1)
        self.log_step = nn.Parameter(torch.zeros(self.coefficient_shape))
        self.log_size = nn.Parameter(torch.zeros(self.coefficient_shape))
        self.expand = nn.Conv2d(rank, channels, 1)

    def encode(self, features: Tensor) -> Tensor:
        """Return the coefficients (N, K, H, W), in quantiser steps."""
        size = (features.shape[-2], features.shape[-1])
        rows, columns = self._axes(size, features)
        return rows @ self.project(features) @ columns.mT * self.spread((-self.log_step).exp(), size)

    def decode(self, y_hat: Tensor, size: Size) -> Tensor:
        """Return features (N, C, H, W), where `size` is (H, W)."""
        rows, columns = self._axes(size, y_hat)
        return self.expand(rows.mT @ (y_hat * self.spread(self.log_size.exp(), size)) @ columns)

    def latent_size(self, size: Sequence[int]) -> tuple[int, int]:
        """Return (H, W): the coefficients take the places of the features."""
        height, width = size
        return height, width

    def feature_size(self, latent: Size) -> Size:
        """Return (H, W)."""
        return latent

    def spread(self, values: Tensor, size: Size) -> Tensor:
        """Lay values (…, K, B, B) where the coefficients lie, (…, K, H, W)."""
        rows, columns = (axis_transform(length, self.block)[1].to(values.device) for length in size)
        return values[..., rows, :][..., columns]

    def pool(self, latent: Tensor, size: Size) -> Tensor:
        """Average a latent (K, H, W) over the places of each coefficient, (K, B, B); 0 where there is none."""
        rows, columns = (axis_transform(length, self.block)[1] for length in size)
        places = (rows[:, None] * self.block + columns).flatten().to(latent.device)
        total = latent.new_zeros(len(latent), self.block**2).index_add_(1, places, latent.flatten(1))
        count = torch.bincount(places, minlength=self.block**2).clamp_min(1)
        return (total / count).view(self.coefficient_shape)

    @torch.no_grad()
    def rescale(self, factor: float) -> None:
        """Make every quantiser step this many times smaller."""
        for logarithm in (self.log_step, self.log_size):
            logarithm.sub_(math.log(factor))

    def linear_parameters(self) -> list[nn.Parameter]:
        """List the channel matrices and their offsets."""
        return [*self.project.parameters(), *self.expand.parameters()]

    def logarithms(self) -> list[nn.Parameter]:
        """List steps and sizes."""
        return [self.log_step, self.log_size]

    def _axes(self, size: Size, like: Tensor) -> tuple[Tensor, Tensor]:
        rows, columns = (axis_transform(length, self.block)[0].to(like) for length in size)
        return rows, columns


class JointTransform(LinearTransform):
    """A projection of all channels and places of a block at once, whose step is in its weights.

        features -> convolution (C to K) of kernel and stride (b, d) -> y (K, H / b, W / d)
        features_hat <- transposed convolution <- y_hat, plus the mean of each channel and place

    Args:
        channels: C.
        rank: K.
        block: (b, d), height and width of a block, mostly the whole map's.
    """

    def __init__(self, channels: int, rank: int, block: Sequence[int]) -> None:
        super().__init__()
        self.block, self.coefficient_shape = (int(block[0]), int(block[1])), (rank, 1, 1)
        shape: dict[str, Any] = {"kernel_size": self.block, "stride": self.block}
        self.project = nn.Conv2d(channels, rank, **shape)
        self.expand = nn.ConvTranspose2d(rank, channels, bias=False, **shape)
        self.mean = nn.Parameter(torch.zeros(channels, *self.block))

    def encode(self, features: Tensor) -> Tensor:
        """Return the coefficients (N, K, H / b, W / d), in quantiser steps."""
        return self.project(features)

    def decode(self, y_hat: Tensor, size: Size) -> Tensor:
        """Return features (N, C, H, W), where `size` is (H, W)."""
        return self.expand(y_hat) + self.mean.repeat(1, *self.latent_size(size))

    def latent_size(self, size: Sequence[int]) -> tuple[int, int]:
        """Return (H / b, W / d).

        Raises:
            ValueError: the blocks do not fill features of that size.
        """
        height, width = size
        if height % self.block[0] or width % self.block[1] or not height or not width:
            raise ValueError(
                f"features of {(height, width)} are no whole number of this unit's blocks of {self.block}; "
                "give images of the size it was made for, or train with unit.structure=separable"
            )
        return height // self.block[0], width // self.block[1]

    def feature_size(self, latent: Size) -> Size:
        """Return (h * b, w * d)."""
        return latent[0] * self.block[0], latent[1] * self.block[1]

    def spread(self, values: Tensor, size: Size) -> Tensor:
        """Lay values (…, K, 1, 1) where the coefficients lie, (…, K, H / b, W / d)."""
        return values.expand(*values.shape[:-2], *self.latent_size(size))

    def pool(self, latent: Tensor, size: Size) -> Tensor:
        """Average a latent (K, h, w) over its places, (K, 1, 1)."""
        return latent.mean((1, 2), keepdim=True)

    @torch.no_grad()
    def rescale(self, factor: float) -> None:
        """Make every quantiser step this many times smaller."""
        for parameter in self.project.parameters():
            parameter.mul_(factor)
        self.expand.weight.div_(factor)

    def linear_parameters(self) -> list[nn.Parameter]:
        """List the weights; the steps are in them."""
        return [*self.parameters()]

    def logarithms(self) -> list[nn.Parameter]:
        """Return none."""
        return []


def make_transform(channels: int, structure: str, rank: int, block: Sequence[int]) -> LinearTransform:
    """Build a transform with fresh weights: `separable` with blocks of block[0] squared, or `joint`."""
    if structure == "joint":
        return JointTransform(channels, rank, block)
    return SeparableTransform(channels, rank, int(block[0]))
