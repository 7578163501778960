"""What data of composed scenes shares, whatever is to be found in them."""

from abc import abstractmethod
from typing import Any

from bottlenecks.settings.data import check_data

from .annotations import Annotations
from .base import ImageDataModule
from .scenes import Scenes, compose_parts
from .source import ImageArrays, Images


class DigitScenes(ImageDataModule):
    """Digits of several sizes on a background, 128x128, in colour; see `datamodules.scenes`.

    Args:
        num_train: scenes to train on or to hold back.
        num_test: scenes to evaluate on.
        **settings: as for `ImageDataModule`.

    Raises:
        UsageError: A number is impossible.
    """

    labels = "own"

    def __init__(self, *, num_train: int, num_test: int, **settings: Any) -> None:
        super().__init__(**settings)
        check_data({"num_train": num_train, "num_test": num_test})
        self.num_train, self.num_test = num_train, num_test

    @abstractmethod
    def _annotations(self, train: Scenes, test: Scenes) -> tuple[Annotations, Annotations]:
        """Return what is to be found in the scenes of both parts."""

    def _sources(self) -> tuple[Images, Images]:
        scenes = compose_parts(self.num_train, self.num_test)
        train, test = (
            ImageArrays(tuple(f"{part}-{index:05d}" for index in range(len(made.arrays))), targets, made.arrays)
            for part, made, targets in zip(("train", "test"), scenes, self._annotations(*scenes), strict=True)
        )
        return train, test
