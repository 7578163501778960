"""What the fields of a manifest may hold, and how one that does not is refused."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

MAX_ELEMENTS = 2**28  # of a tensor that a manifest may claim

Rule = Callable[[Any], bool]


def is_shape(value: Any) -> bool:
    """Tell three whole numbers above 0, within bounds."""
    sides = isinstance(value, list) and len(value) == 3 and all(type(side) is int and side > 0 for side in value)
    return sides and math.prod(value) <= MAX_ELEMENTS


def is_number(value: Any) -> bool:
    """Tell a number within bounds."""
    return type(value) in (int, float) and abs(value) < 1e12


def is_above_zero(value: Any) -> bool:
    """Tell a number above 0."""
    return is_number(value) and value > 0


def is_text(value: Any) -> bool:
    """Tell a text."""
    return isinstance(value, str)


def are_texts(value: Any) -> bool:
    """Tell texts by names."""
    return isinstance(value, dict) and all(isinstance(text, str) for text in value.values())


def are_shapes(value: Any) -> bool:
    """Tell a shape, or several."""
    return is_shape(value) or (isinstance(value, list) and len(value) > 1 and all(map(is_shape, value)))


def shapes_of(shape: Sequence[Any]) -> list[tuple[int, ...]]:
    """List the shapes of the tensors, of which there may be one or several."""
    return [tuple(shape)] if isinstance(shape[0], int) else [tuple(one) for one in shape]


def check(prefix: str, content: Any, expected: Mapping[str, Rule]) -> None:
    """Refuse a mapping that has other keys, or a value that breaks its rule.

    Raises:
        ValueError: it does; the message says which.
    """
    if set(content) != set(expected):
        raise ValueError(f"missing or unknown keys: {', '.join(sorted(set(content) ^ set(expected)))}")
    for name, holds in expected.items():
        if not holds(content[name]):
            raise ValueError(f"{prefix}{name}={str(content[name])[:80]}")
