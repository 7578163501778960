"""COCO 2017 with boxes."""

from functools import cached_property

from bottlenecks.backbones.pretrained import coco_classes

from .annotations import Annotations
from .coco_annotations import coco_boxes
from .coco_base import CocoImages
from .coco_content import CocoContent


class Coco(CocoImages):
    """118,287 images to train on and 5,000 to evaluate on, with 80 classes among 90 numbers.

    Crowds are left out, and so is what has neither width nor height, as torchvision's reference training does.
    """

    task = "detection"
    labels = "coco"

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """The names of the categories from 1 on as torchvision has them, `N/A` where there is none."""
        return coco_classes()

    def _annotations(self, parts: list[CocoContent]) -> list[Annotations]:
        return coco_boxes(parts, {number: number - 1 for part in parts for number in part.categories})
