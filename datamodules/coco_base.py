"""COCO 2017, whatever is to be found in its images."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

from bottlenecks.backbones.pretrained import coco_classes
from bottlenecks.errors import UsageError

from .annotations import Annotations
from .base import ImageDataModule
from .coco_content import CocoContent, read_coco, unlisted
from .layout import DatasetNotFoundError, existing_folder
from .source import ImageFiles, Images


class CocoImages(ImageDataModule):
    """COCO 2017, trained on `train2017/` and evaluated on `val2017/`.

    `root` holds these folders of images, and `annotations/instances_{train,val}2017.json`.
    """

    @abstractmethod
    def _annotations(self, parts: list[CocoContent]) -> list[Annotations]:
        """Return what is to be found in the images of each part."""

    def _sources(self) -> tuple[Images, Images]:
        root = existing_folder(self.root, "{train,val}2017/ and annotations/instances_{train,val}2017.json")
        folders = ("train2017", "val2017")
        parts = [_read(root, folder) for folder in folders]
        train, val = (
            ImageFiles(tuple(f"{folder}/{name}" for name in part.names), annotations, str(root))
            for folder, part, annotations in zip(folders, parts, self._annotations(parts), strict=True)
        )
        return train, val


def _read(root: Path, part: str) -> CocoContent:
    path, images = root / "annotations" / f"instances_{part}.json", root / part
    for wanted, there in ((path, path.exists()), (images, images.is_dir())):
        if not there:
            raise DatasetNotFoundError(f"data.root={root}: no {wanted}; data.root=PATH must hold COCO 2017")
    read = read_coco(path, images)
    _check_categories(path, read.categories, coco_classes())
    return read.without(unlisted(images, [read]), f"not listed in {path.name}")


def _check_categories(path: Path, categories: Mapping[int, str], names: Sequence[str]) -> None:
    for number, name in categories.items():
        expected = names[number - 1] if 0 < number <= len(names) else "none"
        if name != expected:
            raise UsageError(
                f"{path}: category {number} is {name}, expected COCO's own, {expected}; "
                "for classes of your own take data=coco_file"
            )
