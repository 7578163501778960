"""Turns COCO's outlines, polygons and run lengths, into pixels, with COCO's own code as faster-coco-eval has it."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from bottlenecks.errors import UsageError

Outline: TypeAlias = "list[npt.NDArray[np.float64]] | dict[str, Any]"
"""Polygons, each x1, y1, x2, y2, ... in pixels; or COCO's run lengths."""


def parse(segmentation: Any, size: tuple[int, int]) -> Outline:
    """Read an outline.

    Stricter than COCO's own code, which takes polygons of one point and leaves out what it cannot read.

    Args:
        segmentation: a list of polygons, each x1, y1, x2, y2, ...; or `counts` and `size` of run lengths, plain or
            in COCO's letters.
        size: `(width, height)` of the image in pixels.

    Raises:
        ValueError: It is neither, encloses nothing, or does not fit the image.
    """
    if isinstance(segmentation, list):
        if not segmentation:
            raise ValueError("it has no outline")
        return [_polygon(numbers) for numbers in segmentation]
    if not isinstance(segmentation, dict) or segmentation.get("size") != [size[1], size[0]]:
        raise ValueError(f"its outline is neither polygons nor run lengths of {size[1]} rows and {size[0]} columns")
    try:
        runs = _run_lengths(segmentation.get("counts"), size)
        _coco().decode(runs)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        pixels = size[0] * size[1]
        raise ValueError(
            f"its run lengths are no whole numbers, break off, or do not add up to {pixels} pixels"
        ) from error
    return runs


def fill(outline: Outline, size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Return the pixels (H, W) that an outline of an image of `(width, height)` encloses."""
    coco = _coco()
    if isinstance(outline, list):
        outline = coco.merge(coco.frPyObjects(outline, size[1], size[0]))
    return np.asarray(coco.decode(outline), dtype=bool)


def _polygon(numbers: Any) -> npt.NDArray[np.float64]:
    try:
        points = np.array(numbers, dtype=np.float64).reshape(-1, 2)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError("its polygon is no list of x and y in turn") from error
    if len(points) < 3 or not np.isfinite(points).all():
        raise ValueError(f"its polygon of {len(points)} points encloses nothing, or has some that are no numbers")
    return points.ravel()


def _run_lengths(counts: Any, size: tuple[int, int]) -> dict[str, Any]:
    if isinstance(counts, str):
        return {"size": [size[1], size[0]], "counts": counts}
    runs = np.array(counts, dtype=np.float64)
    if (runs < 0).any() or (runs != np.floor(runs)).any():
        raise ValueError("no whole numbers")
    plain = {"size": [size[1], size[0]], "counts": runs.astype(np.int64).tolist()}
    read: dict[str, Any] = _coco().frPyObjects(plain, size[1], size[0])
    return read


def _coco() -> Any:
    try:
        from faster_coco_eval.core import mask
    except ImportError as error:
        raise UsageError(
            "data: COCO's outlines are read with faster-coco-eval; pip install 'bottlenecks[detection]'"
        ) from error
    return mask
