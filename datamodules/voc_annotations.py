"""Reads objects from Pascal VOC's XML files."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias
from xml.etree import ElementTree

from bottlenecks.errors import closest
from bottlenecks.images.reading import check_regular, unreadable

from .annotations import Annotations, Boxes, Objects


class Found(NamedTuple):
    """What an annotation says.

    Attributes:
        objects: name and x1, y1, x2, y2 of each.
        size: `(width, height)` of the image in pixels; None where it is not stated.
    """

    objects: list[tuple[str, list[float]]]
    size: tuple[int, int] | None


NamedObjects: TypeAlias = Found | str
"""What an annotation says, or the reason why it cannot be used."""

DECLARED = re.compile(rb"""(?:\xef\xbb\xbf)?<\?xml[^>]*?encoding\s*=\s*["']([^"'>]+)["']""")
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
    return tuple(sorted({name for found in annotations if not isinstance(found, str) for name, _ in found.objects}))


def with_numbers(annotations: Sequence[NamedObjects], class_names: Sequence[str]) -> list[Objects]:
    """Put the number of its class before each object; a name that is no class is a reason not to use an image."""
    numbers = {name: index for index, name in enumerate(class_names)}
    return [found if isinstance(found, str) else _numbered(found.objects, numbers) for found in annotations]


def boxes_of(parts: Sequence[Sequence[NamedObjects]], class_names: Sequence[str]) -> list[Annotations]:
    """Make the boxes of each part of a dataset."""
    made = Boxes.of_parts(*(with_numbers(found, class_names) for found in parts))
    sizes = [[None if isinstance(one, str) else one.size for one in found] for found in parts]
    return [boxes.stating(stated) for boxes, stated in zip(made, sizes, strict=True)]


def _numbered(found: list[tuple[str, list[float]]], numbers: dict[str, int]) -> Objects:
    for name, _ in found:
        if name not in numbers:
            return f"class {name!r} is unknown; there are {closest(name, list(numbers))}"
    return [[numbers[name], *box] for name, box in found]


def _read(path: Path, name: str) -> NamedObjects:
    try:
        root = _parse(path)
        if root.tag != "annotation":
            raise ValueError(f"begins with <{root.tag}>, expected <annotation>")
        found = [entry for entry in root.iter("object") if not _is_difficult(entry)]
        boxes = [(_text(entry, "name"), [float(_text(entry, f"bndbox/{side}")) for side in SIDES]) for entry in found]
        return Found(boxes, _stated_size(root))
    except (OSError, ValueError, ElementTree.ParseError) as error:
        kind = "no XML: " if isinstance(error, ElementTree.ParseError) else ""
        return f"{name}: {kind}{unreadable(error)}"


def _parse(path: Path) -> ElementTree.Element:
    """Parse a file in whatever encoding it says; UTF-8 where Python knows none of that name or the file is not in it.

    ElementTree itself ends in errors of several kinds there, and of encodings of several bytes takes UTF alone.
    """
    check_regular(path)
    content = path.read_bytes()
    declared = DECLARED.match(content)
    if declared is None:
        return ElementTree.fromstring(content)
    encoding = declared[1].decode("ascii", "replace")
    for name in (encoding, "utf-8"):
        try:
            return ElementTree.fromstring(content.decode(name).lstrip("\ufeff"))
        except (LookupError, UnicodeError, ElementTree.ParseError) as error:
            last = error
    if isinstance(last, ElementTree.ParseError):
        raise last
    raise ValueError(f"its encoding, {encoding}, is unknown or not the one that it is in; save it as UTF-8")


def _text(entry: ElementTree.Element, path: str) -> str:
    text = (entry.findtext(path) or "").strip()
    if not text:
        raise ValueError(f"an object without <{path.split('/')[-1]}>")
    return text


def _is_difficult(entry: ElementTree.Element) -> bool:
    return (entry.findtext("difficult") or "0").strip().lower() in ("1", "1.0", "true", "yes")


def _stated_size(root: ElementTree.Element) -> tuple[int, int] | None:
    """Read `<size>`; some tools leave it out, or write 0 where they do not know it."""
    width, height = (float(root.findtext(f"size/{side}") or 0) for side in ("width", "height"))
    if not (math.isfinite(width) and math.isfinite(height)):
        raise ValueError(f"<size> of {width:g} x {height:g} is none")
    return (int(width), int(height)) if width and height else None
