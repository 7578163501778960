"""Values as programs hand them over: NumPy's and torch's numbers among Python's own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bottlenecks.errors import UsageError


def plain_value(value: Any) -> Any:
    """Make of arrays, tensors, paths and whatever can be gone through what JSON has.

    Numbers of 16 and 32 bits become the shortest ones that round to them: `float32(0.1)` is 0.1.
    """
    if hasattr(value, "tolist") and hasattr(value, "dtype"):
        kind = str(value.dtype).removeprefix("torch.")
        short = kind in ("float16", "float32")
        return np.array(value.tolist(), kind).astype(str).astype(float).tolist() if short else value.tolist()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {plain_value(name): plain_value(one) for name, one in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, (str, bytes)):
        return [plain_value(one) for one in value]
    return value


def check_kind(argument: str, value: object, kind: type | tuple[type, ...], way_out: str) -> None:
    """Refuse a value of another kind, or a class in the place of an object of it.

    Args:
        argument: its name.
        value: that was given.
        kind: that is expected, or several.
        way_out: what to do.

    Raises:
        UsageError: it is of another kind.
    """
    if isinstance(value, kind):
        return
    expected = " or ".join(one.__name__ for one in (kind if isinstance(kind, tuple) else (kind,)))
    found = f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__
    shown = f"={value!r}" if value is None or isinstance(value, (str, int, float)) else ""
    raise UsageError(f"{argument}{shown}: expected {expected}, got {found}; {way_out}")


def check_folder(argument: str, folder: object) -> None:
    """Refuse what is no folder and cannot become one, since a file lies there or on the way.

    Raises:
        UsageError: it is such.
    """
    check_kind(argument, folder, (str, Path), "give its path")
    path = Path(str(folder))
    for place in (path, *path.parents):
        if place.exists() and not place.is_dir():
            raise UsageError(f"{argument}={folder}: {place} is a file, expected a folder; choose another place")
