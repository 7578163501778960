"""The transform of one tensor that crosses, its scales, and what restores it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bottlenecks.coding.framing import Size
from bottlenecks.errors import UsageError, check_number
from bottlenecks.units.hidden import HiddenLayer
from bottlenecks.units.laplacian import NUM_TABLES, PARTS, RATIO
from bottlenecks.units.linear import make_transform
from bottlenecks.units.restorer import Multiplier, Restorer
from bottlenecks.units.settings import STRUCTURES


def by_image(multiplier: Multiplier) -> Multiplier:
    """Lay the multipliers of images (N,) beside latents (N, K, h, w)."""
    return multiplier if isinstance(multiplier, int) else multiplier[:, None, None, None]


def factor_of(multiplier: Multiplier, like: Tensor) -> Tensor:
    """Return how many times finer the steps are, beside latents (N, K, h, w) of a type and place."""
    exponent = torch.as_tensor(by_image(multiplier), dtype=like.dtype, device=like.device)
    return torch.exp(math.log(RATIO) / PARTS * exponent)


class TransformPart(nn.Module):
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
        super().__init__()
        _check(feature_shape, structure, rank, block, restorer, rounding)
        self.feature_shape = tuple(int(side) for side in feature_shape)
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

    @property
    def own_size(self) -> Size:
        """(H, W) of the features that this was made for."""
        return self.feature_shape[1], self.feature_shape[2]

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


def _check(
    feature_shape: Sequence[int], structure: str, rank: int, block: Sequence[int], restorer: int, rounding: float
) -> None:
    if len(feature_shape) != 3:
        raise UsageError(
            f"split: the features there have shape {tuple(feature_shape)}; units take (C, H, W) maps so far"
        )
    if structure not in STRUCTURES:
        raise UsageError(f"unit.structure={structure}: expected {' or '.join(STRUCTURES)}")
    check_number("unit.rank", rank, 1, whole=True)
    check_number("unit.restorer", restorer, 0, whole=True)
    for side in block:
        check_number("unit.block", side, 1, whole=True)
    if not 0 < rounding <= 0.5:
        raise UsageError(f"unit.rounding={rounding}: expected a number above 0, and 0.5 at the most")
