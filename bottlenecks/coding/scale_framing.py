"""The symbols of a unit with scale tables to frames and back, at any size and any rate; no torch."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from threading import Lock

from bottlenecks.coding.coder import SymbolTables
from bottlenecks.coding.escapes import IntArray
from bottlenecks.coding.framing import FramingBase, Symbols
from bottlenecks.coding.scale_coder import Order, ScaleCoder
from bottlenecks.shapes import Sizes

MAX_ORDERS, MAX_PLACES = 256, 2**20  # kept of a unit: 17 MB


class ScaleFraming(FramingBase):
    """Codes the latents of all tensors by one family of tables, which their scales name.

    Args:
        coder: over the unit's tables.
        size: (H, W) of the features that the unit was made for, one a tensor; frames of other sizes state theirs.
        scales: gives each latent element's scale for features of a size, one array a tensor; raises ValueError where
            the unit does not take that size.
        fingerprint: of the unit, 2 bytes.
        max_scale: features of at most this many times the height and width of `size` are taken; 1 for `size` alone.
        ranged: the unit takes any rate: its frames have a multiplier.
    """

    def __init__(
        self,
        coder: ScaleCoder,
        size: Sizes,
        scales: Callable[[Sizes], Sequence[IntArray]],
        fingerprint: bytes,
        max_scale: int = 1,
        ranged: bool = False,
    ) -> None:
        self.coder, self.scales, self._orders = coder, scales, OrderCache()
        own = self._orders.get((size, 0), lambda: coder.order(scales(size)))
        super().__init__(size, own.shapes, fingerprint, max_scale, ranged, cuts=True)

    @property
    def tables(self) -> tuple[SymbolTables]:
        """The part of the family that the scales name, alone in a tuple."""
        return (self.coder.tables.tables,)

    def check_size(self, size: Sizes) -> None:
        """Refuse features of a size that no receiver takes, or not this unit."""
        super().check_size(size)
        if size != self.size:
            self.scales(size)

    def order(self, size: Sizes, multiplier: int = 0) -> Order:
        """Find in which order the elements of features of a size are coded.

        Raises:
            ValueError: no receiver takes this size.
        """
        super().check_size(size)
        return self._orders.get((size, multiplier), lambda: self.coder.order(self.scales(size), multiplier))

    def encode(self, symbols: Sequence[IntArray], size: Sizes, multiplier: int = 0) -> bytes:
        """Code the latents of features of `size`, at the multiplier by which they were quantised."""
        return self.coder.encode(symbols, self.order(size, multiplier))

    def decode(self, payload: bytes, size: Sizes, multiplier: int = 0) -> Symbols:
        """Decode a payload to latents."""
        return self.coder.decode(payload, self.order(size, multiplier))

    def decode_cut(self, payload: bytes, size: Sizes, multiplier: int = 0) -> Symbols:
        """Decode the beginning of a payload to the symbols that are certain, and zeros."""
        return self.coder.decode_cut(payload, self.order(size, multiplier))


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
