"""Reads COCO's annotation files."""

from __future__ import annotations

import json
import os
import posixpath
from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from bottlenecks.errors import UsageError, reason
from bottlenecks.images.reading import check_regular

from .real_files import files_below, real_identity

Entry = dict[str, Any]
WAY_OUT = "put its own there"


class CocoContent(NamedTuple):
    """What a file says, a place in each list for each image, by name.

    Attributes:
        names: of the images' files, below their folder.
        sizes: `(width, height)` in pixels, or the reason why there is no annotation to use.
        entries: what is marked in each image, as the file has it; each is of a category that the file lists.
        categories: number -> name, in the order of the numbers.
    """

    names: list[str]
    sizes: list[tuple[int, int] | str]
    entries: list[list[Entry]]
    categories: dict[int, str]

    def without(self, names: Sequence[str], why: str) -> CocoContent:
        """Return the same with further images that have no annotation to use, for a reason."""
        found = dict(zip(self.names, zip(self.sizes, self.entries, strict=True), strict=True))
        found |= {name: (why, []) for name in names}
        ordered = sorted(found)
        return self._replace(
            names=ordered, sizes=[found[name][0] for name in ordered], entries=[found[name][1] for name in ordered]
        )


def read_coco(path: Path, folder: Path) -> CocoContent:
    """Read an annotation file.

    An image that the file lists twice, under whatever spelling, is given that as a reason, and so is one with an entry
    of a category that the file does not list; one that is missing is listed. torchvision's `CocoDetection` checks none
    of this.

    Args:
        path: of the file.
        folder: that its `file_name`s start from.

    Raises:
        UsageError: The file is broken.
    """
    content = _load(path)
    try:
        categories = _by_number(content["categories"], "category")
        images = _by_number(content["images"], "image")
        marked: defaultdict[Hashable, list[Entry]] = defaultdict(list)
        for entry in content["annotations"]:
            marked[entry["image_id"]].append(entry)
        names = {number: _spelt(folder, str(image["file_name"])) for number, image in images.items()}
        sizes = {number: (whole(image["width"]), whole(image["height"])) for number, image in images.items()}
        listed = {whole(number): str(category["name"]) for number, category in sorted(categories.items())}
    except (KeyError, TypeError, ValueError) as error:
        lacking = f"lacks {error}" if isinstance(error, KeyError) else reason(error)
        raise UsageError(f"{path}: no annotation file of COCO ({lacking}); {WAY_OUT}") from error
    if lost := sorted(set(marked) - set(images), key=repr):
        raise UsageError(f"{path}: annotations of {len(lost)} images that it does not list, such as {lost[0]}; mend it")
    files: defaultdict[Hashable, list[Hashable]] = defaultdict(list)
    for number, name in names.items():
        files[real_identity(os.path.join(folder, name)) or name].append(number)
    found: dict[str, tuple[tuple[int, int] | str, list[Entry]]] = {}
    for numbers in files.values():
        first = numbers[0]
        problem = _unknown(marked[first], listed, path.name)
        if len(numbers) > 1:
            problem = f"listed {len(numbers)} times in {path.name}, as images {', '.join(map(str, numbers))}"
        found[names[first]] = (problem or sizes[first], [] if problem else marked[first])
    ordered = sorted(found)
    return CocoContent(ordered, [found[name][0] for name in ordered], [found[name][1] for name in ordered], listed)


def unlisted(folder: Path, contents: Sequence[CocoContent]) -> list[str]:
    """Name the image files in a folder that no file lists, by whatever path; names in the files start from there."""
    known = Image.registered_extensions()
    paths = [path for path in files_below(folder) if os.path.splitext(path)[1].lower() in known]
    listed = {real_identity(os.path.join(folder, name)) for content in contents for name in content.names}
    return [os.path.relpath(path, folder) for path in paths if real_identity(path) not in listed]


def whole(value: Any) -> int:
    """Return a number that is whole, such as 3 or 3.0.

    Raises:
        ValueError: It is none.
    """
    if isinstance(value, bool) or not (isinstance(value, int) or (isinstance(value, float) and value.is_integer())):
        raise ValueError(f"{value!r} is no whole number")
    return int(value)


def _load(path: Path) -> Mapping[str, Any]:
    try:
        check_regular(path)
        with path.open(encoding="utf-8-sig") as file:
            return json.load(file)
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path}: no JSON ({reason(error)}); put COCO's own file there") from error


def _by_number(entries: Sequence[Entry], kind: str) -> dict[Any, Entry]:
    numbers = Counter(entry["id"] for entry in entries)
    if twice := [number for number, count in numbers.items() if count > 1]:
        raise ValueError(f"{kind} {twice[0]} is there {numbers[twice[0]]} times")
    return {entry["id"]: entry for entry in entries}


def _spelt(folder: Path, name: str) -> str:
    """Write a file's name in the one way that it has: without detours, and with slashes where Windows wrote others."""
    there = os.path.exists(os.path.join(folder, name))
    return posixpath.normpath(name if there else name.replace("\\", "/"))


def _unknown(entries: Sequence[Entry], categories: Mapping[int, str], file: str) -> str | None:
    for entry in entries:
        try:
            known = whole(entry.get("category_id")) in categories
        except ValueError:
            known = False
        if not known:
            return (
                f"annotation {entry.get('id')} is of category {entry.get('category_id')!r}, which {file} does not list"
            )
    return None
