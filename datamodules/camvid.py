"""CamVid: road scenes with a class for each pixel."""

from pathlib import Path

import numpy as np

from .annotations import Annotations
from .mask_files import MaskFiles
from .pairs import PairedFolders, Pairs


class CamVid(PairedFolders):
    """Frames of videos from a car, 480x360, with eleven classes.

    `root` holds `{train,val}/{images,labels}`; a mask's label 11 is no class.
    """

    task = "segmentation"
    labels = "own"
    kind, suffixes = "labels", (".png",)
    class_names = (
        "Sky",
        "Building",
        "Pole",
        "Road",
        "Pavement",
        "Tree",
        "SignSymbol",
        "Fence",
        "Car",
        "Pedestrian",
        "Bicyclist",
    )

    def _annotations(self, root: Path, parts: list[Pairs]) -> list[Annotations]:
        num_classes = len(self.class_names)
        return [MaskFiles(np.array(part.annotations), str(root), num_classes, void=num_classes) for part in parts]
