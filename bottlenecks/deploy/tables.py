"""A rate's `tables.json`: what turns its symbols into bytes and back, as docs/bitstream.md has it; no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from bottlenecks.coding import scale_tables
from bottlenecks.coding.coder import Coder, SymbolTables
from bottlenecks.coding.framing import Framing, FramingBase
from bottlenecks.coding.scale_coder import ScaleCoder
from bottlenecks.coding.scale_framing import ScaleFraming
from bottlenecks.shapes import Shapes, Sizes, flat, parts_of, sizes_of


def framing_to_json(framing: FramingBase) -> str:
    """Write what `framing_from_json` reads: tables, and of scale tables each latent element's scale."""
    if isinstance(framing, ScaleFraming):
        return scale_tables.to_json(framing.coder.tables, framing.scales(framing.size))
    return json.dumps(flat([*map(_content_of, framing.tables)])) + "\n"


def framing_from_json(
    text: str, features: Shapes, latents: Shapes, fingerprint: bytes, ranged: bool = False
) -> FramingBase:
    """Read a framing for features of one size.

    Args:
        text: of `framing_to_json`.
        features: shape (C, H, W) of each tensor that crosses.
        latents: shape (K, h, w) of each latent.
        fingerprint: of a unit with scale tables; other tables have their own.
        ranged: such a unit takes any rate.

    Raises:
        ValueError, TypeError, KeyError: it is something else, or of other tensors.
    """
    content, size = json.loads(text), sizes_of(features)
    if isinstance(content, dict) and "kind" in content:
        return _with_scales(text, size, fingerprint, ranged)
    coders = [Coder(tables_of(own)) for own, _, _ in zip(parts_of(content), features, latents, strict=True)]
    return Framing(coders, size, lambda _: sizes_of(latents))


def tables_of(content: Mapping[str, Any]) -> SymbolTables:
    """Read the tables of one tensor: `offsets`, and `counts` of each channel without padding.

    Raises:
        ValueError, TypeError, KeyError: it is something else.
    """
    counts, offsets = content["counts"], np.array(content["offsets"])
    lengths = np.array([len(row) for row in counts])
    frequencies = np.zeros((len(counts), max(lengths, default=0)), dtype=np.int64)
    for padded, row in zip(frequencies, counts, strict=True):
        padded[: len(row)] = row
    return SymbolTables(frequencies, lengths, offsets)


def _content_of(tables: SymbolTables) -> dict[str, Any]:
    rows = zip(tables.frequencies, tables.lengths, strict=True)
    return {"offsets": tables.offsets.tolist(), "counts": [row[:length].tolist() for row, length in rows]}


def _with_scales(text: str, size: Sizes, fingerprint: bytes, ranged: bool) -> ScaleFraming:
    tables, scales = scale_tables.from_json(text)
    if len(scales) != len(size):
        raise ValueError(f"scales of {len(scales)} latents, {len(size)} tensors cross")
    return ScaleFraming(ScaleCoder(tables), size, lambda _: scales, fingerprint, ranged=ranged)
