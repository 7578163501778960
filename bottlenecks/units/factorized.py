"""The default unit: depthwise and pointwise convolutions around a factorized prior."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from bottlenecks.coder import SymbolTables
from bottlenecks.entropy import FactorizedPrior
from bottlenecks.errors import UsageError
from bottlenecks.units.base import BottleneckUnit


class FactorizedUnit(BottleneckUnit):
    """Depthwise strided and pointwise convolution, factorized prior, and the mirror image.

        features (C, H, W) -> depthwise k x k / s -> BatchNorm [-> ReLU] -> 1x1 -> y (K, ceil(H/s), ceil(W/s))
        features_hat <- [ReLU <-] BatchNorm <- depthwise transposed k x k / s <- [ReLU <-] BatchNorm <- 1x1 <- y_hat

    After the units of Datta, Ahuja et al., "A Low-Complexity Approach to Rate-Distortion Optimized Variable Bit-Rate
    Compression for Split DNN Computing", ICPR 2022. Departs from them: the latent is neither normalised nor
    rectified, the quantiser's step is 1 (the encoder learns the scale), the entropy model learns one density per
    channel, every H and W is restored exactly, and the last ReLU is there only where the features are non-negative.

    Args:
        feature_shape: (C, H, W) of the features at the cut.
        latent_channels: K.
        stride: s, the latent is this many times smaller in each direction.
        kernel_size: k of the depthwise convolutions, odd and at least s.
        nonnegative: whether the features at the cut are never negative.
        activation: `relu` inside encoder and decoder, or `none`: both stay linear but for the end.
        init_scale: width of the entropy model's initial density, in quantiser steps.
    """

    def __init__(
        self,
        feature_shape: Sequence[int],
        latent_channels: int = 64,
        stride: int = 2,
        kernel_size: int = 3,
        nonnegative: bool = True,
        activation: str = "none",
        init_scale: float = 10.0,
    ) -> None:
        super().__init__(feature_shape)
        _check(latent_channels, stride, kernel_size, activation)
        channels = self.feature_shape[0]
        self.latent_channels, self.stride, self.kernel_size = latent_channels, stride, kernel_size
        self.nonnegative, self.activation, self.init_scale = nonnegative, activation, init_scale
        depthwise: dict[str, Any] = {
            "kernel_size": kernel_size,
            "stride": stride,
            "padding": kernel_size // 2,
            "groups": channels,
            "bias": False,
        }
        self.down = nn.Conv2d(channels, channels, **depthwise)
        self.down_norm = nn.BatchNorm2d(channels)
        self.project = nn.Conv2d(channels, latent_channels, 1)
        self.entropy = FactorizedPrior(latent_channels, init_scale)
        self.expand = nn.Conv2d(latent_channels, channels, 1, bias=False)
        self.expand_norm = nn.BatchNorm2d(channels)
        self.up = nn.ConvTranspose2d(channels, channels, **depthwise)
        self.up_norm = nn.BatchNorm2d(channels)
        self.inner = nn.ReLU() if activation == "relu" else nn.Identity()
        self.outer = nn.ReLU() if nonnegative else nn.Identity()

    def config(self) -> dict[str, Any]:
        """Give the constructor's arguments, JSON-able."""
        return {
            "feature_shape": list(self.feature_shape),
            "latent_channels": self.latent_channels,
            "stride": self.stride,
            "kernel_size": self.kernel_size,
            "nonnegative": self.nonnegative,
            "activation": self.activation,
            "init_scale": self.init_scale,
        }

    def encode(self, features: Tensor) -> Tensor:
        """Turn features (N, C, H, W) into a latent (N, K, ceil(H/s), ceil(W/s))."""
        return self.project(self.inner(self.down_norm(self.down(features))))

    def quantise(self, y: Tensor, generator: Generator | None = None) -> tuple[Tensor, Tensor]:
        """Turn a latent into `y_hat` and bits (N,) with the factorized prior."""
        return self.entropy(y, generator)

    def decode(self, y_hat: Tensor, size: Sequence[int]) -> Tensor:
        """Turn `y_hat` (N, K, h, w) into features (N, C, H, W), where `size` is (H, W)."""
        wide = self.inner(self.expand_norm(self.expand(y_hat)))
        return self.outer(self.up_norm(self.up(wide, output_size=list(size))))

    @torch.no_grad()
    def start_from(self, features: Tensor) -> None:
        """Begin as a linear transform coder: low-pass, principal components, and their inverse.

        The depthwise convolutions average the stride's window and repeat its mean, the pointwise ones project on
        the features' first K principal components and back, and every BatchNorm begins as what it would measure.

        Args:
            features: a sample of what the head gives, (N, C, H, W).
        """
        low_pass, repeat = (window(self.kernel_size, self.stride, total) for total in (1, self.stride**2))
        self.down.weight.copy_(low_pass.expand_as(self.down.weight))
        coarse = self.down(features)
        mean, basis = principal_components(coarse, self.latent_channels)
        pass_through(self.down_norm, mean, coarse.var((0, 2, 3)), offset=torch.zeros_like(mean))
        self.project.weight.copy_(basis.T[:, :, None, None])
        nn.init.zeros_(self.project.bias)  # type: ignore[arg-type]
        self.expand.weight.copy_(basis[:, :, None, None])
        variances = torch.einsum("nchw,ck->nkhw", coarse - mean[:, None, None], basis).var((0, 2, 3))
        pass_through(self.expand_norm, torch.zeros_like(mean), basis.square() @ variances, offset=mean)
        self.up.weight.copy_(repeat.expand_as(self.up.weight))
        pass_through(self.up_norm, mean, coarse.var((0, 2, 3)), offset=mean)

    def latent_size(self, size: Sequence[int]) -> tuple[int, int]:
        """Give (ceil(H/s), ceil(W/s))."""
        height, width = size
        return -(-height // self.stride), -(-width // self.stride)

    @property
    def medians(self) -> Tensor:
        """Origin of the quantiser's grid, (K, 1, 1)."""
        return self.entropy.medians

    def refresh(self) -> None:
        """Bring medians and tails up to date with the density."""
        self.entropy.refresh()

    def build_tables(self) -> SymbolTables:
        """Derive the integer tables from the density."""
        return self.entropy.tables()


def window(kernel_size: int, stride: int, total: float) -> Tensor:
    """Make a depthwise kernel (1, 1, k, k) that is even over the stride's window, with a given sum.

    The window begins at the kernel's centre, which is where a convolution padded by k // 2 begins. It is cut off
    where the kernel ends before it does, and keeps its sum.
    """
    centre = kernel_size // 2
    kernel = torch.zeros(1, 1, kernel_size, kernel_size)
    inside = kernel[..., centre : centre + stride, centre : centre + stride]
    inside.fill_(total / inside.numel())
    return kernel


def principal_components(features: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Find the directions of largest variance over pictures and positions, by randomised subspace iteration.

    Args:
        features: (N, C, h, w).
        count: how many; those beyond C are zero.

    Returns:
        The mean (C,), and an orthonormal basis (C, count) by falling variance.
    """
    rows = features.transpose(0, 1).flatten(1)
    mean = rows.mean(1)
    rank = min(count, *rows.shape)
    basis = torch.svd_lowrank(rows - mean[:, None], q=min(rank + 8, *rows.shape), niter=4)[0][:, :rank]
    return mean, F.pad(basis, (0, count - rank))


def pass_through(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor, offset: Tensor) -> None:
    """Let a BatchNorm hold statistics that it has not measured, and give `x - mean + offset`; each is (C,)."""
    assert norm.running_mean is not None and norm.running_var is not None
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance)
    norm.weight.copy_((variance + norm.eps).sqrt())
    norm.bias.copy_(offset)


def _check(latent_channels: int, stride: int, kernel_size: int, activation: str) -> None:
    if latent_channels < 1:
        raise UsageError(f"unit.latent_channels={latent_channels}: expected at least 1")
    if stride < 1:
        raise UsageError(f"unit.stride={stride}: expected at least 1")
    if kernel_size % 2 == 0 or kernel_size < stride:
        raise UsageError(
            f"unit.kernel_size={kernel_size}: expected an odd number of at least unit.stride={stride}, "
            "so that every position of the features is seen"
        )
    if activation not in ("relu", "none"):
        raise UsageError(f"unit.activation={activation}: expected relu or none")
