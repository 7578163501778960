"""What units of one tensor have in common: one table a channel, medians, rounding."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from torch import Generator, Tensor

from bottlenecks.coding.coder import Coder, Int32Array, SymbolTables
from bottlenecks.coding.framing import Framing, Size
from bottlenecks.errors import UsageError
from bottlenecks.units.base import MAX_SCALE, Bottleneck


class BottleneckUnit(Bottleneck):
    """A small encoder/decoder for one tensor at the cut.

        features -> encode -> y -> quantise -> symbols -> coder -> bytes
        features_hat <- decode <- y_hat <- symbols <- coder <- bytes

    An architecture gives `encode`, `quantise` and `decode`, the grid's origin and the tables; bytes are made here.

    Args:
        feature_shape: (C, H, W) of the features at the cut.
    """

    def __init__(self, feature_shape: Sequence[int]) -> None:
        super().__init__()
        if len(feature_shape) != 3:
            raise UsageError(
                f"split: the features there have shape {tuple(feature_shape)}; units take (C, H, W) maps so far"
            )
        self.feature_shape = tuple(int(size) for size in feature_shape)
        self._framing: Framing | None = None
        self._grid: np.ndarray | None = None  # the medians of a finished unit

    @abstractmethod
    def encode(self, features: Tensor) -> Tensor:
        """Turn features (N, C, H, W) into a latent (N, K, h, w)."""

    @abstractmethod
    def quantise(self, y: Tensor, generator: Generator | None = None) -> tuple[Tensor, Tensor]:
        """Turn a latent into `y_hat` (noisy in training mode, rounded in eval mode) and bits (N,)."""

    @abstractmethod
    def decode(self, y_hat: Tensor, size: Size) -> Tensor:
        """Turn `y_hat` into features (N, C, H, W), where `size` is (H, W)."""

    @abstractmethod
    def latent_size(self, size: Sequence[int]) -> tuple[int, int]:
        """Return the latent's (h, w) for features of (H, W)."""

    def start_from(self, features: Tensor) -> None:
        """Begin from a sample of the features (N, C, H, W) instead of from noise, where the unit knows how."""

    @property
    def parts(self) -> tuple[BottleneckUnit]:
        """This unit alone."""
        return (self,)

    @property
    @abstractmethod
    def medians(self) -> Tensor:
        """Origin of the quantiser's grid, (K, 1, 1)."""

    @abstractmethod
    def build_tables(self) -> SymbolTables:
        """Derive the integer tables from the trained entropy model."""

    def size_of(self, features: Tensor) -> Size:
        """Return (H, W)."""
        height, width = features.shape[-2:]
        return height, width

    @property
    def framing(self) -> Framing:
        """What turns this unit's symbols into bytes and back.

        Raises:
            RuntimeError: the unit has no tables yet.
        """
        if self._framing is None:
            raise RuntimeError("the unit has no tables yet; call finalise() after training, or load a checkpoint")
        return self._framing

    @property
    def coder(self) -> Coder:
        """The coder over this unit's tables."""
        return self.framing.coder

    @property
    def tables(self) -> tuple[SymbolTables]:
        """The tables, alone in a tuple."""
        return (self.coder.tables,)

    def finalise(self, tables: Sequence[SymbolTables] | None = None) -> None:
        """Make the unit ready for bytes, in eval mode, with the given tables or with those of its entropy model.

        Raises:
            ValueError: the tables have another number of channels than the latent.
        """
        (own,) = [self.build_tables()] if tables is None else tables
        if own.num_channels != len(self.medians):
            raise ValueError(f"tables of {own.num_channels} channels, the latent has {len(self.medians)}")
        height, width = self.feature_shape[1:]
        self._framing = Framing(Coder(own), (height, width), self.latent_size, MAX_SCALE)
        self._grid = self.medians.cpu().numpy().copy()
        self.eval()

    def steps(self, features: Tensor) -> Tensor:
        """Place features (N, C, H, W) on the quantiser's grid: whole numbers (N, K, h, w), still floating-point."""
        medians = self.medians
        return (self.encode(features).to(medians) - medians).round()

    def symbols(self, features: Tensor) -> Int32Array:
        """Quantise features (N, C, H, W) to the symbols that are coded, (N, K, h, w).

        Raises:
            ValueError: the latent is not finite, or beyond what 32 bits hold.
        """
        with torch.no_grad():
            y = self.encode(features)
        y = y if y.dtype == torch.float64 else y.float()
        grid = self.medians.cpu().numpy() if self._grid is None else self._grid
        steps = y.cpu().numpy() - grid  # numpy: a call of torch costs as much as all of a small latent
        np.rint(steps, out=steps)
        certain = np.vdot(steps, steps) < 2.0**62  # one pass says that every square is below it
        if not certain and not (-(2**31) <= steps.min() and steps.max() < 2**31):
            raise ValueError("the latent has elements that are not finite or too large to code; are the weights sound?")
        return steps.astype(np.int32)

    @torch.no_grad()
    def reconstruct(self, symbols: Tensor, size: Size) -> Tensor:
        """Turn symbols (N, K, h, w) back into features (N, C, H, W), where `size` is (H, W)."""
        medians = self.medians
        return self.decode(symbols.to(medians) + medians, size)

    def restore(self, symbols: Sequence[Int32Array], size: Size) -> Tensor:
        """Turn the latents (K, h, w) of some images back into features (N, C, H, W), where `size` is (H, W)."""
        assert self._grid is not None, "a unit with a framing has a grid"
        y_hat = np.stack(symbols).astype(self._grid.dtype)
        y_hat += self._grid
        with torch.no_grad():
            return self.decode(torch.from_numpy(y_hat).to(next(self.parameters()).device), size)
