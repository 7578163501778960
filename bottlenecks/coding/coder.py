"""Symbols to bytes and back, from integer probability tables alone; docs/bitstream.md specifies it."""

import hashlib
import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from constriction import stream

from bottlenecks.coding.escapes import (
    INT32,
    BoolArray,
    Int32Array,
    IntArray,
    as_int32,
    code_bits,
    decode_codes,
    encode_codes,
    from_codes,
    to_codes,
    to_entries,
)

TOTAL = 2**16  # every row of a table sums to this


@dataclass(frozen=True, eq=False)
class SymbolTables:
    """Integer probability tables of a latent, one row a channel.

    The last used entry of a row is the escape: it stands for every value that the row does not list. The
    arrays are kept as read-only int32 copies.

    Attributes:
        frequencies: counts of shape (K, L), zero padded to the right; each row sums to 2**16.
        lengths: used entries of each row, escape included, of shape (K,).
        offsets: symbol of the first entry of each row, of shape (K,).

    Raises:
        ValueError: if a shape, dtype or count breaks these rules; the message names the rule.
    """

    frequencies: IntArray
    lengths: IntArray
    offsets: IntArray

    def __post_init__(self) -> None:
        self._check_layout()
        self._check_counts()
        for name in ("frequencies", "lengths", "offsets"):
            array = np.array(getattr(self, name), dtype=np.int32, order="C")
            array.setflags(write=False)
            object.__setattr__(self, name, array)

    @classmethod
    def from_cdfs(cls, quantized_cdf: IntArray, cdf_length: IntArray, offset: IntArray) -> "SymbolTables":
        """Convert the tables of a CompressAI entropy model after its `update()`.

        Args:
            quantized_cdf: `_quantized_cdf` of shape (K, L + 1): cumulative counts from 0 to 2**16, padded.
            cdf_length: `_cdf_length` of shape (K,): used entries of each row of `quantized_cdf`.
            offset: `_offset` of shape (K,).

        Raises:
            ValueError: if what they describe is no valid table.
        """
        _check_integers("quantized_cdf", quantized_cdf, num_dims=2)
        _check_integers("cdf_length", cdf_length, num_dims=1)
        frequencies = np.diff(quantized_cdf.astype(np.int64), axis=1)
        lengths = cdf_length.astype(np.int64) - 1
        if len(lengths) == len(frequencies):
            frequencies[np.arange(frequencies.shape[1]) >= lengths[:, None]] = 0
        return cls(frequencies, lengths, offset)

    @property
    def num_channels(self) -> int:
        """Number of latent channels K."""
        return len(self.lengths)

    @cached_property
    def escapes(self) -> Int32Array:
        """Entry of the escape in each row, of shape (K, 1)."""
        return self.lengths.astype(np.int32)[:, None] - np.int32(1)

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of offsets, lengths and used counts; the width of the padding does not matter."""
        parts = [np.array([self.num_channels], dtype="<i4").tobytes()]
        for row, length, offset in zip(self.frequencies, self.lengths, self.offsets, strict=True):
            parts.append(np.array([offset, length, *row[:length]], dtype="<i4").tobytes())
        return hashlib.sha256(b"".join(parts)).digest()

    @property
    def fingerprint(self) -> bytes:
        """First two bytes of the digest: what a frame carries to name its tables."""
        return self.digest[:2]

    def _check_layout(self) -> None:
        _check_integers("frequencies", self.frequencies, num_dims=2)
        num_channels, width = self.frequencies.shape
        if num_channels < 1 or not 2 <= width <= TOTAL:
            raise ValueError(f"frequencies must have K >= 1 rows of 2 to {TOTAL} entries, got {self.frequencies.shape}")
        for name, array in (("lengths", self.lengths), ("offsets", self.offsets)):
            _check_integers(name, array, num_dims=1)
            if len(array) != num_channels:
                raise ValueError(f"{name} must have one entry for each row: {num_channels}, got {len(array)}")
        _refuse_rows((self.lengths < 2) | (self.lengths > width), f"lengths must lie in 2..{width}")

    def _check_counts(self) -> None:
        used = np.arange(self.frequencies.shape[1]) < self.lengths[:, None]
        counts, offsets = self.frequencies, self.offsets
        _refuse_rows((used & ((counts < 1) | (counts > TOTAL))).any(1), f"used counts must lie in 1..{TOTAL}")
        _refuse_rows((~used & (counts != 0)).any(1), "the padding must be zero")
        _refuse_rows(counts.sum(1, dtype=np.int64) != TOTAL, f"the counts of a row must sum to {TOTAL}")
        last_offsets = INT32.max + 2 - self.lengths.astype(np.int64)
        _refuse_rows((offsets < INT32.min) | (offsets > last_offsets), "the symbols of a row must be int32")


class Coder:
    """Codes latents by their tables with constriction's range coder.

    Nothing changes after construction: threads may share one.

    Args:
        tables: one row a latent channel.
    """

    def __init__(self, tables: SymbolTables):
        self.tables = tables
        self._models = models_of(tables)

    def __reduce__(self) -> tuple[type["Coder"], tuple[SymbolTables]]:
        return Coder, (self.tables,)  # constriction's models can be neither copied nor pickled

    def encode(self, symbols: IntArray) -> bytes:
        """Code a latent in as few bytes as still decode.

        Args:
            symbols: int32 values, in any integer dtype, of shape (K, *positions).

        Returns:
            The payload; empty where the zeros that a decoder appends say it all.

        Raises:
            ValueError: if the dtype, the shape or a value does not fit.
        """
        rows = _as_rows(symbols, self.tables)
        entries, escaped = to_entries(rows, self.tables.offsets[:, None], self.tables.escapes)
        encoder = stream.queue.RangeEncoder()
        encode = encoder.encode
        for row, categorical in zip(entries, self._models, strict=True):
            encode(row, categorical)
        if escaped is not None:
            encode_codes(encoder, to_codes(rows[escaped], *_rows_of(escaped, self.tables)))
        return seal(encoder)

    def decode(self, payload: bytes, shape: tuple[int, ...]) -> Int32Array:
        """Decode a payload; any that `encode` did not return ends in an error or in other symbols.

        Args:
            payload: the bytes of one latent.
            shape: (K, *positions); it and the length of the payload bound memory and time.

        Returns:
            Symbols of that shape.

        Raises:
            ValueError: if the shape does not fit, or no latent of that shape has this payload.
        """
        _check_shape(shape, self.tables)
        num_positions = math.prod(shape[1:])
        decoder = stream.queue.RangeDecoder(to_words(payload))
        try:
            decode = decoder.decode
            rows = [decode(categorical, num_positions) for categorical in self._models]
            entries = np.concatenate(rows).reshape(len(rows), num_positions)
            symbols: Int32Array = entries + self.tables.offsets[:, None]
            escaped = entries == self.tables.escapes
            if escaped.any():
                codes = decode_codes(decoder, int(escaped.sum()))
                symbols[escaped] = from_codes(codes, *_rows_of(escaped, self.tables))
        except AssertionError as error:  # constriction's word for data that no encoder writes
            raise ValueError("the payload is not valid for these tables") from error
        return symbols.reshape(shape)


def ideal_bits(symbols: IntArray, tables: SymbolTables) -> float:
    """Length in bits that the tables give a latent, escaped values included, before rounding to bytes.

    Args:
        symbols: int32 values, in any integer dtype, of shape (K, *positions).
        tables: one row a latent channel.

    Raises:
        ValueError: if `Coder.encode` would refuse the symbols.
    """
    rows = _as_rows(symbols, tables)
    entries, escaped = to_entries(rows, tables.offsets[:, None], tables.escapes)
    listed_bits = float(-np.log2(np.take_along_axis(tables.frequencies, entries, axis=1) / TOTAL).sum())
    if escaped is None:
        return listed_bits
    return listed_bits + code_bits(to_codes(rows[escaped], *_rows_of(escaped, tables)))


def models_of(tables: SymbolTables) -> tuple[stream.model.Categorical, ...]:
    """Build constriction's model of each row."""
    return tuple(
        stream.model.Categorical(row[:length] / TOTAL, perfect=False)
        for row, length in zip(tables.frequencies, tables.lengths, strict=True)
    )


