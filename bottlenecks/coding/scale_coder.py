"""Latents whose elements each have a table of one family to bytes and back, widest tables first; no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from constriction import stream

from bottlenecks.coding.coder import TOTAL, models_of, seal, to_words
from bottlenecks.coding.escapes import (
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
from bottlenecks.coding.scale_tables import MAX_INDEX, ScaleTables
from bottlenecks.shapes import Shapes

T = TypeVar("T", np.int32, np.int64)
MOST_BYTES = 10  # that an element takes: 24 bits, and of an escape at most 6 more and its 32
ZERO = np.zeros(1, dtype=np.int32)  # the symbol of what is not coded
largest = np.maximum.reduce


@dataclass(frozen=True, eq=False)
class Order:
    """In which order the elements of latents are coded, and by which tables; the same for all images of one size.

    Attributes:
        shapes: of the latents, one a tensor.
        places: of each coded element among all elements, in the order of coding, (N,).
        rows: of the tables in use, from the widest to the narrowest, (R,).
        counts: number of elements of each of them, (R,).
        offsets: first symbol of the table of each coded element, (N,).
        escapes: entry of the escape in it, (N,).
    """

    shapes: Shapes
    places: npt.NDArray[np.intp]
    rows: npt.NDArray[np.intp]
    counts: npt.NDArray[np.intp]
    offsets: Int32Array
    escapes: Int32Array

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
    def sources(self) -> npt.NDArray[np.intp]:
        """Where each element is among the coded ones, N where it is none of them, (number of elements,)."""
        sources = np.full(self.num_elements, len(self.places))
        sources[self.places] = np.arange(len(self.places))
        return sources

    @cached_property
    def coded(self) -> tuple[BoolArray, ...]:
        """Which elements of each latent are coded."""
        return _apart(self.sources < len(self.places), self.shapes)


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
        rows, counts, tables = self.tables.tables.num_channels - 1 - used, counts[used], self.tables.tables
        offsets, escapes = (np.repeat(own[rows], counts) for own in (tables.offsets, tables.escapes[:, 0]))
        return Order(tuple(one.shape for one in scales), places, rows, counts, as_int32(offsets), escapes)

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
        coded = _in_order(symbols, order)
        entries, escaped = to_entries(coded, order.offsets, order.escapes)
        codes = {} if escaped is None else _codes_of_rows(coded, escaped, order)
        encoder = stream.queue.RangeEncoder()
        for row, start, stop in order.runs:
            encoder.encode(entries[start:stop], self._models[row])
            if row in codes:
                encode_codes(encoder, codes[row])
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
            runs, codes = self._decode_runs(payload, order)
        except AssertionError as error:  # constriction's word for data that no encoder writes
            raise ValueError("the payload is not valid for these tables") from error
        padded = np.concatenate([*runs, ZERO])
        symbols = padded[:-1]
        places = np.flatnonzero(symbols == order.escapes) if codes else ZERO
        symbols += order.offsets
        if codes:
            symbols[places] = from_codes(np.concatenate(codes), order.offsets[places], order.escapes[places])
        return _apart(padded.take(order.sources, mode="clip"), order.shapes)

    def decode_cut(self, payload: bytes, order: Order) -> tuple[Int32Array, ...]:
        """Decode the beginning of a payload as far as it is certain: whatever follows decodes to these symbols.

        Args:
            payload: what there is of it.
            order: for its size.

        Returns:
            Symbols, one array a tensor; zero where nothing is coded, or where nothing is certain.
        """
        ends = [_decoder(payload, filling, len(order.places)) for filling in (b"\x00", b"\xff")]
        symbols = np.zeros(len(order.places) + 1, dtype=np.int32)
        for row, start, stop in order.runs:
            found = _common([_decode_entries(end, self._models[row], stop - start) for end in ends])
            (escaped,) = np.nonzero(found == self._escapes[row])
            symbols[start : start + len(found)] = found + order.offsets[start : start + len(found)]
            symbols[start + escaped] = 0
            if len(found) < stop - start:
                break
            if len(escaped):
                codes = _common([_decode_codes(end, len(escaped)) for end in ends])
                if len(codes) < len(escaped):
                    break
                places = start + escaped
                symbols[places] = from_codes(codes, order.offsets[places], order.escapes[places])
        return _apart(symbols.take(order.sources, mode="clip"), order.shapes)

    def ideal_bits(self, symbols: Sequence[IntArray], order: Order) -> float:
        """Length in bits that the tables give latents, escaped values included, before rounding to bytes.

        Raises:
            ValueError: `encode` would refuse the symbols.
        """
        coded = _in_order(symbols, order)
        entries, escaped = to_entries(coded, order.offsets, order.escapes)
        counts = self.tables.tables.frequencies[np.repeat(order.rows, order.counts), entries]
        listed_bits = float(-np.log2(counts / TOTAL).sum())
        if escaped is None:
            return listed_bits
        return listed_bits + code_bits(to_codes(coded[escaped], order.offsets[escaped], order.escapes[escaped]))

    def _decode_runs(self, payload: bytes, order: Order) -> tuple[list[Int32Array], list[Int64Array]]:
        """Entries of the elements of each table in use, and the codes of those that are escapes."""
        decoder = stream.queue.RangeDecoder(to_words(payload))
        runs, codes = [], []
        for row, start, stop in order.runs:
            entries: Int32Array = decoder.decode(self._models[row], stop - start)
            runs.append(entries)
            if largest(entries) == self._escapes[row]:  # the last entry of a table
                codes.append(decode_codes(decoder, int(np.count_nonzero(entries == self._escapes[row]))))
        return runs, codes


def _decoder(payload: bytes, filling: bytes, num_elements: int) -> stream.queue.RangeDecoder:
    """Decode what there is of a payload, and behind it nothing but one byte, for as long as elements may take."""
    words = payload + filling * (16 + MOST_BYTES * num_elements)
    return stream.queue.RangeDecoder(np.frombuffer(words[: len(words) // 4 * 4], dtype=">u4").astype(np.uint32))


def _decode_entries(decoder: stream.queue.RangeDecoder, model: Any, count: int) -> Int32Array:
    """Decode so many entries, or as many as there are in data that no encoder writes."""
    start = decoder.clone()
    try:
        entries: Int32Array = decoder.decode(model, count)
        return entries
    except AssertionError:  # constriction's word for such data
        found: list[int] = []
        with suppress(AssertionError):
            for _ in range(count):
                found.append(start.decode(model))
        return np.array(found, dtype=np.int32)


def _decode_codes(decoder: stream.queue.RangeDecoder, count: int) -> Int64Array:
    """Decode the numbers of so many escapes; none where they are not all there."""
    try:
        return decode_codes(decoder, count)
    except AssertionError:
        return np.zeros(0, dtype=np.int64)


def _common(found: Sequence[npt.NDArray[T]]) -> npt.NDArray[T]:
    """Return what two arrays begin with, both of them."""
    length = min(map(len, found))
    first, other = (one[:length] for one in found)
    (different,) = np.nonzero(first != other)
    return first[: different[0]] if len(different) else first


def _sizes(shapes: Shapes) -> list[int]:
    return [math.prod(shape) for shape in shapes]


def _apart(flat: npt.NDArray[Any], shapes: Shapes) -> tuple[npt.NDArray[Any], ...]:
    stops = accumulate(_sizes(shapes))
    return tuple(flat[stop - math.prod(shape) : stop].reshape(shape) for stop, shape in zip(stops, shapes, strict=True))


def _codes_of_rows(coded: Int32Array, escaped: BoolArray, order: Order) -> dict[int, Int64Array]:
    """Number the escaped values of each table that has any."""
    places = np.flatnonzero(escaped)
    codes = to_codes(coded[places], order.offsets[places], order.escapes[places])
    ends = np.searchsorted(places, [stop for _, _, stop in order.runs]).tolist()
    runs = zip(order.runs, [0, *ends], ends, strict=False)
    return {row: codes[first:end] for (row, _, _), first, end in runs if first < end}


def _in_order(symbols: Sequence[IntArray], order: Order) -> Int32Array:
    shapes = tuple(one.shape for one in symbols)
    if shapes != order.shapes:
        raise ValueError(f"symbols must have the shapes {order.shapes}, got {shapes}")
    flat = np.concatenate([as_int32(one).ravel() for one in symbols])
    return flat.take(order.places, mode="clip")  # the mode that looks for no places beyond the ends: twice as fast
