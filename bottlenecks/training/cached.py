"""Batches of what the frozen network gave before, in the place of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils._pytree import tree_map
from torch.utils.data import DataLoader, Dataset

from bottlenecks.splitting.features import Features
from bottlenecks.training.frozen import FrozenBatch
from bottlenecks.training.images import ImageData, Split


@dataclass(frozen=True)
class Rows:
    """The frozen network's outputs for the images of a split, view after view.

    Attributes:
        features: (views * N, C, H, W) of each tensor that crosses, in memory or mapped from a file.
        teacher: (views * N, …), or a dict of such.
        targets: (views * N, …).
    """

    features: Features
    teacher: Any
    targets: Tensor


class CachedSplit(Dataset[FrozenBatch]):
    """Serves whole batches of rows in the place of images.

    Args:
        rows: of one split.
        num_images: N.
        num_pixels: of the network's input.
    """

    def __init__(self, rows: Rows, num_images: int, num_pixels: int) -> None:
        self.rows, self.num_images, self.num_pixels = rows, num_images, num_pixels

    def __len__(self) -> int:
        return self.num_images

    def __getitem__(self, key: int | tuple[int, int]) -> FrozenBatch:
        """Return a batch of one."""
        return self.__getitems__([key])

    def __getitems__(self, keys: Sequence[int | tuple[int, int]]) -> FrozenBatch:
        """Return the batch at these indices, or at the `(view, index)` of `EpochSampler`."""
        pairs = [key if isinstance(key, tuple) else (0, key) for key in keys]
        index = torch.tensor([view * self.num_images + index for view, index in pairs])
        features = tuple(rows[index].float() for rows in self.rows.features)
        teacher = tree_map(lambda rows: rows[index], self.rows.teacher)
        return FrozenBatch(features, teacher, self.rows.targets[index], self.num_pixels)


class CachedDataModule(pl.LightningDataModule):
    """Returns the batches that a `ImageDataModule` gives, already passed through the frozen network.

    Args:
        images: says order and batch size.
        splits: `train` and `val`.
    """

    def __init__(self, images: ImageData, splits: Mapping[Split, CachedSplit]) -> None:
        super().__init__()
        self.images, self.splits = images, splits

    def sample(self, most: int, view: int = 0) -> FrozenBatch:
        """Return a view of each of the first training images, at the most so many."""
        split = self.splits["train"]
        return split.__getitems__([(view, image) for image in range(min(len(split), most))])

    @property
    def num_views(self) -> int:
        """How many views there are of each training image."""
        split = self.splits["train"]
        return len(split.rows.targets) // split.num_images

    def train_dataloader(self) -> DataLoader:
        """Training rows in the order that the images would have."""
        return self._loader(self.images.train_dataloader(), "train")

    def val_dataloader(self) -> DataLoader:
        """Held-back rows in a fixed order."""
        return self._loader(self.images.val_dataloader(), "val")

    def _loader(self, like: DataLoader, split: Split) -> DataLoader:
        return DataLoader(
            self.splits[split],
            batch_size=like.batch_size,
            sampler=like.sampler,
            drop_last=like.drop_last,
            collate_fn=_as_it_is,
            pin_memory=like.pin_memory,
            generator=torch.Generator(),
        )


def _as_it_is(batch: Any) -> Any:
    return batch
