"""What parts with one table a channel have in common: medians, rounding."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bottlenecks.coding.coder import Int32Array, SymbolTables
from bottlenecks.shapes import Size
from bottlenecks.units.part import Multiplier, Part, to_symbols


class ChannelPart(Part):
    """A small encoder/decoder for one tensor at the cut, with a table for each latent channel.

        features -> encode -> y -> quantise -> symbols
        features_hat <- decode <- y_hat <- symbols

    An architecture gives `encode`, `quantise` and `decode`, the grid's origin and the tables.

    Args:
        feature_shape: (C, H, W) of the features at the cut.
        stride: s, the latent is this many times smaller in each direction.
        settings: the other arguments of the architecture's constructor, JSON-able.
    """

    def __init__(self, feature_shape: Sequence[int], stride: int, settings: Mapping[str, Any]) -> None:
        super().__init__(feature_shape)
        self.stride, self.settings = stride, settings
        self._grid: np.ndarray | None = None  # the medians of a finished unit

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments, JSON-able."""
        return {"feature_shape": list(self.feature_shape), "stride": self.stride, **self.settings}

    def latent_size(self, size: Size) -> Size:
        """Return the latent's (h, w) for features of (H, W): (ceil(H/s), ceil(W/s))."""
        height, width = size
        return -(-height // self.stride), -(-width // self.stride)

    @property
    @abstractmethod
    def medians(self) -> Tensor:
        """Origin of the quantiser's grid, (K, 1, 1)."""

    @abstractmethod
    def build_tables(self) -> SymbolTables:
        """Derive the integer tables from the trained entropy model."""

    def settle(self, tables: SymbolTables) -> None:
        """Take the medians as they are for good.

        Raises:
            ValueError: the tables have another number of channels than the latent.
        """
        if tables.num_channels != len(self.medians):
            raise ValueError(f"tables of {tables.num_channels} channels, the latent has {len(self.medians)}")
        self._grid = self.medians.cpu().numpy().copy()

    def steps(self, features: Tensor, multiplier: Multiplier = 0) -> Tensor:
        """Place features (N, C, H, W) on the quantiser's grid: whole numbers (N, K, h, w), still floating-point."""
        medians = self.medians
        return (self.encode(features).to(medians) - medians).round()

    def symbols(self, features: Tensor, multiplier: int = 0) -> Int32Array:
        """Quantise features (N, C, H, W) to the symbols that are coded, (N, K, h, w)."""
        y = self.encode(features)
        y = y if y.dtype == torch.float64 else y.float()
        grid = self.medians.cpu().numpy() if self._grid is None else self._grid
        steps = y.cpu().numpy() - grid  # numpy: a call of torch costs as much as all of a small latent
        np.rint(steps, out=steps)
        return to_symbols(steps)

    @torch.no_grad()
    def reconstruct(self, symbols: Tensor, size: Size, multiplier: Multiplier = 0) -> Tensor:
        """Turn symbols (N, K, h, w) back into features (N, C, H, W), where `size` is (H, W)."""
        medians = self.medians
        return self.decode(symbols.to(medians) + medians, size)
