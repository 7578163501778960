"""Scenes of handwritten digits with a label for each pixel: segmentation without a download."""

from .annotations import MaskArrays
from .digit_scenes import DigitScenes
from .scenes import Scenes


class DigitMasks(DigitScenes):
    """Scenes whose every pixel is background or one of ten digits."""

    task = "segmentation"
    class_names = ("background", *"0123456789")

    def _annotations(self, train: Scenes, test: Scenes) -> tuple[MaskArrays, MaskArrays]:
        return MaskArrays(train.masks), MaskArrays(test.masks)
