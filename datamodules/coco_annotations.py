"""What COCO's files mark in images, as boxes and as masks."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .annotations import Annotations, Boxes, Masks, Objects
from .coco_content import CocoContent, Entry
from .damage import DamagedImageError
from .outlines import Outline, fill, parse


def coco_boxes(parts: Sequence[CocoContent], classes: Mapping[int, int]) -> list[Annotations]:
    """Make the boxes of each part of a dataset.

    Crowds are left out, and so is what has neither width nor height, as torchvision's reference training does.

    Args:
        parts: as read.
        classes: number of a category -> class.
    """
    objects = [
        [
            size if isinstance(size, str) else _objects(entries, classes)
            for size, entries in zip(part.sizes, part.entries, strict=True)
        ]
        for part in parts
    ]
    sizes = [[None if isinstance(size, str) else size for size in part.sizes] for part in parts]
    return [boxes.stating(stated) for boxes, stated in zip(Boxes.of_parts(*objects), sizes, strict=True)]


def _objects(entries: list[Entry], classes: Mapping[int, int]) -> Objects:
    """Return rows of class, x1, y1, x2, y2, or the reason why an entry cannot be used."""
    rows = []
    for entry in entries:
        try:
            x, y, width, height = (float(number) for number in entry["bbox"])
        except (KeyError, TypeError, ValueError, OverflowError):
            return f"annotation {entry.get('id')} has no bbox of four numbers"
        if not _is_crowd(entry) and width and height:
            rows.append([classes[int(entry["category_id"])], x, y, x + width, y + height])
    return rows


def _is_crowd(entry: Entry) -> bool:
    return str(entry.get("iscrowd") or 0).strip().lower() not in ("0", "0.0", "false", "")


class Marked(NamedTuple):
    """The objects of one image.

    Attributes:
        size: `(width, height)` of the image in pixels.
        labels: one for each object.
        outlines: likewise.
    """

    size: tuple[int, int]
    labels: list[int]
    outlines: list[Outline]


@dataclass(frozen=True, eq=False)
class OutlinedMasks(Masks):
    """Masks drawn from outlines when they are asked for; -1 where several objects lie.

    Attributes:
        marked: (N,) of `Marked`, or of the reason why an image's annotation cannot be used.
    """

    marked: npt.NDArray[np.object_]

    @classmethod
    def of(cls, part: CocoContent, labels: Mapping[int, int]) -> OutlinedMasks:
        """Build from a file's entries and category -> label; those of other categories are left out."""
        marked = np.empty(len(part.names), dtype=object)
        for index, (size, entries) in enumerate(zip(part.sizes, part.entries, strict=True)):
            marked[index] = size if isinstance(size, str) else _marked(size, entries, labels)
        return cls(marked)

    def __len__(self) -> int:
        return len(self.marked)

    def __getitem__(self, indices: npt.NDArray[np.int64]) -> OutlinedMasks:
        """Return the masks at these positions, in this order."""
        return replace(self, marked=self.marked[indices])

    def mask(self, index: int) -> npt.NDArray[np.int64]:
        """Return a mask (H, W), -1 where there is no label.

        Raises:
            DamagedImageError: The annotation cannot be used.
        """
        (width, height), labels, outlines = self._usable(index)
        mask, covered = np.zeros((height, width), np.int64), np.zeros((height, width), np.int64)
        for label, outline in zip(labels, outlines, strict=True):
            inside = fill(outline, (width, height))
            mask[inside] = label
            covered += inside
        return np.where(covered > 1, -1, mask)

    def size(self, index: int) -> tuple[int, int]:
        """Return `(width, height)` of a mask in pixels, as the file says.

        Raises:
            DamagedImageError: The annotation cannot be used.
        """
        return self._usable(index).size

    def update(self, digest: hashlib._Hash) -> None:
        """Put labels and outlines into a digest."""
        for marked in self.marked:
            digest.update(repr((marked.size, marked.labels)).encode())
            for outline in marked.outlines:
                for part in outline if isinstance(outline, list) else [repr(outline).encode()]:
                    digest.update(part)

    def _usable(self, index: int) -> Marked:
        if isinstance(marked := self.marked[index], str):
            raise DamagedImageError(marked)
        return marked


def _marked(size: tuple[int, int], entries: list[Entry], labels: Mapping[int, int]) -> Marked | str:
    wanted = [(labels[number], entry) for entry in entries if (number := int(entry["category_id"])) in labels]
    outlines = []
    for _, entry in wanted:
        try:
            outlines.append(parse(entry.get("segmentation"), size))
        except ValueError as error:
            return f"annotation {entry.get('id')}: {error}"
    return Marked(size, [label for label, _ in wanted], outlines)
