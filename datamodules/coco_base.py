"""COCO 2017, whatever is to be found in its pictures."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

from bottlenecks.backbones.pretrained import coco_classes
from bottlenecks.errors import UsageError
from datamodules.annotations import Annotations
from datamodules.base import PictureDataModule
from datamodules.coco_content import CocoContent, read_coco, unlisted
from datamodules.layout import DatasetNotFoundError, existing_folder
from datamodules.source import PictureFiles, Pictures


class CocoPictures(PictureDataModule):
    """COCO 2017, trained on `train2017/` and judged on `val2017/`.

    `root` holds these folders of pictures, and `annotations/instances_{train,val}2017.json`.
    """

    @abstractmethod
    def _annotations(self, parts: list[CocoContent]) -> list[Annotations]:
        """Return what is to be found in the pictures of each part."""

    def _sources(self) -> tuple[Pictures, Pictures]:
        root = existing_folder(self.root, "{train,val}2017/ and annotations/instances_{train,val}2017.json")
        folders = ("train2017", "val2017")
        parts = [_read(root, folder) for folder in folders]
        train, val = (
            PictureFiles(tuple(f"{folder}/{name}" for name in part.names), annotations, str(root))
            for folder, part, annotations in zip(folders, parts, self._annotations(parts), strict=True)
        )
        return train, val


def _read(root: Path, part: str) -> CocoContent:
    path, pictures = root / "annotations" / f"instances_{part}.json", root / part
    for wanted, there in ((path, path.exists()), (pictures, pictures.is_dir())):
        if not there:
            raise DatasetNotFoundError(f"data.root={root}: no {wanted}; data.root=PATH must hold COCO 2017")
    read = read_coco(path, pictures)
    _check_categories(path, read.categories, coco_classes())
    return read.without(unlisted(pictures, [read]), f"not listed in {path.name}")


def _check_categories(path: Path, categories: Mapping[int, str], names: Sequence[str]) -> None:
    for number, name in categories.items():
        expected = names[number - 1] if 0 < number <= len(names) else "none"
        if name != expected:
            raise UsageError(
                f"{path}: category {number} is {name}, expected COCO's own, {expected}; "
                "for classes of your own take data=coco_file"
            )
