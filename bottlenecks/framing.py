"""The symbols of one unit to frames and back, with every bound that its receiver keeps; no torch."""

from __future__ import annotations

import math
from collections.abc import Callable

from bottlenecks.bitstream import BitstreamError, Limits, Shape, pack, unpack
from bottlenecks.coder import Coder, Int32Array, IntArray

Size = tuple[int, int]


class Framing:
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

    def check_size(self, size: Size) -> None:
        """Refuse features of a size that no receiver takes.

        Raises:
            ValueError: they have too many positions.
        """
        if size != self.size and (self.max_scale == 1 or math.prod(size) > self.limits.max_positions):
            raise ValueError(f"features of {size} are more than {self.max_scale} times as large as {self.size}")

    def write(self, symbols: IntArray, size: Size) -> bytes:
        """Code a latent (K, h, w) of features of `size`.

        Raises:
            ValueError: no receiver takes this size, or the symbols cannot be coded.
        """
        self.check_size(size)
        return pack(self.coder.encode(symbols), self.fingerprint, None if size == self.size else size)

    def read(self, stream: bytes) -> tuple[Int32Array, Size]:
        """Decode a frame to the latent (K, h, w), and the size of its features.

        Raises:
            BitstreamError: it is damaged, of another unit, or claims more than this receiver takes.
        """
        frame = unpack(stream, self.limits)
        if frame.fingerprint != self.fingerprint:
            raise BitstreamError(
                f"this stream is for the unit {frame.fingerprint.hex()}, not for this one ({self.fingerprint.hex()})"
            )
        size = self.size if frame.shape is None else self._check(frame.shape)
        try:
            return self.coder.decode(frame.payload, (self.coder.tables.num_channels, *self.latent_size(size))), size
        except ValueError as error:
            raise BitstreamError(str(error)) from None

    def _check(self, shape: Shape) -> Size:
        if self.max_scale == 1 or len(shape) != 2 or shape == self.size:
            raise BitstreamError(f"shape {shape} is not one this unit's encoder writes")
        height, width = shape
        return height, width
