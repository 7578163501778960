"""Latents whose elements each have a table of one family to bytes and back, widest tables first; no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt
from constriction import stream

from bottlenecks.coder import TOTAL, models_of, seal, to_words
from bottlenecks.escapes import (
    BoolArray,
    Int32Array,
    Int64Array,
    IntArray,
    as_int32,
    code_bits,
    decode_codes,
    encode_codes,
    from_codes,
    to_codes,
    to_entries,
)
from bottlenecks.scale_tables import MAX_INDEX, ScaleTables

Shapes = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, eq=False)
class Order:
    """In which order the elements of latents are coded, and by which tables; the same for all images of one size.

    Attributes:
        shapes: of the latents, one a tensor.
        places: of each coded element among all elements, in the order of coding, (N,).
        rows: of the tables in use, from the widest to the narrowest, (R,).
        counts: number of elements of each of them, (R,).
    """

    shapes: Shapes
    places: npt.NDArray[np.intp]
    rows: npt.NDArray[np.intp]
    counts: npt.NDArray[np.intp]

    @cached_property
    def num_elements(self) -> int:
        """Number of elements, coded or not."""
        return sum(_sizes(self.shapes))

    @cached_property
    def runs(self) -> tuple[tuple[int, int, int], ...]:
        """Row of each table in use, and where its elements start and stop among the coded ones."""
        stops = np.cumsum(self.counts)
        return tuple(zip(self.rows.tolist(), (stops - self.counts).tolist(), stops.tolist(), strict=True))

    @cached_property
    def coded(self) -> tuple[BoolArray, ...]:
        """Which elements of each latent are coded."""
        flat = np.zeros(self.num_elements, dtype=np.bool_)
        flat[self.places] = True
        return _apart(flat, self.shapes)


class ScaleCoder:
    """Codes latents with one call of constriction's range coder a table; docs/bitstream.md specifies it.

    Nothing changes after construction: threads may share one.

    Args:
        tables: of the unit.
    """

    def __init__(self, tables: ScaleTables) -> None:
        self.tables = tables
        self._models = models_of(tables.tables)
        self._escapes: list[int] = tables.tables.escapes[:, 0].tolist()

    def __reduce__(self) -> tuple[type[ScaleCoder], tuple[ScaleTables]]:
        return ScaleCoder, (self.tables,)  # constriction's models can be neither copied nor pickled

    def order(self, scales: Sequence[IntArray], multiplier: int = 0) -> Order:
        """Find the order of coding: by falling table, then as the elements lie, tensor after tensor in C order.

        Args:
            scales: of the elements of each latent, in eighths of a table step, one array a tensor.
            multiplier: of the unit's steps, likewise.

        Raises:
            ValueError: the scales are no whole numbers.
        """
        indices = np.concatenate([self.tables.indices(one, multiplier).ravel() for one in scales])
        counts = np.bincount(indices, minlength=self.tables.last + 1)[self.tables.first :][::-1]
        (used,) = np.nonzero(counts)
        places = np.argsort(MAX_INDEX - indices, kind="stable")[: counts.sum()].copy()
        shapes = tuple(one.shape for one in scales)
        return Order(shapes, places, self.tables.tables.num_channels - 1 - used, counts[used])

    def encode(self, symbols: Sequence[IntArray], order: Order) -> bytes:
        """Code the latents of one image in as few bytes as still decode.

        Args:
            symbols: int32 values, in any integer dtype, one array a tensor; where nothing is coded they do not count.
            order: for their shapes.

        Returns:
            The payload; empty where the zeros that a decoder appends say it all.

        Raises:
            ValueError: a dtype, a shape or a value does not fit.
        """
        coded, (offsets, escapes) = _in_order(symbols, order), self._of_each(order)
        entries, escaped = to_entries(coded, offsets, escapes)
        places = np.flatnonzero(escaped) if escaped is not None else np.zeros(0, dtype=np.intp)
        codes = to_codes(coded[places], offsets[places], escapes[places])
        num_codes = [0, *np.searchsorted(places, [stop for _, _, stop in order.runs]).tolist()]
        encoder = stream.queue.RangeEncoder()
        for (row, start, stop), first, end in zip(order.runs, num_codes[:-1], num_codes[1:], strict=True):
            encoder.encode(entries[start:stop], self._models[row])
            if first < end:
                encode_codes(encoder, codes[first:end])
        return seal(encoder)

    def decode(self, payload: bytes, order: Order) -> tuple[Int32Array, ...]:
        """Decode a payload; any that `encode` did not return ends in an error or in other symbols.

        Args:
            payload: the bytes of one image.
            order: for its size; it and the length of the payload bound memory and time.

        Returns:
            Symbols, one array a tensor; zero where nothing is coded.

        Raises:
            ValueError: no latents of these shapes have this payload.
        """
        try:
            entries, codes = self._decode_runs(payload, order)
        except AssertionError as error:  # constriction's word for data that no encoder writes
            raise ValueError("the payload is not valid for these tables") from error
        offsets, escapes = self._of_each(order)
        symbols: Int32Array = entries + offsets
        if len(codes):
            places = np.flatnonzero(entries == escapes)
            symbols[places] = from_codes(codes, offsets[places], escapes[places])
        flat = np.zeros(order.num_elements, dtype=np.int32)
        flat[order.places] = symbols
        return _apart(flat, order.shapes)

    def ideal_bits(self, symbols: Sequence[IntArray], order: Order) -> float:
        """Length in bits that the tables give latents, escaped values included, before rounding to bytes.

        Raises:
            ValueError: `encode` would refuse the symbols.
        """
        coded, (offsets, escapes) = _in_order(symbols, order), self._of_each(order)
        entries, escaped = to_entries(coded, offsets, escapes)
        counts = self.tables.tables.frequencies[np.repeat(order.rows, order.counts), entries]
        listed_bits = float(-np.log2(counts / TOTAL).sum())
        if escaped is None:
            return listed_bits
        return listed_bits + code_bits(to_codes(coded[escaped], offsets[escaped], escapes[escaped]))

    def _decode_runs(self, payload: bytes, order: Order) -> tuple[Int32Array, Int64Array]:
        """Table entry of each coded element, and the codes of those that are escapes."""
        decoder = stream.queue.RangeDecoder(to_words(payload))
        entries = np.empty(len(order.places), dtype=np.int32)
        codes = [np.zeros(0, dtype=np.int64)]
        for row, start, stop in order.runs:
            entries[start:stop] = decoder.decode(self._models[row], stop - start)
            num_escapes = int(np.count_nonzero(entries[start:stop] == self._escapes[row]))
            if num_escapes:
                codes.append(decode_codes(decoder, num_escapes))
        return entries, np.concatenate(codes)

    def _of_each(self, order: Order) -> tuple[IntArray, Int32Array]:
        """Offset, and entry of the escape, of each coded element's table."""
        tables = self.tables.tables
        offsets = np.repeat(tables.offsets[order.rows], order.counts)
        return offsets, np.repeat(tables.escapes[order.rows, 0], order.counts)


def _sizes(shapes: Shapes) -> list[int]:
    return [math.prod(shape) for shape in shapes]


def _apart(flat: npt.NDArray[Any], shapes: Shapes) -> tuple[npt.NDArray[Any], ...]:
    stops = accumulate(_sizes(shapes))
    return tuple(flat[stop - math.prod(shape) : stop].reshape(shape) for stop, shape in zip(stops, shapes, strict=True))


def _in_order(symbols: Sequence[IntArray], order: Order) -> Int32Array:
    shapes = tuple(one.shape for one in symbols)
    if shapes != order.shapes:
        raise ValueError(f"symbols must have the shapes {order.shapes}, got {shapes}")
    flat = np.concatenate([as_int32(one).ravel() for one in symbols])
    return flat[order.places]
