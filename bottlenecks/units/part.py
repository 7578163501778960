"""What codes one of the tensors that cross: features to symbols, and back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Generator, Tensor, nn

from bottlenecks.coding.coder import Int32Array
from bottlenecks.errors import UsageError
from bottlenecks.shapes import Shape, Size

Multiplier = int | Tensor  # of a unit of any rate: one for all images, or int64 (N,); 0 for a unit of one rate


def to_symbols(values: npt.NDArray[np.floating[Any]]) -> Int32Array:
    """Turn whole numbers in floating point into symbols.

    Raises:
        ValueError: they are not finite, or beyond what 32 bits hold.
    """
    certain = np.vdot(values, values) < 2.0**62  # one pass says that every square is below it
    if not certain and not (-(2.0**31) <= values.min() and values.max() < 2.0**31):
        raise ValueError("the latent has elements that are not finite or too large to code; are the weights sound?")
    return values.astype(np.int32)


class Part(nn.Module, ABC):
    """A small encoder/decoder for one tensor at the cut.

    Where the unit is one of any rate, a multiplier of its steps chooses the rate; elsewhere it is 0.

    Args:
        feature_shape: (C, H, W) of the features.

    Raises:
        UsageError: they are no maps.
    """

    def __init__(self, feature_shape: Sequence[int]) -> None:
        super().__init__()
        if len(feature_shape) != 3:
            raise UsageError(
                f"split: the features there have shape {tuple(feature_shape)}; units take (C, H, W) maps so far"
            )
        self.feature_shape: Shape = tuple(int(side) for side in feature_shape)

    @property
    def own_size(self) -> Size:
        """(H, W) of the features that this was made for."""
        return self.feature_shape[1], self.feature_shape[2]

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments, JSON-able."""

    @abstractmethod
    def encode(self, features: Tensor) -> Tensor:
        """Turn features (N, C, H, W) into a latent (N, K, h, w)."""

    @abstractmethod
    def quantise(
        self, y: Tensor, generator: Generator | None = None, multiplier: Multiplier = 0
    ) -> tuple[Tensor, Tensor]:
        """Turn a latent into `y_hat` (noisy in training mode, rounded in eval mode) and bits (N,)."""

    @abstractmethod
    def decode(self, y_hat: Tensor, size: Size, multiplier: Multiplier = 0) -> Tensor:
        """Turn `y_hat` into features (N, C, H, W), where `size` is (H, W)."""

    @abstractmethod
    def bits_per_channel(self, features: Tensor) -> Tensor:
        """Estimate the bits that an image takes in each latent channel, (K,), the mean over features (N, C, H, W)."""

    @abstractmethod
    def steps(self, features: Tensor, multiplier: Multiplier = 0) -> Tensor:
        """Return the symbols (N, K, h, w) of features of the unit's own size, still floating-point."""

    @abstractmethod
    def reconstruct(self, symbols: Tensor, size: Size, multiplier: Multiplier = 0) -> Tensor:
        """Turn symbols (N, K, h, w) back into features (N, C, H, W), where `size` is (H, W)."""

    @abstractmethod
    def symbols(self, features: Tensor, multiplier: int = 0) -> Int32Array:
        """Quantise features (N, C, H, W) to symbols (N, K, h, w).

        Raises:
            ValueError: the latent is not finite, or beyond what 32 bits hold.
        """

    def start_from(self, features: Tensor) -> None:
        """Begin from a sample of the features (N, C, H, W) instead of from noise, where the part knows how."""

    def refresh(self) -> None:
        """Bring what is derived from the parameters up to date."""
