"""Turns COCO's outlines of objects, polygons and run lengths, into pixels."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Outline: TypeAlias = "list[npt.NDArray[np.float32]] | npt.NDArray[np.int64]"
"""Polygons, each (points, 2) of x and y in pixels; or run lengths, off and on in turn, down the columns."""


def parse(segmentation: Any, size: tuple[int, int]) -> Outline:
    """Read an outline.

    Args:
        segmentation: a list of polygons, each x1, y1, x2, y2, ...; or `counts` and `size` of run lengths, plain or
            in COCO's letters.
        size: `(width, height)` of the picture in pixels.

    Raises:
        ValueError: It is neither, or does not fit the picture.
    """
    if isinstance(segmentation, list):
        return [_polygon(numbers) for numbers in segmentation]
    if not isinstance(segmentation, dict) or list(segmentation.get("size", [])) != [size[1], size[0]]:
        raise ValueError(f"its outline is neither polygons nor run lengths of {size[1]} rows and {size[0]} columns")
    counts = segmentation.get("counts")
    numbers = _letters(counts) if isinstance(counts, str) else counts
    runs = np.array(numbers if isinstance(numbers, list) else [])
    if runs.dtype.kind != "i" or runs.ndim != 1 or (runs < 0).any() or runs.sum() != size[0] * size[1]:
        raise ValueError(f"its run lengths do not add up to {size[0] * size[1]} pixels")
    return runs


def fill(outline: Outline, size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Return the pixels (H, W) that an outline of a picture of `(width, height)` encloses."""
    if isinstance(outline, np.ndarray):
        return np.repeat(np.arange(len(outline)) % 2 == 1, outline).reshape(size).T
    inside = np.zeros((size[1], size[0]), dtype=bool)
    for polygon in outline:
        inside |= _enclosed(polygon, size)
    return inside


def _enclosed(polygon: npt.NDArray[np.float32], size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Find the pixels whose middle has an odd number of a polygon's edges to its left."""
    (x1, y1), (x2, y2) = polygon.T.astype(np.float64), np.roll(polygon, -1, axis=0).T.astype(np.float64)
    middles = np.arange(size[1])[:, None] + 0.5
    rows, edges = np.nonzero((y1 <= middles) != (y2 <= middles))
    across = x1 + (middles - y1) * (x2 - x1) / np.where(y1 == y2, 1, y2 - y1)
    columns = np.ceil(across[rows, edges] - 0.5).clip(0, size[0]).astype(np.int64)
    odd = np.zeros((size[1], size[0] + 1), dtype=bool)
    np.logical_xor.at(odd, (rows, columns), True)
    return np.logical_xor.accumulate(odd, axis=1)[:, :-1]


def _polygon(numbers: Any) -> npt.NDArray[np.float32]:
    try:
        points = np.array(numbers, dtype=np.float32).reshape(-1, 2)
    except (TypeError, ValueError) as error:
        raise ValueError("its polygon is no list of x and y in turn") from error
    if len(points) < 3 or not np.isfinite(points).all():
        raise ValueError(f"its polygon of {len(points)} points encloses nothing, or has some that are no numbers")
    return points


def _letters(text: str) -> list[int]:
    """Decode run lengths as COCO writes them: 5 bits a letter, from the third on as the difference to the last but one.

    Raises:
        ValueError: The text breaks off.
    """
    runs: list[int] = []
    value = shift = 0
    for letter in text:
        bits = ord(letter) - 48
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                value -= 1 << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    if shift:
        raise ValueError("its run lengths break off")
    return runs
