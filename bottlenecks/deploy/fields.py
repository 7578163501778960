"""What the fields of a manifest may hold, and how one that does not is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Rule = Callable[[Any], bool]


def is_number(value: Any) -> bool:
    """Return whether this is a number within bounds."""
    return type(value) in (int, float) and abs(value) < 1e12


def is_above_zero(value: Any) -> bool:
    """Return whether this is a number above 0."""
    return is_number(value) and value > 0


def is_text(value: Any) -> bool:
    """Return whether this is a text."""
    return isinstance(value, str)


def are_texts(value: Any) -> bool:
    """Return whether these are texts by names."""
    return isinstance(value, dict) and all(isinstance(text, str) for text in value.values())


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
