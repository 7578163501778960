"""The default unit: depthwise and pointwise convolutions around a factorized prior."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from bottlenecks.coding.coder import SymbolTables
from bottlenecks.shapes import Size
from bottlenecks.units.channel_part import ChannelPart
from bottlenecks.units.entropy import FactorizedPrior
from bottlenecks.units.part import Multiplier
from bottlenecks.units.settings import check_factorized

START_STEPS = 2.5  # standard deviation of the first component at a warm start, in quantiser steps
QUANTISATION_NOISE = 1 / 12  # variance of what rounding adds


class FactorizedPart(ChannelPart):
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
        settings = {"latent_channels": latent_channels, "kernel_size": kernel_size, "nonnegative": nonnegative}
        super().__init__(feature_shape, stride, {**settings, "activation": activation, "init_scale": init_scale})
        check_factorized(latent_channels, stride, kernel_size, activation, init_scale)
        channels, self.latent_channels, self.kernel_size = self.feature_shape[0], latent_channels, kernel_size
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

    def encode(self, features: Tensor) -> Tensor:
        """Turn features (N, C, H, W) into a latent (N, K, ceil(H/s), ceil(W/s))."""
        return self.project(self.inner(self.down_norm(self.down(features))))

    def quantise(
        self, y: Tensor, generator: Generator | None = None, multiplier: Multiplier = 0
    ) -> tuple[Tensor, Tensor]:
        """Turn a latent into `y_hat` and bits (N,) with the factorized prior."""
        return self.entropy(y, generator)

    def bits_per_channel(self, features: Tensor) -> Tensor:
        """Estimate the bits that an image takes in each latent channel, (K,), the mean over features (N, C, H, W)."""
        return self.entropy.bits(self.encode(features))[1].sum((2, 3)).mean(0)

    def decode(self, y_hat: Tensor, size: Size, multiplier: Multiplier = 0) -> Tensor:
        """Turn `y_hat` (N, K, h, w) into features (N, C, H, W), where `size` is (H, W)."""
        wide = self.inner(self.expand_norm(self.expand(y_hat)))
        return self.outer(self.up_norm(self.up(wide, output_size=list(size))))

    @torch.no_grad()
    def start_from(self, features: Tensor) -> None:
        """Begin as a linear transform coder, fitted to a sample of the features (N, C, H, W).

        The first depthwise convolution averages the stride's window, the pointwise ones project on the first K
        principal components and back, and the last gives each place in the window the weight that fits best. The
        first component begins `START_STEPS` quantiser steps wide; the way back is damped as noise of one step asks
        for (Wiener). Every BatchNorm begins as what it would measure, the entropy model as wide as the latent.
        """
        modes = {module: module.training for module in self.modules()}
        self.eval()
        self.down.weight.copy_(window(self.kernel_size, self.stride).expand_as(self.down.weight))
        coarse = self.down(features)
        mean, basis = principal_components(coarse, self.latent_channels)
        pass_through(self.down_norm, coarse, torch.zeros_like(mean))
        first = torch.einsum("nchw,c->nhw", coarse - mean[:, None, None], basis[:, 0])
        scale = START_STEPS / first.std().clamp_min(1e-9)
        self.project.weight.copy_(scale * basis.T[:, :, None, None])
        nn.init.zeros_(self.project.bias)  # type: ignore[arg-type]
        y = self.encode(features)
        self.entropy.start_from(y)
        variances = y.var((0, 2, 3))
        wiener = variances / (variances + QUANTISATION_NOISE)
        self.expand.weight.copy_((basis * wiener / scale)[:, :, None, None])
        wide = self.expand(y)
        pass_through(self.expand_norm, wide, mean, self.expand.weight.square().sum((1, 2, 3)) * QUANTISATION_NOISE)
        wide = self.inner(self.expand_norm(wide))
        self.up.weight.copy_(repeat(wide, features, self.kernel_size, self.stride))
        fine = self.up(wide, output_size=list(features.shape[-2:]))
        pass_through(self.up_norm, fine, features.mean((0, 2, 3)))
        for module, mode in modes.items():
            module.training = mode

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


def window(kernel_size: int, stride: int) -> Tensor:
    """Make a depthwise kernel (1, 1, k, k) that averages the stride's window.

    The window begins at the kernel's centre, which is where a convolution padded by k // 2 begins, and is cut off
    where the kernel ends before it does.
    """
    centre = kernel_size // 2
    kernel = torch.zeros(1, 1, kernel_size, kernel_size)
    inside = kernel[..., centre : centre + stride, centre : centre + stride]
    inside.fill_(1 / inside.numel())
    return kernel


def repeat(coarse: Tensor, fine: Tensor, kernel_size: int, stride: int) -> Tensor:
    """Make the depthwise transposed kernels (C, 1, k, k) that repeat each value over the stride's window.

    Each channel and place in the window has the weight of least squares, so that what the features do at the
    places of a small map (its borders, say) is kept.

    Args:
        coarse: (N, C, h, w).
        fine: what it is to become, (N, C, H, W) with h = ceil(H / s) and w = ceil(W / s).
        kernel_size: k.
        stride: s.
    """
    height, width = coarse.shape[-2:]
    missing = (0, width * stride - fine.shape[-1], 0, height * stride - fine.shape[-2])
    cells = F.pixel_unshuffle(F.pad(fine, missing), stride).unflatten(1, (-1, stride, stride))
    there = F.pixel_unshuffle(F.pad(torch.ones_like(fine[:1, :1]), missing), stride).view(stride, stride, height, width)
    found = torch.einsum("nchw,ncijhw->cij", coarse, cells)
    energy = torch.einsum("nchw,ijhw->cij", coarse.square(), there)
    weights = torch.where(energy > 0, found / energy, 1.0)
    centre = kernel_size // 2
    kernel = torch.zeros(len(weights), 1, kernel_size, kernel_size)
    inside = kernel[:, 0, centre : centre + stride, centre : centre + stride]
    inside.copy_(weights[:, : inside.shape[1], : inside.shape[2]])
    return kernel


def principal_components(features: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Find the directions of largest variance over images and positions, by randomised subspace iteration.

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


def pass_through(norm: nn.BatchNorm2d, inputs: Tensor, offset: Tensor, noise: Tensor | None = None) -> None:
    """Let a BatchNorm hold the statistics of a sample, and give `x - mean + offset`.

    Args:
        norm: of C channels.
        inputs: the sample, (N, C, h, w).
        offset: (C,).
        noise: variance that training adds to the sample's, (C,).
    """
    assert norm.running_mean is not None and norm.running_var is not None
    variance = inputs.var((0, 2, 3)) + (0 if noise is None else noise)
    norm.running_mean.copy_(inputs.mean((0, 2, 3)))
    norm.running_var.copy_(variance)
    norm.weight.copy_((variance + norm.eps).sqrt())
    norm.bias.copy_(offset)
