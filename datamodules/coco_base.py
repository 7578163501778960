"""COCO 2017, whatever is to be found in its pictures."""

from __future__ import annotations

from abc import abstractmethod

from bottlenecks.pretrained import coco_classes
from datamodules.annotations import Annotations
from datamodules.base import PictureDataModule
from datamodules.coco_file import CocoFile, read_coco
from datamodules.folders import existing_folder
from datamodules.source import PictureFiles, Pictures


class CocoPictures(PictureDataModule):
    """COCO 2017, trained on `train2017/` and judged on `val2017/`.

    `root` holds these folders of pictures, and `annotations/instances_{train,val}2017.json`.
    """

    @abstractmethod
    def _annotations(self, parts: list[CocoFile]) -> list[Annotations]:
        """Return what is to be found in the pictures of each part."""

    def _sources(self) -> tuple[Pictures, Pictures]:
        root = existing_folder(self.root, "{train,val}2017/ and annotations/instances_{train,val}2017.json")
        folders = ("train2017", "val2017")
        parts = [read_coco(root, folder, coco_classes()) for folder in folders]
        train, val = (
            PictureFiles(tuple(f"{folder}/{name}" for name in part.names), annotations, str(root))
            for folder, part, annotations in zip(folders, parts, self._annotations(parts), strict=True)
        )
        return train, val
