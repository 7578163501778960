"""What training and evaluation ask of images, wherever they come from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol

from torch.utils.data import DataLoader

Split = Literal["train", "val", "test"]
LEAST_HELD_BACK, ENOUGH = 40, 200  # so many images are held back where there are so many to train on


class ImageData(Protocol):
    """Images in three splits, in batches of (images, targets).

    `datamodules.base.ImageDataModule` reads them from files; `bottlenecks.training.given.GivenImages` takes a
    program's own.

    Attributes:
        name: what checkpoints and results call them.
        task: what the targets are for.
        labels: whose classes the targets count, `none` without labels.
        class_names: in the order of the targets, empty where there are no labels.
        num_classes: how many, or None.
        num_views: of each training image; None where they are new each epoch.
        batch_size: of a batch to train on.
        preprocessing: makes them of image files; its `to_dict` is kept with what is trained.
        default_preprocessing: of a network that is trained from scratch on them, or None.
    """

    name: str
    task: Any
    labels: Any
    batch_size: int
    preprocessing: Any
    default_preprocessing: Any

    @property
    def class_names(self) -> tuple[str, ...]: ...  # noqa: D102

    @property
    def num_classes(self) -> int | None: ...  # noqa: D102

    @property
    def num_views(self) -> int | None: ...  # noqa: D102

    def setup(self, stage: str | None = None) -> None:
        """Find the images of a stage of Lightning's."""

    def augment_few(self) -> None:
        """Take random views of the training images where they are few and that is left open."""

    def images(self, split: Split) -> Any:
        """Return the images of a split: something with a length and `names`."""

    def train_dataloader(self) -> DataLoader:
        """Return batches to train on, in an order that depends on seed and epoch alone."""

    def val_dataloader(self) -> DataLoader:
        """Return batches held back from training."""

    def test_dataloader(self) -> DataLoader:
        """Return batches on which nothing was chosen."""

    def calibration_dataloader(self) -> DataLoader:
        """Return training images in a fixed order, never augmented."""

    def view_loaders(self, split: Split) -> Sequence[DataLoader]:
        """Return every view of every image of a split, in the order of `images`."""

    def identity(self, split: Split) -> dict[str, Any]:
        """Return all that the tensors of `view_loaders` depend on, JSON-able."""

    def resolved(self) -> dict[str, Any]:
        """Return the settings that depend on the images found, JSON-able."""

    def found(self) -> dict[str, str]:
        """Return which images training and its evaluation go by, JSON-able."""


def least_share(part: float, total: int) -> float:
    """Return a part of so many images to hold back: a share that is too small to tell epochs apart becomes a number."""
    is_share = isinstance(part, float) and 0 < part <= 1
    return LEAST_HELD_BACK if is_share and total >= ENOUGH and round(part * total) < LEAST_HELD_BACK else part
