"""The default unit: depthwise and pointwise convolutions around a factorized prior."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Generator, Tensor, nn

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
        activation: `relu` inside encoder and decoder, or `none`.
        init_scale: width of the entropy model's initial density, in quantiser steps.
    """

    def __init__(
        self,
        feature_shape: Sequence[int],
        latent_channels: int = 64,
        stride: int = 2,
        kernel_size: int = 3,
        nonnegative: bool = True,
        activation: str = "relu",
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
        self.encoder = nn.Sequential(
            nn.Conv2d(channels, channels, **depthwise),
            nn.BatchNorm2d(channels),
            *self._activation(),
            nn.Conv2d(channels, latent_channels, 1),
        )
        self.entropy = FactorizedPrior(latent_channels, init_scale)
        self.expand = nn.Sequential(
            nn.Conv2d(latent_channels, channels, 1, bias=False), nn.BatchNorm2d(channels), *self._activation()
        )
        self.upsample = nn.ConvTranspose2d(channels, channels, **depthwise)
        self.restore = nn.Sequential(
            nn.BatchNorm2d(channels), *([nn.ReLU(inplace=True)] if nonnegative else [])
        )

    def _activation(self) -> list[nn.Module]:
        return [nn.ReLU(inplace=True)] if self.activation == "relu" else []

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
        return self.encoder(features)

    def quantise(self, y: Tensor, generator: Generator | None = None) -> tuple[Tensor, Tensor]:
        """Turn a latent into `y_hat` and bits (N,) with the factorized prior."""
        return self.entropy(y, generator)

    def decode(self, y_hat: Tensor, size: Sequence[int]) -> Tensor:
        """Turn `y_hat` (N, K, h, w) into features (N, C, H, W), where `size` is (H, W)."""
        return self.restore(self.upsample(self.expand(y_hat), output_size=list(size)))

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
