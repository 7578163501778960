"""The published unit: a rectified latent, a fixed step, one static table for all channels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Generator, Tensor, nn

from bottlenecks.coding.coder import TOTAL, SymbolTables, ideal_bits
from bottlenecks.coding.escapes import Int64Array
from bottlenecks.shapes import Size
from bottlenecks.units.channel_part import ChannelPart
from bottlenecks.units.entropy import FactorizedPrior
from bottlenecks.units.part import Multiplier
from bottlenecks.units.settings import check_spic

NUM_SYMBOLS = 256  # 0 to 255 can be listed in the table; what lies above is escaped
MOMENTUM = 0.05  # share of the newest batch in the histogram
LARGEST = 2.0**30  # symbol that an estimate counts; coding refuses what 32 bits do not hold
HYPER_CHANNELS = 8
NARROWEST = 0.11  # standard deviation of the estimator's Gaussians, in quantiser steps (CompressAI's bound)


class SpicPart(ChannelPart):
    """The units of Datta, Ahuja et al. as published, with their rate estimator and their static table.

        features (C, H, W) -> depthwise 3x3 / s -> BatchNorm -> ReLU -> 1x1 -> BatchNorm -> ReLU -> y, in steps of q
        features_hat <- [ReLU <-] BatchNorm <- depthwise transposed / s <- ReLU <- BatchNorm <- 1x1 <- q * y_hat

    After "A Low-Complexity Approach to Rate-Distortion Optimized Variable Bit-Rate Compression for Split DNN
    Computing", ICPR 2022, and "Neural Rate Estimator and Unsupervised Learning for Efficient Distributed Image
    Analytics in Split-DNN Models", CVPR 2023. In training a small hyperprior estimates the rate and uniform noise of
    width q stands in for rounding. What is coded, and evaluated in eval mode, is another model: one static table for
    all channels, the histogram of the training images' symbols. It is kept as BatchNorm keeps its statistics, as
    a decaying mean over the training batches.

    Departs from them: they use Huffman's code for the table, here the same table drives the range coder, which is
    never longer but for a byte or two at its end (Huffman's spends at least one bit on every symbol); symbols that
    training never saw are escaped; every H and W is restored exactly; the last ReLU is there only where the features
    are non-negative. Their training is not published: the estimator's layers follow the shapes of the published
    weights, the rest of it (its stride, its ReLUs, Gaussians around zero) is this project's choice, as is the table's
    decaying mean.

    BatchNorm's weights begin at 1, so `step` decides the rate at which training begins; a short one at a low learning
    rate ends near there, whatever its lambda.

    Args:
        feature_shape: (C, H, W) of the features at the cut.
        latent_channels: K.
        stride: s, the latent is this many times smaller in each direction.
        step: q, the quantiser's.
        nonnegative: whether the features at the cut are never negative.
    """

    histogram: Tensor

    def __init__(
        self,
        feature_shape: Sequence[int],
        latent_channels: int = 64,
        stride: int = 2,
        step: float = 1.0,
        nonnegative: bool = True,
    ) -> None:
        settings = {"latent_channels": latent_channels, "step": float(step), "nonnegative": nonnegative}
        super().__init__(feature_shape, stride, settings)
        check_spic(latent_channels, stride, step)
        channels, self.latent_channels, self.step = self.feature_shape[0], latent_channels, float(step)
        wide = max(3, stride // 2 * 2 + 1)  # as published: 3 for stride 2, 5 for stride 4; it covers every position
        down: dict[str, Any] = {"stride": stride, "groups": channels, "bias": False}
        self.down = nn.Conv2d(channels, channels, 3, padding=1, **down)
        self.down_norm = nn.BatchNorm2d(channels)
        self.project = nn.Conv2d(channels, latent_channels, 1, bias=False)
        self.project_norm = nn.BatchNorm2d(latent_channels)
        self.prior = RateEstimator(latent_channels)
        self.expand = nn.Conv2d(latent_channels, channels, 1, bias=False)
        self.expand_norm = nn.BatchNorm2d(channels)
        self.up = nn.ConvTranspose2d(channels, channels, wide, padding=wide // 2, **down)
        self.up_norm = nn.BatchNorm2d(channels)
        self.outer = nn.ReLU() if nonnegative else nn.Identity()
        self.register_buffer("histogram", torch.zeros(NUM_SYMBOLS + 1))  # the last entry: all symbols above

    def encode(self, features: Tensor) -> Tensor:
        """Turn features (N, C, H, W) into a latent (N, K, ceil(H/s), ceil(W/s)), at least 0, in quantiser steps."""
        coarse = self.down_norm(self.down(features)).relu()
        return self.project_norm(self.project(coarse)).relu() / self.step

    def quantise(
        self, y: Tensor, generator: Generator | None = None, multiplier: Multiplier = 0
    ) -> tuple[Tensor, Tensor]:
        """Turn a latent into `y_hat` and bits (N,): noise and the estimator in training mode, rounding and the table.

        A pass in training mode adds its symbols to the histogram.
        """
        y = y.to(self.histogram.dtype)
        if self.training:
            self._count(y)
            return self.prior(y, generator)
        y_hat = y.round()
        return y_hat, self._code_lengths(y_hat.flatten(1))

    def decode(self, y_hat: Tensor, size: Size, multiplier: Multiplier = 0) -> Tensor:
        """Turn `y_hat` (N, K, h, w), in quantiser steps, into features (N, C, H, W), where `size` is (H, W)."""
        wide = self.expand_norm(self.expand(self.step * y_hat)).relu()
        return self.outer(self.up_norm(self.up(wide, output_size=list(size))))

    def bits_per_channel(self, features: Tensor) -> Tensor:
        """Return the bits that an image takes in each latent channel by the table, (K,), the mean over features."""
        symbols = self.encode(features).to(self.histogram.dtype).round()
        return self._code_lengths(symbols.transpose(0, 1).flatten(1)) / len(features)

    @property
    def medians(self) -> Tensor:
        """Origin of the quantiser's grid, zero in every channel, (K, 1, 1)."""
        return torch.zeros_like(self.histogram[:1]).expand(self.latent_channels)[:, None, None]

    def build_tables(self) -> SymbolTables:
        """Give every channel the one table of the training images' symbols."""
        return self._tables(self.latent_channels)

    @torch.no_grad()
    def _count(self, y: Tensor) -> None:
        symbols = y.round().long().clamp(0, NUM_SYMBOLS).flatten()
        counts = torch.bincount(symbols, minlength=NUM_SYMBOLS + 1)
        self.histogram.lerp_(counts.to(self.histogram) / len(symbols), MOMENTUM)

    def _tables(self, num_channels: int) -> SymbolTables:
        """Make the table of the symbols up to the largest that was seen, and the escape, for each of some channels."""
        seen = self.histogram.detach().cpu().double().numpy()
        num_listed = int(np.flatnonzero(seen[:-1]).max(initial=0)) + 1
        counts = whole_counts(np.append(seen[:num_listed], seen[-1]))
        rows = np.tile(counts, (num_channels, 1))
        return SymbolTables(rows, np.full(num_channels, len(counts)), np.zeros(num_channels, dtype=np.int64))

    def _code_lengths(self, symbols: Tensor) -> Tensor:
        """Return the bits of each row of whole numbers (M, L) by the table, (M,)."""
        table = self._tables(1)
        rows = symbols.detach().nan_to_num().clamp(0, LARGEST).to(torch.int32).cpu().numpy()
        return symbols.new_tensor([ideal_bits(row[None], table) for row in rows])


class RateEstimator(nn.Module):
    """The hyperprior that estimates the rate in training and is gone after it.

        y (K, h, w) -> depthwise 3x3 / 2 -> ReLU -> 1x1 -> z (8, h/2, w/2), factorized
        deviations (K, h, w) <- softplus <- depthwise transposed 3x3 / 2 <- ReLU <- 1x1 <- z_hat

    Elements of `y` are Gaussian around zero. Learned means would make an element free that is the same in all
    images; one table for all channels does not.

    Args:
        channels: of the latent, K.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        depthwise: dict[str, Any] = {"kernel_size": 3, "stride": 2, "padding": 1, "groups": channels}
        self.down = nn.Conv2d(channels, channels, **depthwise)
        self.project = nn.Conv2d(channels, HYPER_CHANNELS, 1)
        self.entropy = FactorizedPrior(HYPER_CHANNELS)
        self.expand = nn.Conv2d(HYPER_CHANNELS, channels, 1)
        self.up = nn.ConvTranspose2d(channels, channels, **depthwise)

    def forward(self, y: Tensor, generator: Generator | None = None) -> tuple[Tensor, Tensor]:
        """Add noise to a latent and estimate its rate.

        Args:
            y: latent in quantiser steps, (N, K, h, w).
            generator: source of the noise, on the CPU; None takes the global one.

        Returns:
            `y_hat` (N, K, h, w), and the bits of each image (N,), those of the hyper-latent included.
        """
        noise = torch.rand(y.shape, generator=generator, dtype=torch.float64) - 0.5
        y_hat = y + noise.to(y)
        with torch.autocast(y.device.type, enabled=False):
            z_hat, z_bits = self.entropy(self.project(self.down(y).relu()), generator)
            scales = self.up(self.expand(z_hat).relu(), output_size=list(y.shape[-2:]))
            y_bits = gaussian_bits(y_hat, NARROWEST + nn.functional.softplus(scales))
        return y_hat, y_bits.flatten(1).sum(1) + z_bits


def gaussian_bits(y_hat: Tensor, scales: Tensor) -> Tensor:
    """Return the information in a step's width around each element, under a Gaussian around zero.

    Taken in logarithms, so that it is finite and has a gradient however unlikely an element is.

    Args:
        y_hat: elements in quantiser steps, of any shape.
        scales: their standard deviations, of the same shape.
    """
    distance = y_hat.abs()
    upper = torch.special.log_ndtr((0.5 - distance) / scales)
    lower = torch.special.log_ndtr((-0.5 - distance) / scales)
    return -(upper + torch.log(-torch.expm1(lower - upper))) / math.log(2)


def whole_counts(shares: npt.NDArray[np.float64]) -> Int64Array:
    """Turn shares (L,), not negative, into whole counts of at least 1 with the sum 2**16; no shares count as equal."""
    total = shares.sum()
    normed = shares / total if total > 0 else np.full(len(shares), 1 / len(shares))
    counts: Int64Array = 1 + np.floor(normed * (TOTAL - len(shares))).astype(np.int64)
    counts[counts.argmax()] += TOTAL - counts.sum()
    return counts
