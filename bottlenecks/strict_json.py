"""JSON that means one thing alone, to every program that reads it."""

from __future__ import annotations

import json
from typing import Any


def parse_json(text: str) -> Any:
    """Read JSON.

    Raises:
        ValueError: it is none, names a thing twice, or has numbers that are none.
    """
    return json.loads(text, object_pairs_hook=_once_each, parse_constant=_refuse_constant)


def check_version(name: str, value: object, own: int) -> None:
    """Refuse another version than a program's own; `true` and 1.0 are no versions.

    Raises:
        ValueError: it is one.
    """
    if type(value) is not int or value != own:
        raise ValueError(f"{name} {json.dumps(value)}, this program reads {own}")


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for name, value in pairs:
        if name in content:
            raise ValueError(f"it has {name} twice")
        content[name] = value
    return content


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")
