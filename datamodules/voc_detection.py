"""Pascal VOC 2012 with boxes."""

from functools import cached_property
from pathlib import Path

from bottlenecks.backbones.pretrained import voc_classes

from .annotations import Annotations
from .voc_annotations import boxes_of, read_annotations
from .voc_devkit import VocDevkit


class VocDetection(VocDevkit):
    """5,717 images to train on and 5,823 to evaluate on, with 20 classes; difficult objects are left out of both."""

    task = "detection"
    labels = "own"
    lists = "Main"

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """The names of the 20 classes."""
        return voc_classes()[1:]

    def _annotations(self, root: Path, parts: list[list[str]]) -> list[Annotations]:
        read = [read_annotations(root, [f"Annotations/{number}.xml" for number in numbers]) for numbers in parts]
        return boxes_of(read, self.class_names)
