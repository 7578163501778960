"""COCO 2017 with one of Pascal VOC's classes for each pixel, as torchvision's segmentation networks learn them."""

from __future__ import annotations

from functools import cached_property

from bottlenecks.backbones.pretrained import coco_classes, voc_classes

from .annotations import Annotations
from .coco_annotations import OutlinedMasks
from .coco_base import CocoImages
from .coco_content import CocoContent

IN_COCO = {  # Pascal VOC's name -> COCO's, where they differ
    "aeroplane": "airplane",
    "diningtable": "dining table",
    "motorbike": "motorcycle",
    "pottedplant": "potted plant",
    "sofa": "couch",
    "tvmonitor": "tv",
}


class CocoSegmentation(CocoImages):
    """118,287 images to train on and 5,000 to evaluate on, with 20 classes and the background.

    Made as torchvision's reference training makes them: COCO's other classes are background, crowds count, and
    where several objects lie there is no label.
    """

    task = "segmentation"
    labels = "voc"

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """The 21 names that torchvision's networks have for them."""
        return voc_classes()

    def _annotations(self, parts: list[CocoContent]) -> list[Annotations]:
        categories = {name: index + 1 for index, name in enumerate(coco_classes())}
        labels = {categories[IN_COCO.get(name, name)]: label for label, name in enumerate(voc_classes()) if label}
        return [OutlinedMasks.of(part, labels) for part in parts]
