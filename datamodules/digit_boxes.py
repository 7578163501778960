"""Scenes of handwritten digits with a box around each: detection without a download."""

from .annotations import Boxes
from .digit_scenes import DigitScenes
from .scenes import Scenes


class DigitBoxes(DigitScenes):
    """Scenes whose digits are to be found and named."""

    task = "detection"
    class_names = tuple("0123456789")

    def _annotations(self, train: Scenes, test: Scenes) -> tuple[Boxes, Boxes]:
        first, second = Boxes.of_parts(train.objects, test.objects)
        return first, second
