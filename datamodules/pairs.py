"""Images in one folder and their annotations in another, under the same names."""

from __future__ import annotations

import os
import warnings
from abc import abstractmethod
from functools import cached_property
from pathlib import Path
from typing import ClassVar, NamedTuple

from bottlenecks.errors import UsageError

from .annotations import Annotations
from .base import ImageDataModule
from .layout import DatasetNotFoundError, existing_folder, folders_in, train_and_test, visible
from .source import ImageFiles, Images, shortened

IMAGES = "images"


class Pairs(NamedTuple):
    """Paths below a dataset's folder, one of each kind for each image; a file may be missing."""

    images: list[str]
    annotations: list[str]


class PairedFolders(ImageDataModule):
    """Images in `images/`, each with an annotation of the same name beside it.

    `root` holds `train/` and `test/` or `val/`, which is then evaluated on, each with both folders; or both folders
    themselves, and `test_part` of the images is evaluated on. A file whose counterpart is missing is an error.

    Attributes:
        kind: name of the folder of annotations.
        suffixes: how their names may end, in any case, the usual one first.
    """

    kind: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]]

    @abstractmethod
    def _annotations(self, root: Path, parts: list[Pairs]) -> list[Annotations]:
        """Return what is to be found in the images of each part."""

    @cached_property
    def _pairs(self) -> tuple[Path, list[Pairs]]:
        """The dataset's folder, and the pairs of the part to train on and, where there is one, of the other."""
        layout = f"{{train,val}}/{{{IMAGES},{self.kind}}} or {{{IMAGES},{self.kind}}}"
        root = existing_folder(self.root, layout)
        folders = [folder for folder in train_and_test(root) if folder is not None]
        for folder in folders:
            for name in (IMAGES, self.kind):
                if not (folder / name).is_dir():
                    raise DatasetNotFoundError(f"data.root={root}: no {name}/ in {folder}; it must hold {layout}")
            if unused := [name for name in folders_in(folder) if name not in (IMAGES, self.kind)]:
                warnings.warn(f"data.root={root}: not used in {folder}: {shortened(unused)}", stacklevel=2)
        return root, [_pair(root, folder, self.kind, self.suffixes) for folder in folders]

    def _sources(self) -> tuple[Images, Images | None]:
        root, parts = self._pairs
        sources = [
            ImageFiles(tuple(pairs.images), annotations, str(root))
            for pairs, annotations in zip(parts, self._annotations(root, parts), strict=True)
        ]
        return sources[0], sources[1] if len(sources) > 1 else None


def _pair(root: Path, folder: Path, kind: str, suffixes: tuple[str, ...]) -> Pairs:
    """List what is there and what ought to be, sorted; hidden files are left out."""
    images = {name: Path(name).stem for name in filter(visible, os.listdir(folder / IMAGES))}
    annotations: dict[str, str] = {}
    for name in sorted(filter(visible, os.listdir(folder / kind))):
        if name.lower().endswith(suffixes):
            other = annotations.setdefault(Path(name).stem, name)
            if other != name:
                raise UsageError(f"data.root={root}: both {other} and {name} are in {folder / kind}; keep one of them")
    if not images:
        raise DatasetNotFoundError(f"data.root={root}: no files in {folder / IMAGES}; data.root=PATH must hold some")
    ending = Path(min(images)).suffix  # of an image that is missing, most likely
    images |= {f"{stem}{ending}": stem for stem in set(annotations) - set(images.values())}
    names = sorted(images)
    below = folder.relative_to(root)
    return Pairs(
        [str(below / IMAGES / name) for name in names],
        [str(below / kind / annotations.get(stem, stem + suffixes[0])) for stem in map(images.__getitem__, names)],
    )
