"""Your own labelled images: a folder for each class."""

from functools import cached_property
from pathlib import Path

from bottlenecks.errors import printable

from .base import ImageDataModule
from .folders import labelled_files, with_targets
from .layout import existing_folder, train_and_test
from .source import ImageFiles, Images

LAYOUT = "{train,val}/<class>/* or <class>/*"


class ImageFolder(ImageDataModule):
    """Images in folders named after their classes.

    `root` holds `train/<class>/*` and `test/<class>/*` or `val/<class>/*`, which is then evaluated on; or
    `<class>/*`, of which `test_part` is evaluated on.
    """

    labels = "own"

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """The folders' names, sorted; bytes that are no UTF-8 are written in hexadecimal.

        Raises:
            DatasetNotFoundError: There are none.
        """
        return tuple(map(printable, self._train[1]))

    @cached_property
    def _parts(self) -> tuple[Path, Path, Path | None]:
        """The dataset's folder, that to train on, and that to evaluate on."""
        root = existing_folder(self.root, LAYOUT)
        return root, *train_and_test(root)

    @cached_property
    def _train(self) -> tuple[ImageFiles, tuple[str, ...]]:
        root, train, _ = self._parts
        return labelled_files(root, train)

    def _sources(self) -> tuple[Images, Images | None]:
        root, _, test = self._parts
        files, classes = self._train
        targets = {name: index for index, name in enumerate(classes)}
        evaluated = None if test is None else with_targets(root, test, targets, "among the classes of train/")
        return files, evaluated
