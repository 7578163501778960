"""The symbols of one unit to frames and back, with every bound that its receiver keeps; no torch."""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from itertools import chain
from typing import NamedTuple

from bottlenecks.coding.bitstream import BitstreamError, Limits, divide, join, pack, unpack
from bottlenecks.coding.coder import Coder, Int32Array, IntArray, SymbolTables
from bottlenecks.shapes import Shape, Shapes, Sizes, elements_of, flat

Symbols = tuple[Int32Array, ...]


class Decoded(NamedTuple):
    """What a frame held.

    Attributes:
        symbols: one latent (K, h, w) a tensor.
        size: (H, W) of the features, one a tensor.
        multiplier: of the steps of a unit that takes any rate; 0 for a unit of one rate.
    """

    symbols: Symbols
    size: Sizes
    multiplier: int = 0


class FramingBase(ABC):
    """What turns the symbols of one image into a frame, and a frame into symbols.

    Nothing that shows changes after construction: threads may share one.

    Args:
        size: (H, W) of the features that the unit was made for, one a tensor; frames of other sizes state theirs.
        latent_shapes: (K, h, w) of the latents of such features.
        fingerprint: names the unit in a frame, 2 bytes.
        max_scale: features of at most this many times the height and width of `size` are taken; 1 for `size` alone.
        ranged: the unit takes any rate: its frames have a multiplier.
        cuts: payloads are worth something without their end.

    Attributes:
        limits: what a receiver takes.
    """

    def __init__(
        self,
        size: Sizes,
        latent_shapes: Shapes,
        fingerprint: bytes,
        max_scale: int = 1,
        ranged: bool = False,
        cuts: bool = False,
    ) -> None:
        self.size, self.latent_shapes, self.fingerprint, self.max_scale = size, latent_shapes, fingerprint, max_scale
        self._max_positions = [max_scale**2 * math.prod(own) for own in size]
        self.limits = Limits(
            max_payload_bytes=16 * (len(size) + max_scale**2 * elements_of(latent_shapes)),
            max_positions=sum(self._max_positions),
            max_dims=2 * len(size),
            ranged=ranged,
            cuts=cuts,
        )

    @property
    @abstractmethod
    def tables(self) -> tuple[SymbolTables, ...]:
        """The tables that symbols are coded by: one for each tensor, or one family for all."""

    def check_size(self, size: Sizes) -> None:
        """Refuse features of a size that no receiver takes.

        Raises:
            ValueError: they have too many positions.
        """
        if not self._fits(size):
            times = f"{self.max_scale} times as large as {flat(self.size)}"
            raise ValueError(f"features of {flat(size)} are more than {times}")

    def write(self, symbols: Sequence[IntArray], size: Sizes, multiplier: int = 0, *, cuttable: bool = False) -> bytes:
        """Code the symbols of one image, whose features have this size, into a frame.

        Args:
            symbols: one latent (K, h, w) a tensor.
            size: (H, W) of the features, one a tensor.
            multiplier: of the steps by which they were quantised.
            cuttable: let the frame lose its end.

        Raises:
            ValueError: no receiver takes this size, or the symbols cannot be coded, or not cut.
        """
        if cuttable and not self.limits.cuts:
            raise ValueError("cuttable=True: payloads of this unit are worth nothing without their end")
        if multiplier and not self.limits.ranged:
            raise ValueError(f"multiplier must be 0 for a unit of one rate, got {multiplier}")
        payload = self.encode(symbols, size, multiplier)
        shape = None if size == self.size else tuple(chain.from_iterable(size))
        own = multiplier if self.limits.ranged else None
        return pack(payload, self.fingerprint, shape, self.limits.max_dims, own, cuttable)

    def read(self, stream: bytes) -> Decoded:
        """Decode a frame to the symbols, the size of the features, and the multiplier.

        Raises:
            BitstreamError: it is damaged, of another unit, or claims more than this receiver takes.
        """
        frame = unpack(stream, self.limits)
        if frame.fingerprint != self.fingerprint:
            raise BitstreamError(
                f"this stream is for the unit {frame.fingerprint.hex()}, not for this one ({self.fingerprint.hex()})"
            )
        size = self.size if frame.shape is None else self._stated(frame.shape)
        multiplier = frame.multiplier or 0
        decode = self.decode_cut if frame.missing else self.decode
        try:
            return Decoded(decode(frame.payload, size, multiplier), size, multiplier)
        except ValueError as error:
            raise BitstreamError(str(error)) from None

    @abstractmethod
    def encode(self, symbols: Sequence[IntArray], size: Sizes, multiplier: int = 0) -> bytes:
        """Code the symbols of one image into a payload.

        Raises:
            ValueError: no receiver takes this size, or the symbols cannot be coded.
        """

    @abstractmethod
    def decode(self, payload: bytes, size: Sizes, multiplier: int = 0) -> Symbols:
        """Decode a payload to symbols.

        Raises:
            ValueError: it is none of `encode`'s, or features of this size are not taken.
        """

    def decode_cut(self, payload: bytes, size: Sizes, multiplier: int = 0) -> Symbols:
        """Decode the beginning of a payload to the symbols that are certain, and zeros.

        Raises:
            ValueError: there is nothing in it without its end, or features of this size are not taken.
        """
        raise ValueError("a payload of this unit is worth nothing without its end")

    def _stated(self, shape: Shape) -> Sizes:
        """Take the size from what a frame states."""
        size = tuple(zip(shape[::2], shape[1::2], strict=False))
        if len(shape) != self.limits.max_dims or size == self.size or not self._fits(size):
            raise BitstreamError(f"shape {shape} is not one this unit's encoder writes")
        return size

    def _fits(self, size: Sizes) -> bool:
        if size == self.size or self.max_scale == 1:
            return size == self.size
        return all(math.prod(own) <= most for own, most in zip(size, self._max_positions, strict=True))


