"""Channels beside and below each other in one image, and back."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TypeVar

import numpy as np
import numpy.typing as npt

T = TypeVar("T", bound=np.generic)


@cache
def grid(shape: tuple[int, ...]) -> tuple[int, int]:
    """Find how many channels go below and beside each other: least circumference, then fewest empty places.

    Args:
        shape: (C, H, W).
    """
    channels, height, width = shape
    choices = [(rows, -(-channels // rows)) for rows in range(1, channels + 1)]
    return min(choices, key=lambda one: (one[0] * height + one[1] * width, one[0] * one[1]))


def tile(channels: npt.NDArray[T]) -> npt.NDArray[T]:
    """Lay channels (C, H, W) out row by row; places that are left over repeat the last channel."""
    count, height, width = channels.shape
    rows, columns = grid(channels.shape)
    filled = np.concatenate([channels, np.repeat(channels[-1:], rows * columns - count, axis=0)])
    return filled.reshape(rows, columns, height, width).transpose(0, 2, 1, 3).reshape(rows * height, columns * width)


def untile(mosaic: npt.NDArray[T], shape: Sequence[int]) -> npt.NDArray[T]:
    """Take channels of `shape` (C, H, W) out of a mosaic; what lies below or beside it is left out."""
    count, height, width = shape
    rows, columns = grid(tuple(shape))
    inside = mosaic[: rows * height, : columns * width]
    return inside.reshape(rows, height, columns, width).transpose(0, 2, 1, 3).reshape(-1, height, width)[:count]
