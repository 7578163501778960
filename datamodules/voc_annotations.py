"""Reads objects from Pascal VOC's XML files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias
from xml.etree import ElementTree

from bottlenecks.errors import closest
from datamodules.annotations import Objects
from datamodules.damage import unreadable

NamedObjects: TypeAlias = list[tuple[str, list[float]]] | str
"""Name and x1, y1, x2, y2 of each object of a picture, or the reason why there are none to use."""

SIDES = ("xmin", "ymin", "xmax", "ymax")


def read_annotations(folder: Path, names: Sequence[str]) -> list[NamedObjects]:
    """Read XML files; objects marked difficult are left out.

    Args:
        folder: the dataset's folder.
        names: paths of the files below it.
    """
    return [_read(folder / name, name) for name in names]


def class_names_in(annotations: Sequence[NamedObjects]) -> tuple[str, ...]:
    """Return the sorted names of all objects."""
    return tuple(sorted({name for found in annotations if not isinstance(found, str) for name, _ in found}))


def with_numbers(annotations: Sequence[NamedObjects], class_names: Sequence[str]) -> list[Objects]:
    """Put the number of its class before each object; a name that is no class is a reason not to use a picture."""
    numbers = {name: index for index, name in enumerate(class_names)}
    return [found if isinstance(found, str) else _numbered(found, numbers) for found in annotations]


def _numbered(found: list[tuple[str, list[float]]], numbers: dict[str, int]) -> Objects:
    for name, _ in found:
        if name not in numbers:
            return f"class {name!r} is unknown; there are {closest(name, list(numbers))}"
    return [[numbers[name], *box] for name, box in found]


def _read(path: Path, name: str) -> NamedObjects:
    try:
        root = ElementTree.parse(path).getroot()
        if root.tag != "annotation":
            raise ValueError(f"begins with <{root.tag}>, expected <annotation>")
        found = [entry for entry in root.iter("object") if (entry.findtext("difficult") or "0").strip() != "1"]
        return [(_text(entry, "name"), [float(_text(entry, f"bndbox/{side}")) for side in SIDES]) for entry in found]
    except (OSError, ValueError, ElementTree.ParseError) as error:
        kind = "no XML: " if isinstance(error, ElementTree.ParseError) else ""
        return f"{name}: {kind}{unreadable(error)}"


def _text(entry: ElementTree.Element, path: str) -> str:
    text = (entry.findtext(path) or "").strip()
    if not text:
        raise ValueError(f"an object without <{path.split('/')[-1]}>")
    return text
