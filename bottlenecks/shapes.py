"""Shapes of the tensors that cross a cut: always a tuple of them; in files and messages a single one stands alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeVar

MAX_ELEMENTS = 2**28  # of a tensor that a file may claim

Shape = tuple[int, ...]
Shapes = tuple[Shape, ...]
Size = tuple[int, int]  # (H, W)
Sizes = tuple[Size, ...]
T = TypeVar("T")


def flat(parts: Sequence[T]) -> T | list[T]:
    """Return what files and messages have in the place of one part a tensor: one alone, several in a list."""
    return parts[0] if len(parts) == 1 else [*parts]


def parts_of(stated: T | list[T]) -> list[T]:
    """Return the parts that `flat` wrote, where none of them is a list."""
    return stated if isinstance(stated, list) else [stated]


def flat_shapes(shapes: Shapes) -> list[Any]:
    """Return what files have in the place of shapes."""
    return flat([*map(list, shapes)])


def shapes_of(content: list[Any]) -> Shapes:
    """Return the shapes that `flat_shapes` wrote."""
    return tuple(map(tuple, [content] if isinstance(content[0], int) else content))


def sizes_of(shapes: Sequence[Shape]) -> Sizes:
    """Return (H, W) of shapes that end in it."""
    return tuple((shape[-2], shape[-1]) for shape in shapes)


def is_shape(value: Any) -> bool:
    """Tell a list of three whole numbers above 0, within bounds."""
    sides = isinstance(value, list) and len(value) == 3 and all(type(side) is int and side > 0 for side in value)
    return sides and math.prod(value) <= MAX_ELEMENTS


def are_shapes(value: Any) -> bool:
    """Tell a shape, or a list of several."""
    return is_shape(value) or (isinstance(value, list) and len(value) > 1 and all(map(is_shape, value)))


def elements_of(shapes: Shapes) -> int:
    """Count the elements of tensors of these shapes."""
    return sum(map(math.prod, shapes))
