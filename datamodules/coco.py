"""COCO 2017 with boxes."""

from functools import cached_property

from bottlenecks.pretrained import coco_classes
from datamodules.annotations import Annotations, Boxes, Objects
from datamodules.coco_base import CocoPictures
from datamodules.coco_file import CocoFile, Entry


class Coco(CocoPictures):
    """118,287 pictures to train on and 5,000 to judge on, with 80 classes among 90 numbers.

    Crowds are left out, and so is what has neither width nor height, as torchvision's reference training does.
    """

    task = "detection"
    labels = "coco"

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """The names of the categories from 1 on as torchvision has them, `N/A` where there is none."""
        return coco_classes()

    def _annotations(self, parts: list[CocoFile]) -> list[Annotations]:
        most = len(self.class_names)
        objects = [
            [
                size if isinstance(size, str) else _objects(entries, most)
                for size, entries in zip(part.sizes, part.entries, strict=True)
            ]
            for part in parts
        ]
        return list(Boxes.of_parts(*objects))


def _objects(entries: list[Entry], most: int) -> Objects:
    """Give rows of class, x1, y1, x2, y2, or the reason why an entry cannot be used."""
    rows = []
    for entry in entries:
        try:
            x, y, width, height = (float(number) for number in entry["bbox"])
            category = int(entry["category_id"])
        except (KeyError, TypeError, ValueError):
            return f"annotation {entry.get('id')} has no category_id, or a bbox other than four numbers"
        if not 1 <= category <= most:
            return f"annotation {entry.get('id')} is of category {category}; there are 1 to {most}"
        if not entry.get("iscrowd") and width and height:
            rows.append([category - 1, x, y, x + width, y + height])
    return rows
