"""Pascal VOC 2012 with a class for each pixel."""

from functools import cached_property
from pathlib import Path

import numpy as np

from bottlenecks.backbones.pretrained import voc_classes

from .annotations import Annotations
from .mask_files import MaskFiles
from .voc_devkit import VocDevkit

VOID = 255


class Voc(VocDevkit):
    """1,464 images to train on and 1,449 to evaluate on, with 20 classes and the background."""

    task = "segmentation"
    labels = "voc"
    lists = "Segmentation"

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """The 21 names that torchvision's networks have for them."""
        return voc_classes()

    def _annotations(self, root: Path, parts: list[list[str]]) -> list[Annotations]:
        names = [np.array([f"SegmentationClass/{number}.png" for number in numbers]) for numbers in parts]
        return [MaskFiles(part, str(root), len(self.class_names), VOID) for part in names]