class Framing(FramingBase):
    """Codes each tensor's latent by tables of its own, one a channel.

    Args:
        coders: over the tables, one a tensor.
        size: (H, W) of the features that the unit was made for, one a tensor; frames of other sizes state theirs.
        latent_size: gives (h, w) of the latents for features of such sizes.
        max_scale: features of at most this many times the height and width of `size` are taken; 1 for `size` alone.
    """

    def __init__(
        self, coders: Sequence[Coder], size: Sizes, latent_size: Callable[[Sizes], Sizes], max_scale: int = 1
    ) -> None:
        self.coders, self.latent_size = tuple(coders), latent_size
        digests = [tables.digest for tables in self.tables]
        digest = digests[0] if len(digests) == 1 else hashlib.sha256(b"".join(digests)).digest()
        super().__init__(size, self._shapes(size), digest[:2], max_scale)

    @property
    def tables(self) -> tuple[SymbolTables, ...]:
        """The tables of each tensor."""
        return tuple(coder.tables for coder in self.coders)

    def encode(self, symbols: Sequence[IntArray], size: Sizes, multiplier: int = 0) -> bytes:
        """Code one latent (K, h, w) a tensor."""
        self.check_size(size)
        return join([coder.encode(latent) for coder, latent in zip(self.coders, symbols, strict=True)])

    def decode(self, payload: bytes, size: Sizes, multiplier: int = 0) -> Symbols:
        """Decode a payload to one latent (K, h, w) a tensor."""
        parts = zip(self.coders, divide(payload, len(self.coders)), self._shapes(size), strict=True)
        return tuple(coder.decode(own, shape) for coder, own, shape in parts)

    def _shapes(self, size: Sizes) -> Shapes:
        latents = zip(self.coders, self.latent_size(size), strict=True)
        return tuple((coder.tables.num_channels, *own) for coder, own in latents)
