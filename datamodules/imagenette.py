"""Imagenette: ten easily told classes of ImageNet, with ImageNet's labels."""

from functools import cached_property
from pathlib import Path
from typing import Any

from torchvision import datasets

from bottlenecks.backbones.pretrained import imagenet_classes
from bottlenecks.settings.data import IMAGENETTE, check_data

from .base import ImageDataModule
from .download import fetch
from .folders import labelled_parts
from .layout import existing_folder, parts_in
from .source import Images

INDICES = {  # synset -> ImageNet's index
    "n01440764": 0,
    "n02102040": 217,
    "n02979186": 482,
    "n03000684": 491,
    "n03028079": 497,
    "n03394916": 566,
    "n03417042": 569,
    "n03425413": 571,
    "n03445777": 574,
    "n03888257": 701,
}


class Imagenette(ImageDataModule):
    """9,469 images to train on and 3,925 to evaluate on, of ten classes of ImageNet.

    `root` holds what torchvision unpacks to, such as `imagenette2-320/`, or `{train,val}/<synset>/*`.

    Args:
        size: shortest side of the images: `full`, `320px` or `160px`.
        download: fetch torchvision's copy into `root` where it is not there.
        **settings: as for `ImageDataModule`.

    Raises:
        UsageError: There is no such size.
    """

    labels = "imagenet"

    def __init__(self, *, root: str, size: str = "320px", download: bool = True, **settings: Any) -> None:
        super().__init__(root=root, **settings)
        check_data({"size": size})
        self.root: str = root
        self.size = size
        self.download = download

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """ImageNet's 1,000 names, of which ten occur."""
        return imagenet_classes()

    def prepare_data(self) -> None:
        """Download where that is wanted and nothing is there.

        Raises:
            DatasetNotFoundError: It could not be fetched.
        """
        folder, place = IMAGENETTE[self.size], Path(self.root).expanduser()
        if self.download and not ((place / folder).is_dir() or "train" in parts_in(place)):
            fetch(
                "Imagenette",
                self.root,
                folder,
                lambda partial: datasets.Imagenette(partial, size=self.size, download=True),
            )

    def _sources(self) -> tuple[Images, Images | None]:
        folder = IMAGENETTE[self.size]
        root = existing_folder(self.root, f"{folder}/ or {{train,val}}/<synset>/*")
        unpacked = root / folder if (root / folder).is_dir() else root
        return labelled_parts(unpacked, INDICES, "classes of Imagenette", parts=["val"], divided=True)
