"""Pictures without labels, for distillation; judged by agreement with the unsplit network."""

from datamodules.base import PictureDataModule
from datamodules.folders import unlabelled_files
from datamodules.layout import existing_folder, parts_in, train_and_test
from datamodules.source import Pictures


class PictureFolder(PictureDataModule):
    """All pictures in a folder and the folders in it.

    Where `root` holds `train/` and `test/` or `val/`, the latter is judged on; else `test_part` of all pictures.
    """

    labels = "none"
    class_names = ()

    def _sources(self) -> tuple[Pictures, Pictures | None]:
        root = existing_folder(self.root, "pictures")
        train, test = train_and_test(root, nested=False) if {"train"} < parts_in(root) else (root, None)
        return unlabelled_files(root, train), None if test is None else unlabelled_files(root, test)
