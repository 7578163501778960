"""Your own images with objects in files of COCO's format."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from bottlenecks.errors import UsageError
from bottlenecks.settings.data import LEARN, check_data

from .annotations import Annotations
from .base import ImageDataModule
from .coco_annotations import OutlinedMasks, coco_boxes
from .coco_content import CocoContent, read_coco, unlisted
from .layout import DatasetNotFoundError, existing_folder, train_and_test
from .source import ImageFiles, Images, shortened

LAYOUT = "{train,val}/ with a .json and images each, or these themselves"
BACKGROUND = "background"


class Part(NamedTuple):
    """Where a part of the dataset is.

    Attributes:
        file: COCO's annotations.
        folder: that the file's names of images start from.
    """

    file: Path
    folder: Path


class CocoFile(ImageDataModule):
    """Images with the boxes, or the outlines, that files of COCO's format mark.

    `root` holds `train/` and `test/` or `val/`, which is then evaluated on, each with one `*.json`, there or in
    `annotations/`, and images, there or in `images/`; or these themselves, and `test_part` is evaluated on. Classes are
    the categories in the order of their numbers. Crowds count as masks and not as boxes. Images that no file lists are
    not used.

    Args:
        learn: `boxes`, or `masks`: the outlines over a background, -1 where several objects lie.
        annotations: the file below `root`, or the one to train on and the one to evaluate on; None finds it.
        images: the folder that its names start from, below `root`, or two; None finds it.
        **settings: as for `ImageDataModule`.

    Raises:
        UsageError: `learn` is neither, or `annotations` or `images` is no path or two.
    """

    labels = "own"

    def __init__(
        self,
        *,
        learn: str = "boxes",
        annotations: str | Sequence[str] | None = None,
        images: str | Sequence[str] | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        check_data({"learn": learn})
        self.task = LEARN[learn]
        self.annotations = _paths("data.annotations", annotations)
        self.image_folders = _paths("data.images", images)

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """Names of the categories, for masks behind the background.

        Raises:
            DatasetNotFoundError: The files that name them are not there.
            UsageError: They name none.
        """
        names = tuple(self._contents[0].categories.values())
        if not names:
            raise UsageError(f"{self._parts[1][0].file}: lists no categories; a class needs a name there")
        return (BACKGROUND, *names) if self.task == "segmentation" else names

    @cached_property
    def _parts(self) -> tuple[Path, list[Part]]:
        root = existing_folder(self.root, LAYOUT)
        if self.annotations:
            files = [root / name for name in self.annotations]
            homes = [file.parent.parent if file.parent.name == "annotations" else file.parent for file in files]
        else:
            homes = [home for home in train_and_test(root, nested=False) if home is not None]
            files = [_only_file(root, home) for home in homes]
        folders = [root / name for name in self.image_folders] or [
            home / "images" if (home / "images").is_dir() else home for home in homes
        ]
        if len(folders) not in (1, len(files)):
            raise UsageError(f"data.images={self.images}: {len(folders)} folders for {len(files)} files of annotations")
        parts = [Part(file, folder) for file, folder in zip(files, folders * (len(files) // len(folders)), strict=True)]
        for wanted in [place for part in parts for place in part]:
            if not wanted.exists():
                raise DatasetNotFoundError(f"data.root={root}: no {wanted}; data.root=PATH must hold {LAYOUT}")
        return root, parts

    @cached_property
    def _contents(self) -> list[CocoContent]:
        root, parts = self._parts
        contents = [read_coco(part.file, part.folder) for part in parts]
        for part, content in zip(parts, contents, strict=True):
            for number, name in content.categories.items():
                if contents[0].categories.get(number) != name:
                    expected = contents[0].categories.get(number, "none")
                    raise UsageError(f"{part.file}: category {number} is {name}, in {parts[0].file} it is {expected}")
        for folder in dict.fromkeys(part.folder for part in parts):
            if unused := unlisted(folder, contents):
                warnings.warn(
                    f"data.root={root}: not listed and not used in {folder}: {shortened(unused)}", stacklevel=2
                )
        return contents

    def _sources(self) -> tuple[Images, Images | None]:
        root, parts = self._parts
        made = [
            ImageFiles(tuple(os.path.relpath(part.folder / name, root) for name in content.names), targets, str(root))
            for part, content, targets in zip(parts, self._contents, self._targets(), strict=True)
        ]
        return made[0], made[1] if len(made) > 1 else None

    def _targets(self) -> Sequence[Annotations]:
        first = int(self.task == "segmentation")  # 0 is the background
        classes = {number: index for index, number in enumerate(self._contents[0].categories, first)}
        if self.task == "segmentation":
            return [OutlinedMasks.of(content, classes) for content in self._contents]
        return coco_boxes(self._contents, classes)


def _paths(argument: str, value: str | Sequence[str] | None) -> list[str]:
    paths = [] if value is None else [value] if isinstance(value, str) else list(value)
    if len(paths) > 2 or not all(isinstance(path, str) for path in paths):
        raise UsageError(f"{argument}={value}: expected a path below data.root, [to train on, to evaluate on], or null")
    return paths


def _only_file(root: Path, folder: Path) -> Path:
    found = sorted(folder.glob("*.json")) + sorted((folder / "annotations").glob("*.json"))
    if len(found) != 1:
        named = f" ({shortened([path.name for path in found])})" if found else ""
        raise DatasetNotFoundError(
            f"data.root={root}: {len(found)} files *.json in {folder}{named}, expected one; "
            "data.annotations=PATH, or [PATH,PATH] to train and to evaluate on, names them"
        )
    return found[0]
