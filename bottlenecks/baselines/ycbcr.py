"""Red, green and blue to luma and halved chroma (4:2:0) and back, as JPEG has it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from bottlenecks.baselines.base import Pixels
from bottlenecks.baselines.still import Plane
from bottlenecks.splitting.features import FloatArray

GREY = 128  # chroma of what has no colour
FROM_RGB = np.array([(0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312)], np.float32)
TO_RGB = np.array([(1, 0, 1.402), (1, -0.344136, -0.714136), (1, 1.772, 0)], np.float32)


def to_planes(pixels: Pixels) -> list[Plane]:
    """Split pixels into planes: BT.601 with full range; each chroma sample is the mean of four.

    Args:
        pixels: grey (H, W), or (H, W, 3).

    Returns:
        (H, W) alone, or with two of (ceil(H/2), ceil(W/2)).
    """
    if pixels.ndim == 2:
        return [pixels]
    luma, *chroma = np.moveaxis(pixels.astype(np.float32) @ FROM_RGB.T, -1, 0)
    half = _half(luma.shape)
    return [_to_bytes(luma), *(_to_bytes(_resize(plane, half, Image.Resampling.BOX) + GREY) for plane in chroma)]


def from_planes(planes: Sequence[Plane]) -> Pixels:
    """Join planes into pixels; chroma is enlarged bilinearly, and rounded after that alone.

    Args:
        planes: uint8 luma (H, W), alone or with chroma of half the size.

    Returns:
        (H, W) or (H, W, 3).

    Raises:
        ValueError: they are of other sizes or types.
    """
    luma, *chroma = planes
    half = _half(luma.shape)
    if any(plane.dtype != np.uint8 for plane in planes) or [plane.shape for plane in chroma] not in ([], [half, half]):
        raise ValueError(f"expected 8 bits as 4:2:0 or 4:0:0, found planes of {[plane.shape for plane in planes]}")
    if not chroma:
        return luma.astype(np.uint8)
    enlarged = [_resize(plane.astype(np.float32) - GREY, luma.shape, Image.Resampling.BILINEAR) for plane in chroma]
    return _to_bytes(np.stack([luma.astype(np.float32), *enlarged], axis=-1) @ TO_RGB.T)


def _half(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple((side + 1) // 2 for side in shape)


def _resize(plane: FloatArray, shape: Sequence[int], resampling: Image.Resampling) -> FloatArray:
    return np.asarray(Image.fromarray(plane).resize((shape[1], shape[0]), resampling))


def _to_bytes(plane: npt.NDArray[np.float32]) -> Pixels:
    return np.clip(np.rint(plane), 0, 255).astype(np.uint8)
