"""COCO 2017 with one of Pascal VOC's classes for each pixel, as torchvision's segmentation networks learn them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bottlenecks.pretrained import coco_classes, voc_classes
from datamodules.annotations import Annotations, Masks
from datamodules.coco_base import CocoPictures
from datamodules.coco_file import CocoFile, Entry
from datamodules.damage import DamagedPictureError
from datamodules.outlines import Outline, fill, parse

IN_COCO = {  # Pascal VOC's name -> COCO's, where they differ
    "aeroplane": "airplane",
    "diningtable": "dining table",
    "motorbike": "motorcycle",
    "pottedplant": "potted plant",
    "sofa": "couch",
    "tvmonitor": "tv",
}


class Marked(NamedTuple):
    """The objects of one picture.

    Attributes:
        size: `(width, height)` of the picture in pixels.
        labels: one for each object.
        outlines: likewise.
    """

    size: tuple[int, int]
    labels: list[int]
    outlines: list[Outline]


class CocoSegmentation(CocoPictures):
    """118,287 pictures to train on and 5,000 to judge on, with 20 classes and the background.

    Made as torchvision's reference training makes them: COCO's other classes are background, crowds count, and
    where several objects lie there is no label. A pixel belongs to a polygon that its middle lies in; pycocotools
    may differ by a pixel at the edges.
    """

    task = "segmentation"
    labels = "voc"

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """The 21 names that torchvision's networks have for them."""
        return voc_classes()

    def _annotations(self, parts: list[CocoFile]) -> list[Annotations]:
        categories = {name: index + 1 for index, name in enumerate(coco_classes())}
        labels = {categories[IN_COCO.get(name, name)]: label for label, name in enumerate(voc_classes()) if label}
        return [OutlinedMasks.of(part, labels) for part in parts]


@dataclass(frozen=True, eq=False)
class OutlinedMasks(Masks):
    """Masks drawn from outlines when they are asked for; -1 where several objects lie.

    Attributes:
        marked: (N,) of `Marked`, or of the reason why a picture's annotation cannot be used.
    """

    marked: npt.NDArray[np.object_]

    @classmethod
    def of(cls, part: CocoFile, labels: dict[int, int]) -> OutlinedMasks:
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
            DamagedPictureError: The annotation cannot be used.
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
            DamagedPictureError: The annotation cannot be used.
        """
        return self._usable(index).size

    def update(self, digest: hashlib._Hash) -> None:
        """Put labels and outlines into a digest."""
        for marked in self.marked:
            digest.update(repr((marked.size, marked.labels)).encode())
            for outline in marked.outlines:
                for part in outline:
                    digest.update(np.ascontiguousarray(part).data)

    def _usable(self, index: int) -> Marked:
        if isinstance(marked := self.marked[index], str):
            raise DamagedPictureError(marked)
        return marked


def _marked(size: tuple[int, int], entries: list[Entry], labels: dict[int, int]) -> Marked | str:
    wanted = [entry for entry in entries if entry.get("category_id") in labels]
    try:
        outlines = [parse(entry.get("segmentation"), size) for entry in wanted]
    except ValueError as error:
        return str(error)
    return Marked(size, [labels[entry["category_id"]] for entry in wanted], outlines)