def _check_integers(name: str, array: IntArray, num_dims: int) -> None:
    if array.dtype.kind not in "iu" or array.ndim != num_dims:
        raise ValueError(f"{name} must hold integers in {num_dims}-D, got {array.dtype} in {array.ndim}-D")


def _refuse_rows(wrong: BoolArray, rule: str) -> None:
    if wrong.any():
        raise ValueError(f"{rule}; row {int(wrong.argmax())} breaks this")


def _check_shape(shape: tuple[int, ...], tables: SymbolTables) -> None:
    if not shape or shape[0] != tables.num_channels or min(shape) < 1:
        raise ValueError(f"symbols must have shape ({tables.num_channels}, ...), none of it 0, got {shape}")


def _as_rows(symbols: IntArray, tables: SymbolTables) -> Int32Array:
    rows = as_int32(symbols)
    _check_shape(rows.shape, tables)
    return rows.reshape(tables.num_channels, -1)


def _rows_of(escaped: BoolArray, tables: SymbolTables) -> tuple[IntArray, Int32Array]:
    """Offset, and entry of the escape, of the row of each escaped symbol."""
    channels = np.nonzero(escaped)[0]
    return tables.offsets[channels], tables.escapes[channels, 0]


def seal(encoder: stream.queue.RangeEncoder) -> bytes:
    """Return the shortest bytes that, followed by zeros, lie in the encoder's final interval.

    constriction ends on the lowest multiple of a word's unit in the interval. This rounds that up to whole
    bytes as far as the interval allows, a carry included, and drops the zeros at the end.

    Args:
        encoder: has coded everything; it is left as it is.

    Returns:
        The payload: empty, or it ends in another byte than zero.
    """
    position, (lower, size) = encoder.pos()
    data: bytes = encoder.get_compressed()[: position + 1].astype(">u4").tobytes()
    last = int.from_bytes(data[-4:], "big")
    limit = last + ((size - (-lower % 2**32) - 1) >> 32)
    rounded_up = (-(-last >> num_bits) << num_bits for num_bits in (32, 24, 16, 8, 0))
    last = next(number for number in rounded_up if number <= limit)
    if last < 2**32:
        return (data[:-4] + last.to_bytes(4, "big")).rstrip(b"\0")
    carried = data[:-4].rstrip(b"\xff")  # never all of it: the interval ends below the first carry out
    return carried[:-1] + bytes([carried[-1] + 1])


def to_words(payload: bytes) -> npt.NDArray[np.uint32]:
    """Append zeros to what `seal` returned, up to whole words as constriction's decoder takes them.

    Raises:
        ValueError: it ends in a zero byte, so it is not what `seal` returned.
    """
    if payload.endswith(b"\0"):
        raise ValueError("the payload ends in a zero byte, which no encoder writes")
    return np.frombuffer(payload + bytes(-len(payload) % 4), dtype=">u4").astype(np.uint32)
