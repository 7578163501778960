"""One family of probability tables, from narrow to wide, and which of them codes an element; no torch."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from bottlenecks.coding.coder import TOTAL, SymbolTables
from bottlenecks.coding.escapes import IntArray

STEPS = 8  # scales and multipliers are in eighths of a table step
MAX_INDEX = 255
KIND = "scales"  # what such tables are called in JSON
MAX_ELEMENTS = 2**26  # of a latent that is read from a file

Int16Array = npt.NDArray[np.int16]
IndexArray = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class ScaleTables:
    """Tables of one family, numbered from narrow to wide; 0 stands for "nothing is coded, the symbol is zero".

    Each table lists the symbols -n to n, with counts that are symmetric about 0, and an escape behind them. A unit
    stores the tables that it uses: of all that could be, those from `first` on.

    Attributes:
        tables: row r is table `first` + r.
        first: number of the first one, 1 or more; the last one is 255 at most.

    Raises:
        ValueError: a number or a table breaks these rules.
    """

    tables: SymbolTables
    first: int = 1

    def __post_init__(self) -> None:
        if self.first < 1 or self.last > MAX_INDEX:
            raise ValueError(f"scale tables must be numbered within 1..{MAX_INDEX}, got {self.first}..{self.last}")
        rows = zip(self.tables.frequencies, self.tables.lengths, self.tables.offsets, strict=True)
        for row, (counts, length, offset) in enumerate(rows):
            listed = counts[: length - 1]
            if length != 2 - 2 * int(offset) or (listed != listed[::-1]).any():
                raise ValueError(f"a scale table must be symmetric about 0, with an escape behind; row {row} is not")

    @property
    def last(self) -> int:
        """Number of the last table."""
        return self.first + self.tables.num_channels - 1

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of the number of the first table and of the tables."""
        return hashlib.sha256(bytes([self.first]) + self.tables.digest).digest()

    def indices(self, scales: IntArray, multiplier: int = 0) -> IndexArray:
        """Find the table of each element: below the first one nothing is coded, the last one codes all above it.

        Args:
            scales: of the elements, in eighths of a table step, in any shape.
            multiplier: of the unit's steps, likewise: it adds to every scale.

        Raises:
            ValueError: the scales are no whole numbers.
        """
        if scales.dtype.kind not in "iu":
            raise ValueError(f"scales must be integers, got {scales.dtype}")
        numbers = (scales.astype(np.int64) + multiplier) // STEPS
        return np.where(numbers < self.first, 0, np.minimum(numbers, self.last)).astype(np.uint8)


def to_json(tables: ScaleTables, scales: Sequence[IntArray]) -> str:
    """Write tables, and the scale of each element of the latents, as JSON.

    `counts` has each table's counts of the symbols 0 to n: the symmetry and the sum of 2**16 give the others. The
    scales are 16-bit integers, least significant byte first, compressed by zlib and in base64.

    Args:
        tables: of the unit.
        scales: one array a tensor.

    Raises:
        ValueError: a scale is no whole number of 16 bits.
    """
    rows = zip(tables.tables.frequencies, tables.tables.lengths, tables.tables.offsets, strict=True)
    content = {
        "kind": KIND,
        "first": tables.first,
        "counts": [counts[-offset : length - 1].tolist() for counts, length, offset in rows],
        "latents": [{"shape": list(one.shape), "scales": _pack(one)} for one in scales],
    }
    return json.dumps(content) + "\n"


def from_json(text: str) -> tuple[ScaleTables, tuple[Int16Array, ...]]:
    """Read what `to_json` wrote.

    Raises:
        ValueError: it is something else, or damaged.
    """
    kind, first, counts, latents = _fields(json.loads(text), "kind", "first", "counts", "latents")
    if kind != KIND:
        raise ValueError(f"scale tables must be of kind {KIND}, got {kind}")
    if not _are_integers([first]) or not isinstance(latents, list) or not latents:
        raise ValueError("scale tables must have a whole number `first`, and latents")
    return ScaleTables(_tables_of(counts), first), tuple(_unpack(*_fields(one, "shape", "scales")) for one in latents)


def _fields(content: Any, *names: str) -> list[Any]:
    if not isinstance(content, dict) or set(content) != set(names):
        raise ValueError(f"scale tables must have {', '.join(names)} there and nothing else")
    return [content[name] for name in names]


def _tables_of(halves: Any) -> SymbolTables:
    if not isinstance(halves, list) or not halves or not all(map(_are_integers, halves)):
        raise ValueError("the counts of scale tables must be whole numbers, one list a table")
    widest = max(map(len, halves))
    if widest > TOTAL // 2:
        raise ValueError(f"a scale table must list at most {TOTAL // 2} counts, got {widest}")
    frequencies = np.zeros((len(halves), 2 * widest), dtype=np.int64)
    for row, half in zip(frequencies, halves, strict=True):
        listed = [*half[:0:-1], *half]
        row[: len(listed) + 1] = [*listed, TOTAL - sum(listed)]
    lengths = np.array([2 * len(half) for half in halves])
    return SymbolTables(frequencies, lengths, 1 - lengths // 2)


def _pack(scales: IntArray) -> str:
    if scales.dtype.kind not in "iu" or not scales.size or (scales != scales.astype(np.int16)).any():
        raise ValueError("scales must be whole numbers of 16 bits, at least one")
    return base64.b64encode(zlib.compress(scales.astype("<i2").tobytes(), 9)).decode()


def _unpack(shape: Any, scales: Any) -> Int16Array:
    if not _are_integers(shape) or min(shape) < 1 or not isinstance(scales, str):
        raise ValueError("a latent must have a shape of whole numbers, 1 or more, and scales")
    num_bytes = 2 * math.prod(shape)
    if num_bytes > 2 * MAX_ELEMENTS:
        raise ValueError(f"a latent must have at most {MAX_ELEMENTS} elements, got the shape {tuple(shape)}")
    try:
        unpacker = zlib.decompressobj()
        data = unpacker.decompress(base64.b64decode(scales, validate=True), num_bytes + 1)
    except (binascii.Error, zlib.error) as error:
        raise ValueError(f"the scales of a latent are damaged: {error}") from None
    if len(data) != num_bytes or not unpacker.eof or unpacker.unused_data:
        raise ValueError(f"the scales of a latent are damaged: they are not {num_bytes // 2} numbers of 16 bits")
    return np.frombuffer(data, dtype="<i2").astype(np.int16).reshape(shape)


def _are_integers(values: Any) -> bool:
    return (
        isinstance(values, list) and len(values) > 0 and all(type(value) is int and value < 2**31 for value in values)
    )
