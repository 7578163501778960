"""The symbols of a unit with scale tables to frames and back, at any size and any rate; no torch."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from threading import Lock
from typing import Any

from bottlenecks.coding.bitstream import BitstreamError, Frame, Limits, Shape, pack
from bottlenecks.coding.escapes import Int32Array, IntArray
from bottlenecks.coding.framing import FramingBase, Sizes
from bottlenecks.coding.scale_coder import Order, ScaleCoder

MAX_ORDERS, MAX_PLACES = 256, 2**20  # kept of a unit: 17 MB


class ScaleFraming(FramingBase[Any]):
    """Turns the latents of one image into a frame, and a frame into latents.

    A size is (H, W) and symbols are one array (K, h, w) where one tensor crosses; where several do, tuples of these.
    Nothing that shows changes after construction: threads may share one.

    Args:
        coder: over the unit's tables.
        size: of the features that the unit was made for; frames of other sizes state theirs.
        scales: gives each latent element's scale for features of a size, one array a tensor; raises ValueError where
            the unit does not take that size.
        fingerprint: of the unit, 2 bytes.
        max_scale: features of at most this many times the height and width of `size` are taken; 1 for `size` alone.
        ranged: the unit takes any rate: its frames have a multiplier.
    """

    def __init__(
        self,
        coder: ScaleCoder,
        size: Any,
        scales: Callable[[Any], Sequence[IntArray]],
        fingerprint: bytes,
        max_scale: int = 1,
        ranged: bool = False,
    ) -> None:
        self.coder, self.size, self.scales = coder, size, scales
        self.fingerprint, self.max_scale, self.ranged = fingerprint, max_scale, ranged
        self._alone = isinstance(size[0], int)
        self._orders = OrderCache()
        self._max_positions = [max_scale**2 * math.prod(own) for own in self._each(size)]
        num_symbols = max_scale**2 * self.order(size).num_elements
        self.limits = Limits(
            max_payload_bytes=16 + 16 * num_symbols,
            max_positions=sum(self._max_positions),
            max_dims=2 * len(self._max_positions),
            ranged=ranged,
        )

    @property
    def latent_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes (K, h, w) of the latents of features of its own size, one a tensor."""
        return self.order(self.size).shapes

    def check_size(self, size: Any) -> None:
        """Refuse features of a size that no receiver takes."""
        self._check_positions(size)
        if size != self.size:
            self.scales(size)

    def order(self, size: Any, multiplier: int = 0) -> Order:
        """Find in which order the elements of features of a size are coded.

        Raises:
            ValueError: no receiver takes this size.
        """
        self._check_positions(size)
        return self._orders.get((size, multiplier), lambda: self.coder.order(self.scales(size), multiplier))

    def write(self, symbols: Any, size: Any, multiplier: int = 0) -> bytes:
        """Code the latents of features of `size`, at the multiplier by which they were quantised."""
        if multiplier and not self.ranged:
            raise ValueError(f"multiplier must be 0 for a unit of one rate, got {multiplier}")
        payload = self.coder.encode((symbols,) if self._alone else symbols, self.order(size, multiplier))
        shape = None if size == self.size else tuple(side for own in self._each(size) for side in own)
        return pack(payload, self.fingerprint, shape, self.limits.max_dims, multiplier if self.ranged else None)

    def decode(self, frame: Frame, size: Any) -> Int32Array | tuple[Int32Array, ...]:
        """Decode a frame's payload to latents."""
        symbols = self.coder.decode(frame.payload, self.order(size, frame.multiplier or 0))
        return symbols[0] if self._alone else symbols

    def stated(self, shape: Shape) -> Any:
        """Take the size from what a frame states."""
        sizes = tuple((shape[start], shape[start + 1]) for start in range(0, len(shape) - 1, 2))
        size = sizes[0] if self._alone and sizes else sizes
        if len(shape) != self.limits.max_dims or size == self.size or not self._fits(size):
            raise BitstreamError(f"shape {shape} is not one this unit's encoder writes")
        return size

    def _each(self, size: Any) -> Sizes:
        return (size,) if self._alone else size

    def _fits(self, size: Any) -> bool:
        if size == self.size or self.max_scale == 1:
            return bool(size == self.size)
        return all(math.prod(own) <= most for own, most in zip(self._each(size), self._max_positions, strict=True))

    def _check_positions(self, size: Any) -> None:
        if not self._fits(size):
            raise ValueError(f"features of {size} are more than {self.max_scale} times as large as {self.size}")


class OrderCache:
    """The orders that were used last, within bounds on their number and places; threads may share one."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Hashable, Order] = OrderedDict()
        self._lock = Lock()

    def __reduce__(self) -> tuple[type[OrderCache], tuple[()]]:
        return OrderCache, ()  # a copy begins empty

    def get(self, key: Hashable, make: Callable[[], Order]) -> Order:
        """Return what is kept under a key, or make and keep it."""
        with self._lock:
            order = self._kept.pop(key, None)
            if order is not None:
                self._kept[key] = order
                return order
        order = make()
        with self._lock:
            self._kept[key] = order
            while len(self._kept) > MAX_ORDERS or sum(len(one.places) for one in self._kept.values()) > MAX_PLACES:
                self._kept.popitem(last=False)
        return order
