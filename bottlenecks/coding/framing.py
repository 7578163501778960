"""The symbols of one unit to frames and back, with every bound that its receiver keeps; no torch."""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from bottlenecks.coding.bitstream import BitstreamError, Frame, Limits, Shape, divide, join, pack, unpack
from bottlenecks.coding.coder import Coder, Int32Array, IntArray

Size = tuple[int, int]
Sizes = tuple[Size, ...]
S = TypeVar("S")


class Decoded(NamedTuple):
    """What a frame held.

    Attributes:
        symbols: a latent (K, h, w), or one a tensor.
        size: (H, W) of the features, or one a tensor.
        multiplier: of the steps of a unit that takes any rate; 0 for a unit of one rate.
    """

    symbols: Any
    size: Any
    multiplier: int = 0


class FramingBase(ABC, Generic[S]):
    """What turns the symbols of one image into a frame, and a frame into symbols.

    Attributes:
        size: of the features that the unit was made for; frames of other sizes state theirs.
        fingerprint: names the unit in a frame.
        limits: what a receiver takes.
    """

    size: S
    fingerprint: bytes
    limits: Limits

    @property
    @abstractmethod
    def latent_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes (K, h, w) of the latents of features of its own size, one a tensor."""

    @abstractmethod
    def check_size(self, size: S) -> None:
        """Refuse features of a size that no receiver takes.

        Raises:
            ValueError: they have too many positions.
        """

    @abstractmethod
    def write(self, symbols: Any, size: S) -> bytes:
        """Code the symbols of one image, whose features have this size, into a frame.

        Raises:
            ValueError: no receiver takes this size, or the symbols cannot be coded.
        """

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
        size = self.size if frame.shape is None else self.stated(frame.shape)
        try:
            return Decoded(self.decode(frame, size), size, frame.multiplier or 0)
        except ValueError as error:
            raise BitstreamError(str(error)) from None

    @abstractmethod
    def stated(self, shape: Shape) -> S:
        """Take the size from what a frame states.

        Raises:
            BitstreamError: it is none that this unit's encoder states.
        """

    @abstractmethod
    def decode(self, frame: Frame, size: S) -> Any:
        """Decode a frame's payload to symbols.

        Raises:
            ValueError: it is none of `write`'s, or features of this size are not taken.
        """


class Framing(FramingBase[Size]):
    """Turns the latent of one image into a frame, and a frame into a latent.

    Nothing changes after construction: threads may share one.

    Args:
        coder: over the unit's tables.
        size: (H, W) of the features that the unit was made for; frames of other sizes state theirs.
        latent_size: (h, w) of the latent for features of (H, W).
        max_scale: features of at most this many times the height and width of `size` are taken; 1 for `size` alone.
    """

    def __init__(self, coder: Coder, size: Size, latent_size: Callable[[Size], Size], max_scale: int = 1) -> None:
        self.coder, self.size, self.latent_size, self.max_scale = coder, size, latent_size, max_scale
        self.fingerprint = coder.tables.fingerprint
        num_symbols = max_scale**2 * math.prod(latent_size(size)) * coder.tables.num_channels
        self.limits = Limits(max_payload_bytes=16 + 16 * num_symbols, max_positions=max_scale**2 * math.prod(size))

    @property
    def latent_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shape (K, h, w) of the latent of features of its own size, alone in a tuple."""
        return ((self.coder.tables.num_channels, *self.latent_size(self.size)),)

    def check_size(self, size: Size) -> None:
        """Refuse features of a size that no receiver takes."""
        if size != self.size and (self.max_scale == 1 or math.prod(size) > self.limits.max_positions):
            raise ValueError(f"features of {size} are more than {self.max_scale} times as large as {self.size}")

    def write(self, symbols: IntArray, size: Size) -> bytes:
        """Code a latent (K, h, w) of features of `size`."""
        self.check_size(size)
        return pack(self.coder.encode(symbols), self.fingerprint, None if size == self.size else size)

    def decode(self, frame: Frame, size: Size) -> Int32Array:
        """Decode a frame's payload to the latent (K, h, w)."""
        return self.decode_payload(frame.payload, size)

    def decode_payload(self, payload: bytes, size: Size) -> Int32Array:
        """Decode a payload to the latent (K, h, w)."""
        return self.coder.decode(payload, (self.coder.tables.num_channels, *self.latent_size(size)))

    def stated(self, shape: Shape) -> Size:
        """Take (H, W) from what a frame states."""
        if self.max_scale == 1 or len(shape) != 2 or shape == self.size:
            raise BitstreamError(f"shape {shape} is not one this unit's encoder writes")
        height, width = shape
        return height, width


class JointFraming(FramingBase[Sizes]):
    """Turns the latents of several tensors of one image into one frame, and back.

    Args:
        parts: one a tensor, in their order.
    """

    def __init__(self, parts: Sequence[Framing]) -> None:
        self.parts = tuple(parts)
        self.size = tuple(part.size for part in self.parts)
        digests = b"".join(part.coder.tables.digest for part in self.parts)
        self.fingerprint = hashlib.sha256(digests).digest()[:2]
        limits = [part.limits for part in self.parts]
        payload = sum(limit.max_payload_bytes + 5 for limit in limits)
        self.limits = Limits(payload, sum(limit.max_positions for limit in limits), 2 * len(self.parts))

    @property
    def latent_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes (K, h, w) of the latents of features of its own size, one a tensor."""
        return tuple(shape for part in self.parts for shape in part.latent_shapes)

    def check_size(self, size: Sizes) -> None:
        """Refuse features of a size that no receiver takes."""
        for part, own in zip(self.parts, size, strict=True):
            part.check_size(own)

    def write(self, symbols: Sequence[IntArray], size: Sizes) -> bytes:
        """Code one latent (K, h, w) a tensor."""
        self.check_size(size)
        payload = join([part.coder.encode(latent) for part, latent in zip(self.parts, symbols, strict=True)])
        shape = None if size == self.size else tuple(side for own in size for side in own)
        return pack(payload, self.fingerprint, shape, self.limits.max_dims)

    def decode(self, frame: Frame, size: Sizes) -> tuple[Int32Array, ...]:
        """Decode a frame's payload to one latent (K, h, w) a tensor."""
        payloads = divide(frame.payload, len(self.parts))
        return tuple(part.decode_payload(one, own) for part, one, own in zip(self.parts, payloads, size, strict=True))

    def stated(self, shape: Shape) -> Sizes:
        """Take one (H, W) a tensor from what a frame states."""
        size = tuple((shape[start], shape[start + 1]) for start in range(0, len(shape) - 1, 2))
        try:
            if len(shape) % 2 or size == self.size:
                raise ValueError
            self.check_size(size)
        except ValueError:
            raise BitstreamError(f"shape {shape} is not one this unit's encoder writes") from None
        return size
