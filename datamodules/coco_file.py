"""Reads COCO's annotation files."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bottlenecks.errors import UsageError, reason
from datamodules.folders import DatasetNotFoundError, visible

Entry = dict[str, Any]


class CocoFile(NamedTuple):
    """What a file says, a place in each list for each picture, by name.

    Attributes:
        names: of the pictures' files.
        sizes: `(width, height)` in pixels, or the reason why there is no annotation to use.
        entries: what is marked in each picture, as the file has it.
    """

    names: list[str]
    sizes: list[tuple[int, int] | str]
    entries: list[list[Entry]]


def read_coco(root: Path, part: str, category_names: Sequence[str]) -> CocoFile:
    """Read `annotations/instances_<part>.json` and list the pictures in `<part>/`.

    A picture that the file does not list is given that as a reason; one that is missing is listed.

    Args:
        root: the dataset's folder.
        part: such as `val2017`.
        category_names: of the categories from 1 on, which the file has to agree with.

    Raises:
        DatasetNotFoundError: The file or the folder is not there.
        UsageError: The file is broken, or counts other categories.
    """
    path, pictures = root / "annotations" / f"instances_{part}.json", root / part
    for wanted, there in ((path, path.is_file()), (pictures, pictures.is_dir())):
        if not there:
            raise DatasetNotFoundError(f"data.root={root}: no {wanted}; data.root=PATH must hold COCO 2017")
    content = _load(path)
    try:
        categories = {int(category["id"]): str(category["name"]) for category in content["categories"]}
        images = {int(image["id"]): image for image in content["images"]}
        marked: defaultdict[int, list[Entry]] = defaultdict(list)
        for entry in content["annotations"]:
            marked[int(entry["image_id"])].append(entry)
        listed = {str(image["file_name"]): number for number, image in images.items()}
        sizes = {number: (int(image["width"]), int(image["height"])) for number, image in images.items()}
    except (KeyError, TypeError, ValueError) as error:
        problem = f"lacks {error}" if isinstance(error, KeyError) else reason(error)
        raise UsageError(f"{path}: no annotation file of COCO ({problem}); put its own there") from error
    _check_categories(path, categories, category_names)
    if lost := sorted(set(marked) - set(images)):
        raise UsageError(
            f"{path}: annotations of {len(lost)} pictures that it does not list, such as {lost[0]}; mend it"
        )
    unlisted = {entry.name for entry in pictures.iterdir() if visible(entry.name)} - set(listed)
    names, missing = sorted([*listed, *unlisted]), f"not listed in {path.name}"
    return CocoFile(
        names,
        [sizes[listed[name]] if name in listed else missing for name in names],
        [marked.get(listed[name], []) if name in listed else [] for name in names],
    )


def _load(path: Path) -> Mapping[str, Any]:
    try:
        with path.open(encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path}: no JSON ({reason(error)}); put COCO's own file there") from error


def _check_categories(path: Path, categories: Mapping[int, str], names: Sequence[str]) -> None:
    for number, name in categories.items():
        expected = names[number - 1] if 0 < number <= len(names) else "none"
        if name != expected:
            raise UsageError(
                f"{path}: category {number} is {name}, expected COCO's own, {expected}; "
                "for classes of your own take data=voc_xml"
            )
