"""The transform of one tensor that crosses, its scales, and what restores it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor, nn

from bottlenecks.coding.coder import Int32Array
from bottlenecks.errors import UsageError, check_number
from bottlenecks.shapes import Size
from bottlenecks.units.hidden import HiddenLayer
from bottlenecks.units.laplacian import LARGEST, NUM_TABLES, PARTS, RATIO, code_bits, laplacian_bits
from bottlenecks.units.linear import make_transform
from bottlenecks.units.part import Multiplier, Part, to_symbols
from bottlenecks.units.restorer import Restorer
from bottlenecks.units.settings import STRUCTURES


def by_image(multiplier: Multiplier) -> Multiplier:
    """Lay the multipliers of images (N,) beside latents (N, K, h, w)."""
    return multiplier if isinstance(multiplier, int) else multiplier[:, None, None, None]


def factor_of(multiplier: Multiplier, like: Tensor) -> Tensor:
    """Return how many times finer the steps are, beside latents (N, K, h, w) of a type and place."""
    exponent = torch.as_tensor(by_image(multiplier), dtype=like.dtype, device=like.device)
    return torch.exp(math.log(RATIO) / PARTS * exponent)


class TransformPart(Part):
    """The transform of one tensor that crosses, its scales, and what restores it.

    Args:
        feature_shape: (C, H, W) of the features.
        structure: `separable` or `joint`.
        rank: K, channels of the latent.
        block: (b, d), sides of the blocks.
        restorer: width of the restoring network, 0 for none.
        nonnegative: whether these features are never negative.
        rounding: offset of the quantiser: symbol = sign(y) * floor(|y| + rounding).
        ranged: whether the steps may be other ones by a *multiplier*, a whole number in eighths of a table step: they
            are finer by RATIO ** (multiplier / PARTS), and every scale is larger by the multiplier.
        tuned: whether the restoring network is told the multiplier.
        hidden: width of the layer that makes the encoder nonlinear, 0 for none.
    """

    def __init__(
        self,
        feature_shape: Sequence[int],
        structure: str,
        rank: int,
        block: Sequence[int],
        restorer: int,
        nonnegative: bool,
        rounding: float,
        ranged: bool = False,
        tuned: bool = False,
        hidden: int = 0,
    ) -> None:
        super().__init__(feature_shape)
        _check(structure, rank, block, restorer, rounding)
        self.structure, self.rank, self.block = structure, rank, tuple(block)
        self.nonnegative, self.rounding = nonnegative, rounding
        channels = self.feature_shape[0]
        self.transform = make_transform(channels, structure, rank, block)
        self.hidden = HiddenLayer(rank, hidden) if hidden else None
        self.scales = nn.Parameter(torch.full(self.transform.coefficient_shape, 2.5 * PARTS))
        self.gains = nn.Parameter(torch.ones(NUM_TABLES + 1)) if ranged else None  # of each table's symbols
        self.restorer = Restorer(channels, restorer, tuned) if restorer else None

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments, JSON-able."""
        tuned = self.restorer is not None and self.restorer.tuning is not None
        return {
            "feature_shape": list(self.feature_shape),
            "structure": self.structure,
            "rank": self.rank,
            "block": list(self.block),
            "restorer": self.restorer.mix.in_channels if self.restorer else 0,
            "nonnegative": self.nonnegative,
            "rounding": self.rounding,
            **({"tuned": True} if tuned else {}),
            **({"hidden": self.hidden.width} if self.hidden else {}),
        }

    def encode(self, features: Tensor) -> Tensor:
        """Return the coefficients (N, K, h, w), in quantiser steps."""
        y = self.transform.encode(features)
        return y if self.hidden is None else self.hidden(y)

    def round(self, y: Tensor) -> Tensor:
        """Quantise coefficients to whole numbers, still floating-point."""
        return y.sign() * (y.abs() + self.rounding).floor()

    def finer(self, y: Tensor, multiplier: Multiplier) -> Tensor:
        """Return coefficients in the steps of a multiplier."""
        return y if self.gains is None else y * factor_of(multiplier, y)

    def dequantise(self, symbols: Tensor, size: Size, multiplier: Multiplier) -> Tensor:
        """Return the coefficients (N, K, h, w) that symbols in the steps of a multiplier stand for."""
        if self.gains is None:
            return symbols
        gains = self.transform.spread(self.gains[self.numbers(multiplier)], size)
        return symbols * gains / factor_of(multiplier, symbols)

    def steps(self, features: Tensor, multiplier: Multiplier = 0) -> Tensor:
        """Return the symbols (N, K, h, w) of features of the unit's own size, still floating-point."""
        symbols = self.round(self.finer(self.encode(features), multiplier))
        return symbols * self.transform.spread(self.numbers(multiplier) > 0, self.own_size)

    def quantise(
        self, y: Tensor, generator: Generator | None = None, multiplier: Multiplier = 0
    ) -> tuple[Tensor, Tensor]:
        """Turn coefficients into quantised ones and bits (N,); in training mode with a gradient for both."""
        y_hat, bits = self.bits(y, generator, multiplier)
        return y_hat, bits.flatten(1).sum(1)

    def bits(self, y: Tensor, generator: Generator | None = None, multiplier: Multiplier = 0) -> tuple[Tensor, Tensor]:
        """Do the same, and give the bits of each element, (N, K, h, w)."""
        with torch.autocast(y.device.type, enabled=False):
            y = self.finer(y.to(torch.promote_types(y.dtype, self.scales.dtype)), multiplier)
            size = self.size_of(y)
            indices = self.indices(size, multiplier)
            alive = indices > 0
            symbols = self.round(y) * alive
            if not self.training:
                return self.dequantise(symbols, size, multiplier), code_bits(symbols, indices)
            scales = (self.scale_map(size) + by_image(multiplier)).clamp(PARTS, LARGEST)
            passed = self._passed(y, symbols, generator) * alive
            return self.dequantise(passed, size, multiplier), laplacian_bits(passed, scales) * alive

    def _passed(self, y: Tensor, symbols: Tensor, generator: Generator | None) -> Tensor:
        """Return what stands for symbols in training: noise for a nonlinear encoder, which rounding would hold fast."""
        if self.hidden is None:
            return y + (symbols - y).detach()
        return y + torch.rand(y.shape, generator=generator).to(y) - 0.5

    def bits_per_channel(self, features: Tensor) -> Tensor:
        """Return the bits that an image takes in each latent channel, (K,), the mean over features (N, C, H, W)."""
        return self.bits(self.encode(features))[1].sum((2, 3)).mean(0)

    def symbols(self, features: Tensor, multiplier: int = 0) -> Int32Array:
        """Quantise features (N, C, H, W) to symbols (N, K, h, w), those included that are not coded."""
        y = self.encode(features)
        y = self.finer(y.to(torch.promote_types(y.dtype, torch.float32)), multiplier)
        coefficients = y.cpu().numpy()
        values = np.abs(coefficients)  # numpy: a call of torch costs as much as all of a small latent
        values += self.rounding
        np.copysign(np.floor(values, out=values), coefficients, out=values)
        return to_symbols(values)

    def decode(self, y_hat: Tensor, size: Size, multiplier: Multiplier = 0) -> Tensor:
        """Return features (N, C, H, W), where `size` is (H, W), of coefficients that were quantised at a multiplier."""
        features_hat = self.transform.decode(y_hat, size)
        if self.restorer is not None:
            features_hat = self.restorer(features_hat, multiplier)
        return features_hat.relu() if self.nonnegative else features_hat

    def reconstruct(self, symbols: Tensor, size: Size, multiplier: Multiplier = 0) -> Tensor:
        """Turn symbols (N, K, h, w) back into features (N, C, H, W)."""
        return self.decode(self.dequantise(symbols.to(self.scales), size, multiplier), size, multiplier)

    def latent_shape(self, size: Sequence[int]) -> tuple[int, int, int]:
        """Return (K, h, w) for features of (H, W)."""
        return self.rank, *self.transform.latent_size(size)

    def size_of(self, y: Tensor) -> Size:
        """Return (H, W) of the features whose coefficients (N, K, h, w) these are."""
        return self.transform.feature_size((y.shape[-2], y.shape[-1]))

    def scale_map(self, size: Size) -> Tensor:
        """Return each latent element's scale for features of (H, W), (K, h, w), not rounded."""
        return self.transform.spread(self.scales, size)

    def indices(self, size: Size, multiplier: Multiplier = 0) -> Tensor:
        """Return the number of each latent element's table, int64, 0 where nothing is coded.

        Its shape is (K, h, w), or (N, K, h, w) where each image has a multiplier.
        """
        return self.transform.spread(self.numbers(multiplier), size)

    def numbers(self, multiplier: Multiplier = 0) -> Tensor:
        """Return the number of each coefficient's table, 0 where nothing is coded."""
        whole = self.scales.detach().round().long() + by_image(multiplier)
        return torch.div(whole, PARTS, rounding_mode="floor").clamp(0, NUM_TABLES)


def _check(structure: str, rank: int, block: Sequence[int], restorer: int, rounding: float) -> None:
    if structure not in STRUCTURES:
        raise UsageError(f"unit.structure={structure}: expected {' or '.join(STRUCTURES)}")
    check_number("unit.rank", rank, 1, whole=True)
    check_number("unit.restorer", restorer, 0, whole=True)
    for side in block:
        check_number("unit.block", side, 1, whole=True)
    if not 0 < rounding <= 0.5:
        raise UsageError(f"unit.rounding={rounding}: expected a number above 0, and 0.5 at the most")
