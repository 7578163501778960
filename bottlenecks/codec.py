"""What units and baselines share: features to bytes, bytes to features, the same two calls for all."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from bottlenecks.checkpoint import Rate
from bottlenecks.macs import count_macs


class Codec(ABC):
    """Everything that is judged: one operating point of one way to send features.

    Attributes:
        name: of the codec, such as `unit`.
        setting: of the operating point, such as `lambda=0.01`.
        lmbda: of a trained unit, else None.
    """

    name: str
    setting: str
    lmbda: float | None = None

    @abstractmethod
    def compress(self, features: Tensor) -> list[bytes]:
        """Code features (N, C, H, W) into one byte string an image, all side information included."""

    @abstractmethod
    def decompress(self, streams: Sequence[bytes]) -> Tensor:
        """Decode one byte string an image into features (N, C, H, W)."""

    def estimated_bits(self, features: Tensor) -> Tensor | None:
        """Estimate the bits of each image (N,), without header, where the codec has an estimate."""
        return None

    def device_macs(self, features: Tensor) -> int:
        """Count the multiply-accumulates of the encoder for one image's features (1, C, H, W)."""
        return 0


class UnitCodec(Codec):
    """A trained unit at its rate.

    Args:
        rate: a loaded rate checkpoint.
    """

    name = "unit"

    def __init__(self, rate: Rate) -> None:
        self.unit, self.lmbda = rate.unit, rate.info.lmbda
        self.setting = f"lambda={self.lmbda!r}"

    def compress(self, features: Tensor) -> list[bytes]:
        """Encode, quantise, code and pack."""
        return self.unit.compress(features)

    def decompress(self, streams: Sequence[bytes]) -> Tensor:
        """Unpack, decode the symbols and reconstruct."""
        return self.unit.decompress(streams)

    @torch.no_grad()
    def estimated_bits(self, features: Tensor) -> Tensor:
        """Estimate with the entropy model's density at the rounded latent."""
        return self.unit.quantise(self.unit.encode(features))[1]

    def device_macs(self, features: Tensor) -> int:
        """Count the encoder's."""
        return count_macs(self.unit.encode, features)
