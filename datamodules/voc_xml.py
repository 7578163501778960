"""Your own images with boxes in Pascal VOC's XML files."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from bottlenecks.errors import UsageError
from bottlenecks.settings.data import check_data

from .annotations import Annotations
from .pairs import PairedFolders, Pairs
from .voc_annotations import NamedObjects, boxes_of, class_names_in, read_annotations


class VocXml(PairedFolders):
    """Images in `images/` with an XML file each in `annotations/`; objects marked difficult are left out.

    `root` holds `{train,val}/{images,annotations}`, or both folders themselves. Coordinates are taken as they are
    written. A file without objects is right.

    Args:
        classes: their names, in the order of the targets; None takes those in the annotations, sorted.
        **settings: as for `ImageDataModule`.

    Raises:
        UsageError: `classes` is no list of names.
    """

    task = "detection"
    labels = "own"
    kind, suffixes = "annotations", (".xml",)

    def __init__(self, *, classes: Sequence[str] | None = None, **settings: Any) -> None:
        super().__init__(**settings)
        check_data({"classes": classes})
        self.classes = None if classes is None else [str(name) for name in classes]

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes.

        Raises:
            DatasetNotFoundError: They are to be read from files that are not there.
            UsageError: No file names any.
        """
        if self.classes is not None:
            return tuple(self.classes)
        read = [found for part in self._read for found in part]
        names = class_names_in(read)
        if not names and not any(isinstance(found, str) for found in read):
            raise UsageError(f"{self.location}: no annotation names an object; data.classes=[...] gives the names")
        return names

    @cached_property
    def _read(self) -> list[list[NamedObjects]]:
        root, parts = self._pairs
        return [read_annotations(root, part.annotations) for part in parts]

    def _annotations(self, root: Path, parts: list[Pairs]) -> list[Annotations]:
        return boxes_of(self._read, self.class_names)
