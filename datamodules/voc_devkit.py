"""Pascal VOC 2012, whatever is to be found in its images."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar

from torchvision import datasets

from bottlenecks.errors import UsageError

from .annotations import Annotations
from .base import ImageDataModule
from .download import fetch
from .layout import DatasetNotFoundError, existing_folder
from .source import ImageFiles, Images

DEVKIT, YEAR = "VOCdevkit", "VOC2012"


class VocDevkit(ImageDataModule):
    """Pascal VOC 2012, trained on its `train` and evaluated on its `val`.

    `root` holds `VOCdevkit/VOC2012/`, or what is in that.

    Args:
        download: fetch torchvision's copy into `root` where it is not there.
        **settings: as for `ImageDataModule`.

    Attributes:
        lists: folder in `ImageSets/` that says which images are in which part.
    """

    lists: ClassVar[str]

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
        if self.download and not any((place / part).is_dir() for part in (DEVKIT, "ImageSets")):
            fetch(
                "Pascal VOC 2012",
                self.root,
                DEVKIT,
                lambda folder: datasets.VOCSegmentation(folder, year="2012", download=True),
            )

    @abstractmethod
    def _annotations(self, root: Path, parts: list[list[str]]) -> list[Annotations]:
        """Return what is to be found in images, given by their numbers, of each part."""

    def _sources(self) -> tuple[Images, Images]:
        root = existing_folder(self.root, f"{DEVKIT}/{YEAR}/")
        root = root / DEVKIT / YEAR if (root / DEVKIT).is_dir() else root
        parts = [self._listed(root, part) for part in ("train", "val")]
        train, val = (
            ImageFiles(tuple(f"JPEGImages/{number}.jpg" for number in numbers), annotations, str(root))
            for numbers, annotations in zip(parts, self._annotations(root, parts), strict=True)
        )
        return train, val

    def _listed(self, root: Path, part: str) -> list[str]:
        path = root / "ImageSets" / self.lists / f"{part}.txt"
        if not path.is_file():
            raise DatasetNotFoundError(f"data.root={self.root}: no {path}; data.root=PATH must hold {DEVKIT}/{YEAR}/")
        numbers = path.read_text(encoding="utf-8-sig", errors="surrogateescape").split()
        if not numbers:
            raise UsageError(f"data.root={self.root}: {path} lists no images; fetch Pascal VOC 2012 anew")
        return numbers
