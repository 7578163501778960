"""Images without labels, for distillation; evaluated by agreement with the unsplit network."""

from .base import ImageDataModule
from .folders import unlabelled_files
from .layout import existing_folder, parts_in, train_and_test
from .source import Images


class PictureFolder(ImageDataModule):
    """All images in a folder and the folders in it.

    Where `root` holds `train/` and `test/` or `val/`, the latter is evaluated on; else `test_part` of all images.
    """

    labels = "none"
    class_names = ()

    def _sources(self) -> tuple[Images, Images | None]:
        root = existing_folder(self.root, "images")
        train, test = train_and_test(root, nested=False) if {"train"} < parts_in(root) else (root, None)
        return unlabelled_files(root, train), None if test is None else unlabelled_files(root, test)
