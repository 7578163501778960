"""CIFAR-10, from torchvision or from a folder of images."""

from pathlib import Path
from typing import Any

import numpy as np
from torchvision import datasets

from bottlenecks.errors import UsageError

from .base import ImageDataModule
from .download import fetch
from .folders import labelled_parts
from .layout import existing_folder, parts_in
from .source import ImageArrays, Images

BATCHES = "cifar-10-batches-py"  # what torchvision unpacks to


class Cifar10(ImageDataModule):
    """60,000 images of ten classes, 32x32, in colour; evaluated on CIFAR-10's own test set.

    `root` holds torchvision's `cifar-10-batches-py/`, or `{train,test}/<class>/*`.

    Args:
        download: fetch torchvision's copy into `root` where `root` holds neither.
        **settings: as for `ImageDataModule`.
    """

    labels = "own"
    class_names = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

    def __init__(self, *, root: str, download: bool = True, **settings: Any) -> None:
        super().__init__(root=root, **settings)
        self.root: str = root
        self.download = download

    def prepare_data(self) -> None:
        """Download where that is wanted and nothing is there.

        Raises:
            DatasetNotFoundError: It could not be fetched.
        """
        place = Path(self.root).expanduser()
        if self.download and not ((place / BATCHES).is_dir() or parts_in(place)):
            fetch("CIFAR-10", self.root, BATCHES, lambda folder: datasets.CIFAR10(folder, download=True))

    def _sources(self) -> tuple[Images, Images | None]:
        root = existing_folder(self.root, f"{BATCHES}/ or {{train,test}}/<class>/*")
        if (root / BATCHES).is_dir():
            return self._batches(root, train=True), self._batches(root, train=False)
        targets = {name: index for index, name in enumerate(self.class_names)}
        return labelled_parts(root, targets, "classes of CIFAR-10", divided=True)

    def _batches(self, root: Path, train: bool) -> ImageArrays:
        try:
            part = datasets.CIFAR10(root, train=train)
        except RuntimeError as error:
            remedy = "remove it, and data.download=true fetches it anew"
            raise UsageError(f"data.root={self.root}: {BATCHES}/ is incomplete or damaged; {remedy}") from error
        name = "train" if train else "test"
        names = tuple(f"{name}-{index:05d}" for index in range(len(part.data)))
        return ImageArrays(names, np.array(part.targets, dtype=np.int64), part.data)
