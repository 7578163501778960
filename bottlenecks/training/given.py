"""Images that a user's own program hands over: tensors, a dataset, or a DataLoader of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytorch_lightning as pl
from torch.utils.data import DataLoader

from bottlenecks.errors import UsageError
from bottlenecks.processes import own_share
from bottlenecks.training.given_batch import BatchCheck, Shape
from bottlenecks.training.images import Split, least_share
from bottlenecks.training.sampler import EpochSampler, ShareSampler
from bottlenecks.training.source import Source

HELD_BACK = 0.1  # share of the training images


class GivenImages(pl.LightningDataModule):
    """A user's own images, as training and evaluation ask for them (`training.images.ImageData`).

    Each image is looked at once and its features are kept, unless `random_views` says that a dataset gives another view
    of it every time.

    Args:
        name: what results call them.
        preprocessing: what made them of image files, or something with a `to_dict` that says nothing.
        image_shape: (C, H, W) of each, None for what may differ.
        class_names: of the network's outputs, where they are known.
        train: to train on, or None.
        val: held back from training, or None.
        test: to evaluate on, or None.
        seed: of the order.
        random_views: whether `train` gives another view of an image each time.
    """

    name: str
    labels, default_preprocessing = "none", None

    def __init__(
        self,
        name: str,
        task: str,
        preprocessing: Any,
        image_shape: Shape,
        class_names: Sequence[str] = (),
        train: Any = None,
        val: Any = None,
        test: Any = None,
        seed: int = 0,
        random_views: bool = False,
    ) -> None:
        super().__init__()
        self.name, self.task, self.preprocessing, self.class_names = name, task, preprocessing, tuple(class_names)
        self.seed, self.num_views = seed, None if random_views else 1
        given = {"train": train, "val": val, "test": test}
        self.sources = {
            split: Source.of(images, BatchCheck(split, task, image_shape))
            for split, images in given.items()
            if images is not None
        }
        self.batch_size = next(iter(self.sources.values())).batch_size

    def hold_back(self) -> None:
        """Divide the training images into those to train on and those to hold back, where none are held back.

        Raises:
            UsageError: there is one image alone.
        """
        if "val" in self.sources:
            return
        train = self.sources["train"]
        total = len(train)
        if total < 2:
            raise UsageError("train: one image alone; give more, or give val, too")
        part = least_share(HELD_BACK, total)
        count = max(1, round(part * total if part < 1 else part))
        order = np.random.default_rng(0).permutation(total)
        self.sources |= {"train": train.select(np.sort(order[count:])), "val": train.select(np.sort(order[:count]))}

    @property
    def num_classes(self) -> int | None:
        """How many classes are known."""
        return len(self.class_names) or None

    def setup(self, stage: str | None = None) -> None:
        """Do nothing: the images are there."""

    def augment_few(self) -> None:
        """Do nothing: views are the user's."""

    def images(self, split: Split) -> Source:
        """Return the images of a split."""
        return self.sources[split]

    def train_dataloader(self) -> DataLoader:
        """Return training images in a new order each epoch; a last batch that is not full is left out."""
        source = self.sources["train"]
        sampler = EpochSampler(len(source), self.seed, self.num_views, own_share())
        return source.loader(sampler, drop_last=len(sampler) > source.batch_size)

    def calibration_dataloader(self) -> DataLoader:
        """Return training images in a fixed order."""
        return self.view_loaders("train")[0]

    def val_dataloader(self) -> DataLoader:
        """Return the images held back from training."""
        return self._in_shares("val")

    def test_dataloader(self) -> DataLoader:
        """Return the images to evaluate on."""
        return self._in_shares("test")

    def view_loaders(self, split: Split) -> list[DataLoader]:
        """Return the images of a split, in their order."""
        source = self.sources[split]
        return [source.loader(range(len(source)))]

    def identity(self, split: Split) -> dict[str, Any]:
        """Return what the images of a split depend on."""
        return {"images": self.sources[split].identity, "preprocessing": self.preprocessing.to_dict()}

    def resolved(self) -> dict[str, Any]:
        """Return nothing: there are no settings."""
        return {}

    def found(self) -> dict[str, str]:
        """Return which images training and its evaluation go by."""
        chosen = {split: self.sources[split] for split in ("train", "val")}
        return {split: f"{len(source)} images ({source.identity})" for split, source in chosen.items()}

    def _in_shares(self, split: Split) -> DataLoader:
        source = self.sources[split]
        return source.loader(ShareSampler(len(source), own_share()))
