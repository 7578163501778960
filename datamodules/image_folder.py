"""Your own labelled pictures: a folder for each class."""

from functools import cached_property

from datamodules.base import PictureDataModule
from datamodules.folders import class_folders, existing_folder, labelled_parts, train_and_test
from datamodules.source import Pictures

LAYOUT = "{train,val}/<class>/* or <class>/*"


class ImageFolder(PictureDataModule):
    """Pictures in folders named after their classes.

    `root` holds `train/<class>/*` and `test/<class>/*` or `val/<class>/*`, which is then judged on; or
    `<class>/*`, of which `test_part` is judged on.
    """

    labels = "own"

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """The folders' names, sorted.

        Raises:
            DatasetNotFoundError: There are none.
        """
        root = existing_folder(self.root, LAYOUT)
        train, _ = train_and_test(root)
        return tuple(class_folders(root, train))

    def _sources(self) -> tuple[Pictures, Pictures | None]:
        root = existing_folder(self.root, LAYOUT)
        targets = {name: index for index, name in enumerate(self.class_names)}
        return labelled_parts(root, targets, "among the classes of train/")
