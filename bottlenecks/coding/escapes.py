"""How values that a table does not list are numbered and coded; every coder of symbols shares it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from constriction import stream

INT32 = np.iinfo(np.int32)

IntArray = npt.NDArray[np.integer[Any]]
Int32Array = npt.NDArray[np.int32]
Int64Array = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

_CHUNK_BITS = 16
_NUM_CODE_LENGTHS = 33  # an int32 lies less than 2**32 outside of its row, so its code is below 2**33
_CODE_LENGTHS = stream.model.Uniform(_NUM_CODE_LENGTHS)
_ANY_UNIFORM = stream.model.Uniform()
_UNIFORMS = {num_bits: stream.model.Uniform(2**num_bits) for num_bits in range(1, _CHUNK_BITS + 1)}
_FEW = 32  # codes, up to which one after the other takes less time than all at once
_POWERS = np.left_shift(1, np.arange(_CHUNK_BITS + 1, dtype=np.int32))


def as_int32(symbols: IntArray) -> Int32Array:
    """Take symbols of any integer dtype as int32.

    Raises:
        ValueError: they are no integers, or beyond int32.
    """
    if symbols.dtype.kind not in "iu":
        raise ValueError(f"symbols must be integers, got {symbols.dtype}")
    if symbols.dtype != np.int32 and symbols.size and (symbols.min() < INT32.min or symbols.max() > INT32.max):
        raise ValueError(f"symbols must lie within int32, got {symbols.min()}..{symbols.max()}")
    return symbols.astype(np.int32, copy=False)


def to_entries(symbols: Int32Array, offsets: IntArray, escapes: Int32Array) -> tuple[Int32Array, BoolArray | None]:
    """Find the table entry of each symbol.

    Args:
        symbols: to code.
        offsets: first symbol of each one's row, in a shape that broadcasts.
        escapes: entry of the escape in each one's row, likewise.

    Returns:
        The entries, and which of them are escapes; None where none is.
    """
    # Differences wrap, but never from an unlisted symbol onto a listed one: as unsigned they all lie above.
    entries: Int32Array = symbols - offsets
    distances, limits = entries.view(np.uint32), escapes.view(np.uint32)
    escaped = distances >= limits
    if not escaped.any():
        return entries, None
    np.minimum(distances, limits, out=distances)
    return entries, escaped


def to_codes(values: Int32Array, offsets: IntArray, escapes: Int32Array) -> Int64Array:
    """Number values outside of their rows outwards: 1, 3, 5, ... above a row and 2, 4, 6, ... below it."""
    distances = values.astype(np.int64) - offsets
    return np.where(distances < 0, -2 * distances, 2 * (distances - escapes) + 1)


def from_codes(codes: Int64Array, offsets: IntArray, escapes: Int32Array) -> Int64Array:
    """Turn the numbers of `to_codes` back into values.

    Raises:
        ValueError: one is beyond int32.
    """
    half = codes // 2
    values: Int64Array = np.where(codes % 2 == 0, -half, escapes + half) + offsets
    if values.min() < INT32.min or values.max() > INT32.max:
        raise ValueError("the payload holds an escaped value outside of int32")
    return values


def encode_codes(encoder: stream.queue.RangeEncoder, codes: Int64Array) -> None:
    """Code numbers of 1 to 2**33 - 1, at least one."""
    if len(codes) <= _FEW:
        _encode_few(encoder, codes.tolist())
        return
    num_bits = _num_tail_bits(codes)
    encoder.encode(num_bits, _CODE_LENGTHS)
    for shift, present, sizes in _chunks(num_bits):
        chunk = (codes[present] >> shift) & (sizes - 1)
        encoder.encode(chunk.astype(np.int32), _ANY_UNIFORM, sizes)


def decode_codes(decoder: stream.queue.RangeDecoder, count: int) -> Int64Array:
    """Decode so many numbers, at least one."""
    if count <= _FEW:
        return _decode_few(decoder, count)
    num_bits: Int32Array = decoder.decode(_CODE_LENGTHS, count)
    codes = np.int64(1) << num_bits.astype(np.int64)
    for shift, present, sizes in _chunks(num_bits):
        codes[present] |= decoder.decode(_ANY_UNIFORM, sizes).astype(np.int64) << shift
    return codes


def _encode_few(encoder: stream.queue.RangeEncoder, codes: Sequence[int]) -> None:
    for code in codes:
        encoder.encode(code.bit_length() - 1, _CODE_LENGTHS)
    for shift in (0, _CHUNK_BITS):
        for code in codes:
            size = min(code.bit_length() - 1 - shift, _CHUNK_BITS)
            if size > 0:
                encoder.encode(code >> shift & (1 << size) - 1, _UNIFORMS[size])


def _decode_few(decoder: stream.queue.RangeDecoder, count: int) -> Int64Array:
    num_bits = [decoder.decode(_CODE_LENGTHS) for _ in range(count)]
    codes = [1 << bits for bits in num_bits]
    for shift in (0, _CHUNK_BITS):
        for place, bits in enumerate(num_bits):
            if bits > shift:
                codes[place] |= decoder.decode(_UNIFORMS[min(bits - shift, _CHUNK_BITS)]) << shift
    return np.array(codes, dtype=np.int64)


def code_bits(codes: Int64Array) -> float:
    """Length in bits of numbers, all together."""
    return len(codes) * math.log2(_NUM_CODE_LENGTHS) + float(_num_tail_bits(codes).sum())


def _num_tail_bits(codes: Int64Array) -> Int32Array:
    """Number of bits below the leading one."""
    return np.frexp(codes.astype(np.float64))[1] - np.int32(1)


def _chunks(num_bits: Int32Array) -> Iterator[tuple[int, BoolArray, Int32Array]]:
    """The 16 low bits, then the rest: their position, which codes have any, and 2**bits for each of those."""
    for shift in (0, _CHUNK_BITS):
        present = num_bits > shift
        if present.any():
            yield shift, present, _POWERS[np.minimum(num_bits[present] - shift, _CHUNK_BITS)]
