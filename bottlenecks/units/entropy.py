"""The entropy model that trains a unit, and the integer tables that it becomes."""

from __future__ import annotations

import copy
import math
import warnings

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from bottlenecks.coding.coder import SymbolTables

with warnings.catch_warnings():
    # compressai imports torch_geometric, which scripts functions as it is imported
    warnings.filterwarnings("ignore", message="`torch.jit.script` is deprecated", category=FutureWarning)
    from compressai.entropy_models import EntropyBottleneck


ONE_SIGMA = math.log(0.8413 / 0.1587)  # logit of what a Gaussian has below one standard deviation
NARROWEST = 0.1  # standard deviation of a density at a start from a sample, in quantiser steps


class FactorizedPrior(EntropyBottleneck):
    """CompressAI's factorized prior with noise from a generator of its own.

    One learned density per latent channel (Ballé et al., "Variational image compression with a scale hyperprior",
    ICLR 2018, appendix 6.1). Departs from CompressAI in three ways: the noise of a training pass can come from a
    given generator, so that a unit sees the same noise alone and beside others; likelihoods are never computed
    in less than float32; and the tables are built on a twin, so that this module's own buffers stay empty and its
    state can be saved and loaded at any time.

    Args:
        channels: number of latent channels K.
        init_scale: width of the initial density, in quantiser steps.
    """

    def __init__(self, channels: int, init_scale: float = 10.0) -> None:
        super().__init__(channels, init_scale=init_scale)
        self.quantiles.requires_grad_(False)  # set by `refresh`, not learned
        self._generator: Generator | None = None

    def forward(self, y: Tensor, generator: Generator | None = None) -> tuple[Tensor, Tensor]:
        """Quantise a latent and estimate its rate.

        In training mode uniform noise stands in for rounding; in eval mode the latent is rounded on the grid whose
        origin is each channel's median.

        Args:
            y: latent, (N, K, h, w).
            generator: source of the noise, on the CPU so that every device sees the same; None takes the global one.

        Returns:
            `y_hat` (N, K, h, w), and the bits of each image (N,), in the precision of the parameters.
        """
        y_hat, bits = self.bits(y, generator)
        return y_hat, bits.flatten(1).sum(1)

    def bits(self, y: Tensor, generator: Generator | None = None) -> tuple[Tensor, Tensor]:
        """Do the same, and give the bits of each element, (N, K, h, w)."""
        self._generator = generator
        with torch.autocast(y.device.type, enabled=False):
            y_hat, likelihoods = super().forward(y.to(self.quantiles.dtype))
        return y_hat, -likelihoods.log2()

    def quantize(self, inputs: Tensor, mode: str, means: Tensor | None = None) -> Tensor:
        """Add noise from the generator, or round (see CompressAI)."""
        if mode != "noise" or self._generator is None:
            return super().quantize(inputs, mode, means)
        noise = torch.rand(inputs.shape, generator=self._generator, dtype=torch.float64) - 0.5
        return inputs + noise.to(inputs)

    @property
    def medians(self) -> Tensor:
        """Origin of each channel's quantiser grid, (K, 1, 1)."""
        return self._get_medians().detach()

    @torch.no_grad()
    def start_from(self, y: Tensor) -> None:
        """Let each channel's density begin around a sample of the latent (N, K, h, w), and as wide as it is.

        Stretching and shifting are exact: the first thing the density does to `y` is an affine map.
        """
        mean, deviation = y.mean((0, 2, 3))[:, None, None], y.std((0, 2, 3))[:, None, None]
        low, centre, high = (self._position(logit) for logit in (-ONE_SIGMA, 0.0, ONE_SIGMA))
        old = F.softplus(self.matrices[0])
        new = old * (high - low) / 2 / deviation.clamp_min(NARROWEST)
        self.matrices[0].copy_(new + torch.log(-torch.expm1(-new)))  # the inverse of softplus
        self.biases[0].add_(old * centre - new * mean)
        self.refresh()

    @torch.no_grad()
    def refresh(self) -> None:
        """Move medians and tails to where the density is now; to be called before anything is evaluated.

        Stands in for the second optimiser of CompressAI's examples: a bisection search, tens of milliseconds.
        """
        for index, target in enumerate(self.target):
            self.quantiles[:, :, index] = self._position(target)[:, :, 0]

    def _position(self, logit: float | Tensor) -> Tensor:
        """Find where each channel's cumulative reaches a logit, (K, 1, 1), by bisection."""
        radius = torch.full_like(self.quantiles[:, :, :1], 1e5)  # CompressAI's own search is tied to float32
        target = torch.as_tensor(logit).to(self.quantiles)
        return self._search_target(lambda y: self._logits_cumulative(y, True), target, -radius, radius)

    def tables(self) -> SymbolTables:
        """Quantise the densities to the integer tables that bytes are coded with."""
        twin = copy.deepcopy(self).cpu()
        twin.update(force=True)
        return SymbolTables.from_cdfs(twin.quantized_cdf.numpy(), twin.cdf_length.numpy(), twin.offset.numpy())
