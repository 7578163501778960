"""What units and baselines share: features or images to bytes and back, the same two calls for all."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from bottlenecks.coding.session import RateName, Terms
from bottlenecks.rates.rate import Rate
from bottlenecks.splitting.features import Features
from bottlenecks.splitting.macs import count_macs


class Codec(ABC):
    """Everything that is evaluated: one operating point of one way to send an image's features, or the image itself.

    Attributes:
        name: of the codec, such as `unit`.
        setting: of the operating point, such as `lambda=0.01`.
        lmbda: of a trained unit, else None.
        sends: `features` at the cut, or `images`: the network's input, after which all of the network follows.
    """

    name: str
    setting: str
    lmbda: float | None = None
    sends: Literal["features", "images"] = "features"

    @abstractmethod
    def compress(self, batch: Features) -> list[bytes]:
        """Code features, or network inputs, into one byte string an image, all side information included.

        Args:
            batch: features, (N, C, H, W) of each tensor; or the network's input (N, 3, H, W), alone in a tuple.

        Raises:
            ValueError: they do not fit, or are not finite.
        """

    @abstractmethod
    def decompress(self, streams: Sequence[bytes]) -> Features:
        """Decode one byte string an image into what was coded.

        Raises:
            BitstreamError: one is damaged, or not of this codec.
        """

    def estimated_bits(self, features: Features) -> Tensor | None:
        """Estimate the bits of each image (N,), without header, where the codec has an estimate."""
        return None

    def terms(self) -> Terms | None:
        """Return what a session would agree on that has frames of this codec alone, where it has such."""
        return None

    def encoder_macs(self, batch: Features) -> int:
        """Count the multiply-accumulates of the encoder's network for what it codes of one image."""
        return 0

    def decoder_macs(self, batch: Features) -> int:
        """Count those of the decoder's network."""
        return 0

    def state_bytes(self) -> int:
        """Count the bytes of the weights and tables that encoder and decoder hold."""
        return 0


class UnitCodec(Codec):
    """A trained unit at its rate.

    Args:
        rate: a loaded rate checkpoint.
        name: of the unit among other codecs.
    """

    def __init__(self, rate: Rate, name: str = "unit") -> None:
        self.name = name
        self.rate, self.unit, self.lmbda = rate, rate.unit, rate.lmbda
        self.setting = f"lambda={self.lmbda!r}"

    def compress(self, batch: Features) -> list[bytes]:
        """Encode, quantise, code and pack."""
        return self.rate.compress(batch)

    def decompress(self, streams: Sequence[bytes]) -> Features:
        """Unpack, decode the symbols and reconstruct."""
        return self.unit.decompress(streams)

    @torch.no_grad()
    def estimated_bits(self, features: Features) -> Tensor:
        """Estimate with the entropy model's density at the rounded latent."""
        return self.unit.estimated_bits(features, self.rate.multiplier)

    def terms(self) -> Terms:
        """Return terms of this rate alone."""
        multiplier = None if self.unit.range is None else self.rate.multiplier
        return Terms((RateName(self.unit.framing.fingerprint, multiplier),))

    def encoder_macs(self, batch: Features) -> int:
        """Count the encoder's."""
        return count_macs(self.unit.encode, batch)

    def decoder_macs(self, batch: Features) -> int:
        """Count the decoder's."""
        with torch.no_grad():
            symbols = self.unit.encode(batch)
        return count_macs(self.unit.decode, symbols, self.unit.size_of(batch))

    def state_bytes(self) -> int:
        """Count those of the unit's tensors and of its integer tables."""
        tables = [array for own in self.unit.tables for array in (own.frequencies, own.lengths, own.offsets)]
        tensors = sum(tensor.numel() * tensor.element_size() for tensor in self.unit.state_dict().values())
        return tensors + sum(array.nbytes for array in tables)
