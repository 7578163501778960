"""Images that a user's own program hands over: tensors, a dataset, or a DataLoader of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset, default_collate

from bottlenecks.errors import UsageError
from bottlenecks.processes import own_share
from bottlenecks.training.images import Split, least_share
from bottlenecks.training.sampler import EpochSampler, ShareSampler

BATCH_SIZE = 32  # of what comes without one
HELD_BACK = 0.1  # share of the training images
LOOKED_AT = 16  # images that tell one set from another


@dataclass(frozen=True)
class Source:
    """Images that can be asked for by number.

    Attributes:
        dataset: of images, or of (image, target, …).
        batch_size: of a batch.
        num_workers: processes that load.
        collate: puts items together.
        indices: those of the dataset that count.
    """

    dataset: Dataset[Any]
    batch_size: int
    num_workers: int
    collate: Callable[[list[Any]], Any]
    indices: np.ndarray

    @classmethod
    def of(cls, images: Any, argument: str) -> Source:
        """Read a tensor (N, C, H, W), a tuple of images and targets, a dataset or a DataLoader.

        Raises:
            UsageError: it is none of these, or empty; the message names the argument.
        """
        batch_size, num_workers, collate = BATCH_SIZE, 0, default_collate
        if isinstance(images, DataLoader):
            batch_size, num_workers, collate = images.batch_size or BATCH_SIZE, images.num_workers, images.collate_fn
            images = images.dataset
        elif isinstance(images, Tensor):
            images = TensorDataset(images)
        elif isinstance(images, (tuple, list)) and images and all(isinstance(one, Tensor) for one in images):
            images = TensorDataset(*images)
        by_number = hasattr(images, "__getitem__") and hasattr(images, "__len__")
        if not by_number or isinstance(images, (IterableDataset, Mapping, str, bytes)):
            raise UsageError(
                f"{argument}: expected a tensor (N, C, H, W), (images, targets), a dataset with a length or a "
                f"DataLoader of one, got {type(images).__name__}"
            )
        if len(images) == 0:
            raise UsageError(f"{argument}: there are no images in it")
        return cls(images, batch_size, num_workers, collate, np.arange(len(images)))

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def names(self) -> tuple[str, ...]:
        """Each image's number in the dataset."""
        return tuple(map(str, self.indices.tolist()))

    def select(self, indices: np.ndarray) -> Source:
        """Return the same source with some of its images."""
        return Source(self.dataset, self.batch_size, self.num_workers, self.collate, self.indices[indices])

    def identity(self) -> str:
        """Identify the images by their number and some of them, 16 hexadecimal digits."""
        digest = hashlib.sha256(str(len(self)).encode())
        for place in np.linspace(0, len(self) - 1, min(LOOKED_AT, len(self))).round().astype(int):
            for leaf in tree_leaves(self.dataset[int(self.indices[place])]):
                digest.update(
                    leaf.detach().cpu().numpy().tobytes() if isinstance(leaf, Tensor) else repr(leaf).encode()
                )
        return digest.hexdigest()[:16]

    def loader(self, argument: str, sampler: Any, drop_last: bool = False) -> DataLoader:
        """Return batches of (images, targets) in an order."""
        return DataLoader(
            _Chosen(self),
            batch_size=self.batch_size,
            sampler=sampler,
            drop_last=drop_last,
            num_workers=self.num_workers,
            collate_fn=partial(batch_of, self.collate, argument),
            generator=torch.Generator(),  # else each pass would move the global one on
        )


class _Chosen(Dataset[Any]):
    """The items of a source, at an index or at the `(view, index)` of `EpochSampler`."""

    def __init__(self, source: Source) -> None:
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: int | tuple[int, int]) -> Any:
        index = key[1] if isinstance(key, tuple) else key
        return self.source.dataset[int(self.source.indices[index])]


def batch_of(collate: Callable[[list[Any]], Any], argument: str, items: list[Any]) -> tuple[Tensor, Tensor]:
    """Put items together as images (N, C, H, W) and targets, -1 where there are none.

    Raises:
        UsageError: there are no images in them.
    """
    batch = collate(items)
    if isinstance(batch, Tensor):
        batch = (batch,)
    if isinstance(batch, Mapping) or not isinstance(batch, Sequence) or not len(batch):
        raise UsageError(f"{argument}: expected batches of images or (images, targets), got {type(batch).__name__}")
    images = batch[0]
    if not (isinstance(images, Tensor) and images.dim() == 4 and images.is_floating_point()):
        shape = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
        kind = f" of {images.dtype}" if isinstance(images, Tensor) else ""
        raise UsageError(f"{argument}: expected floating-point images (N, C, H, W), got {shape}{kind}")
    targets = batch[1] if len(batch) > 1 and isinstance(batch[1], Tensor) else torch.full((len(images),), -1)
    return images, targets


class GivenImages(pl.LightningDataModule):
    """A user's own images, as training and evaluation ask for them (`training.images.ImageData`).

    Each image is looked at once and its features are kept, unless `random_views` says that a dataset gives another view
    of it every time.

    Args:
        name: what results call them.
        preprocessing: what made them of image files, or something with a `to_dict` that says nothing.
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
        self.sources = {split: Source.of(images, split) for split, images in given.items() if images is not None}
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
        return source.loader("train", sampler, drop_last=len(sampler) > source.batch_size)

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
        return [source.loader(split, range(len(source)))]

    def identity(self, split: Split) -> dict[str, Any]:
        """Return what the images of a split depend on."""
        return {"images": self.sources[split].identity(), "preprocessing": self.preprocessing.to_dict()}

    def resolved(self) -> dict[str, Any]:
        """Return nothing: there are no settings."""
        return {}

    def found(self) -> dict[str, str]:
        """Return which images training and its evaluation go by."""
        chosen = {split: self.sources[split] for split in ("train", "val")}
        return {split: f"{len(source)} images ({source.identity()})" for split, source in chosen.items()}

    def _in_shares(self, split: Split) -> DataLoader:
        source = self.sources[split]
        return source.loader(split, ShareSampler(len(source), own_share()))
