"""Pictures without labels, for distillation; judged by agreement with the unsplit network."""

from datamodules.base import PictureDataModule
from datamodules.folders import existing_folder, unlabelled_files
from datamodules.source import Pictures


class PictureFolder(PictureDataModule):
    """All pictures in a folder and the folders in it; `test_part` of them is judged on."""

    labels = "none"
    class_names = ()

    def _sources(self) -> tuple[Pictures, None]:
        return unlabelled_files(existing_folder(self.root, "pictures")), None
