"""A rate's `tables.json`: what turns its symbols into bytes and back, as docs/bitstream.md has it; no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bottlenecks.coding import scale_tables
from bottlenecks.coding.coder import Coder, SymbolTables
from bottlenecks.coding.framing import Framing, FramingBase, JointFraming, Size
from bottlenecks.coding.scale_coder import ScaleCoder
from bottlenecks.coding.scale_framing import ScaleFraming

Shape = tuple[int, ...]


def framing_to_json(framing: FramingBase[Any]) -> str:
    """Write what `framing_from_json` reads: tables, and of scale tables each latent element's scale."""
    if isinstance(framing, ScaleFraming):
        return scale_tables.to_json(framing.coder.tables, framing.scales(framing.size))
    assert isinstance(framing, (Framing, JointFraming)), type(framing)
    parts = framing.parts if isinstance(framing, JointFraming) else [framing]
    contents = [_content_of(part.coder.tables) for part in parts]
    return json.dumps(contents[0] if len(contents) == 1 else contents) + "\n"


def framing_from_json(
    text: str, features: Sequence[Shape], latents: Sequence[Shape], fingerprint: bytes, ranged: bool = False
) -> FramingBase[Any]:
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
    content = json.loads(text)
    if isinstance(content, dict) and "kind" in content:
        return _with_scales(text, features, fingerprint, ranged)
    contents = content if isinstance(content, list) else [content]
    triples = zip(contents, features, latents, strict=True)
    framings = [_with_channels(tables_of(own), feature, latent) for own, feature, latent in triples]
    return framings[0] if len(framings) == 1 else JointFraming(framings)


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


def _with_channels(tables: SymbolTables, feature_shape: Shape, latent_shape: Shape) -> Framing:
    def latent_size(size: Size) -> Size:
        return latent_shape[1], latent_shape[2]

    return Framing(Coder(tables), (feature_shape[1], feature_shape[2]), latent_size)


def _with_scales(text: str, features: Sequence[Shape], fingerprint: bytes, ranged: bool) -> ScaleFraming:
    tables, scales = scale_tables.from_json(text)
    sizes = tuple((shape[1], shape[2]) for shape in features)
    if len(scales) != len(sizes):
        raise ValueError(f"scales of {len(scales)} latents, {len(sizes)} tensors cross")
    size = sizes if len(sizes) > 1 else sizes[0]
    return ScaleFraming(ScaleCoder(tables), size, lambda _: scales, fingerprint, ranged=ranged)
