"""Sizes and channels as configurations and files have them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from bottlenecks.errors import UsageError
from bottlenecks.images.geometry import Size


def square(size: Sequence[int]) -> Size:
    """Return one side of a square that has one, else both sides."""
    return size[0] if len(size) == 1 else (size[0], size[1])


def check_size(argument: str, value: Any) -> Size:
    """Return a size as one side or `(height, width)`.

    Raises:
        UsageError: it is none.
    """
    sides = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    if len(sides) in (1, 2) and all(type(side) is int and side > 0 for side in sides):
        return square(sides)
    raise UsageError(f"{argument}={value}: must be a number of pixels above 0, [height, width] or null")


def check_optional_size(argument: str, value: Any) -> Size | None:
    """Return a size, or None.

    Raises:
        UsageError: it is neither.
    """
    return None if value is None else check_size(argument, value)


def check_channels(argument: str, value: Any) -> tuple[float, float, float]:
    """Return three numbers, for red, green and blue.

    Raises:
        UsageError: they are none.
    """
    numbers = list(value) if isinstance(value, Sequence) else []
    if len(numbers) != 3 or not all(isinstance(number, int | float) and abs(number) < math.inf for number in numbers):
        raise UsageError(f"{argument}={value}: must be three numbers, for red, green and blue")
    red, green, blue = (float(number) for number in numbers)
    return red, green, blue
