"""What all datasets share: three splits, loaders in a reproducible order, and checks of every image."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property, partial
from typing import Any, ClassVar, Literal

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.data import suggested_max_num_workers
from torch.utils.data import DataLoader

from bottlenecks.console.terminal import say
from bottlenecks.images.geometry import Size
from bottlenecks.images.preprocessing import Preprocessing
from bottlenecks.images.reading import allow_megapixels
from bottlenecks.processes import own_share
from bottlenecks.settings.data import Labels, Task, check_data
from bottlenecks.training.images import least_share
from bottlenecks.training.sampler import EpochSampler, ShareSampler

from .dataset import ImageDataset
from .real_files import check_apart, once
from .source import ImageFiles, Images, readable
from .splits import divide, limit, shuffle

Split = Literal["train", "val", "test"]
FEW_IMAGES, FEW_VIEWS = 2000, 4  # below so many `augment` pays, with so many views of each
MEGAPIXELS = "data.max_megapixels"
STAGES: dict[str | None, tuple[Split, ...]] = {
    "fit": ("train", "val"),
    "validate": ("val",),
    "test": ("test",),
    "predict": ("test",),
    None: ("train", "val", "test"),
}


class ImageDataModule(pl.LightningDataModule, ABC):
    """Images in three splits: to train on, held back from training, and kept for evaluation alone.

    Which image is in which split never depends on `seed`. Each split is in an order whose every stretch has
    nearly the classes' own shares. Batches are images, float32 `(N, 3, H, W)`, and targets:

    - classification: int64 `(N,)`, -1 where there is no label;
    - segmentation: int64 `(N, H, W)`, -1 where there is no label and outside the image;
    - detection: float32 `(N, M, 5)`, rows `[class, x1, y1, x2, y2]` in pixels of the network's input and
      `[-1, 0, 0, 0, 0]` after the last object; M is the most objects of any image.

    The `preprocessing` of the network that is fed has to be set before a loader is asked for. Where it leaves the
    images sizes of their own, all loaders but that for training give one image a batch. Where several
    processes have joined, the loaders to train and to evaluate with give each its share. A dataset says in
    `_sources` where its images are, and what is to be found in them.

    Args:
        name: what checkpoints and results call this data.
        root: the folder of the images; None where there are no files.
        batch_size: images in a batch.
        num_workers: processes that load; 0 loads in the main one, None starts one a spare core, 8 at most.
        seed: decides the order of training and the augmentation.
        held_back: number or share of the training images that is not trained on; a share is at least 40 of 200
            images or more.
        test_part: number or share kept for evaluation, where the dataset itself keeps none apart.
        image_size: side, or `(height, width)`, of the network's input in pixels; None: the preprocessing's.
        limit_train: use only so many training images, for a quick look; None uses all.
        limit_val: the same for the images held back.
        limit_test: the same for the images kept for evaluation.
        augment: crop (and mirror) training images at random; `auto` leaves it to `augment_few`.
        flip: whether `augment` may mirror.
        views: how many random views of an image `augment` takes in turn; None draws new ones each epoch.
        skip_damaged: leave out files that are no readable image, and images whose masks or boxes cannot be
            used, instead of refusing the dataset.
        max_megapixels: million pixels of the largest image that is opened; None leaves Pillow's limit.
        preprocessing: what a network trained from scratch on this data uses; None if there is no such thing.

    Attributes:
        location: the setting that says where the data is, and its value, for messages.
        task: `classification`, `segmentation` or `detection`: what the targets are.
        labels: whose classes the targets count: `imagenet`, `voc` (torchvision's 21 of segmentation), `coco`
            (torchvision's of detection, the background left out), `own` or `none`.
        default_preprocessing: `preprocessing` at `image_size`, or None.

    Raises:
        UsageError: An argument has an impossible value.
    """

    name: str
    task: Task = "classification"
    labels: ClassVar[Labels]

    def __init__(
        self,
        *,
        name: str,
        root: str | None = None,
        batch_size: int,
        num_workers: int | None = None,
        seed: int = 0,
        held_back: float = 0.1,
        test_part: float = 0.2,
        image_size: Size | None = None,
        limit_train: int | None = None,
        limit_val: int | None = None,
        limit_test: int | None = None,
        augment: bool | str = False,
        flip: bool = True,
        views: int | None = None,
        skip_damaged: bool = False,
        max_megapixels: float | None = None,
        preprocessing: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        check_data({name: value for name, value in locals().items() if name != "self"})
        allow_megapixels(MEGAPIXELS, max_megapixels)
        self.name = name
        self.root = root
        self.location = f"data={name}" if root is None else f"data.root={root}"
        self.batch_size = batch_size
        self.num_workers = min(8, suggested_max_num_workers(1)) if num_workers is None else num_workers
        self.seed = seed
        self.held_back = held_back
        self.test_part = test_part
        self.image_size = image_size
        self.limits = {"train": limit_train, "val": limit_val, "test": limit_test}
        self.augment, self.augment_if_few = augment is True, augment == "auto"
        self.flip = flip
        self.views = views
        self.skip_damaged = skip_damaged
        self.max_megapixels = max_megapixels
        self.default_preprocessing = self._sized(Preprocessing.from_dict(preprocessing)) if preprocessing else None
        self._preprocessing: Preprocessing | None = None
        self._checked: dict[Split, Images] = {}

    @property
    @abstractmethod
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes in the order of the targets; empty where there are no labels.

        For segmentation with the background where the data has it, for detection without.
        """

    @property
    def num_classes(self) -> int | None:
        """Number of classes, or None where there are no labels."""
        return len(self.class_names) or None

    @property
    def num_views(self) -> int | None:
        """How many views of each training image there are; None where they are new each epoch."""
        return self.views if self.augment else 1

    @property
    def preprocessing(self) -> Preprocessing:
        """What turns an image into the network's input; on setting, `image_size` is put into it.

        Where neither says a size, the data's own resizing and cropping are taken.

        Raises:
            RuntimeError: It has not been set.
        """
        if self._preprocessing is None:
            raise RuntimeError("set datamodule.preprocessing = backbone.preprocessing before asking for a loader")
        return self._preprocessing

    @preprocessing.setter
    def preprocessing(self, value: Preprocessing) -> None:
        sized, default = self._sized(value), self.default_preprocessing
        if sized.input_shape is None and default is not None:  # weights that take any size; the data has one
            sized = replace(sized, resize=default.resize, crop=default.crop)
        self._preprocessing = sized

    def setup(self, stage: str | None = None) -> None:
        """Find the images that a stage needs, divide and check them.

        Args:
            stage: Lightning's name of it; None prepares all splits.

        Raises:
            DatasetNotFoundError: The data is not there.
            UsageError: Files are no readable images, annotations cannot be used, or a split would be empty.
        """
        for split in STAGES[stage]:
            self.images(split)

    def images(self, split: Split) -> Images:
        """Return the images of a split as they are, with names and targets, in the order of its loader.

        Raises:
            UsageError: As for `setup`.
        """
        if split not in self._checked:
            images = limit(self._splits[split], self.limits[split], f"data.limit_{split}")
            self._checked[split] = readable(images, self.location, self.skip_damaged)
        return self._checked[split]

    def augment_few(self) -> None:
        """Take random views of the training images where `augment` is `auto` and they are few."""
        count = len(self.images("train"))
        if self.augment_if_few and count < FEW_IMAGES:
            self.augment, self.views = True, self.views or FEW_VIEWS
            say(
                f"data.augment=auto: {count} training images are few; training takes {self.views} random views of each "
                "(data.augment=false for none)"
            )

    def resolved(self) -> dict[str, Any]:
        """Return the settings that depend on the images found, as they came out; JSON-able."""
        return {"augment": self.augment, "views": self.views, "held_back": self.held_back}

    def found(self) -> dict[str, str]:
        """Return which images training and its evaluation go by; JSON-able."""
        images = {split: self.images(split) for split in STAGES["fit"]}
        return {split: f"{len(own)} images ({own.content()})" for split, own in images.items()}

    def train_dataloader(self) -> DataLoader:
        """Training images in a new order each epoch; a last batch that is not full is left out."""
        dataset = self._dataset("train", augment=self.augment)
        sampler = EpochSampler(len(dataset), self.seed, self.num_views, own_share())
        drop_last = len(sampler) > self.batch_size
        return self._loader(dataset, sampler=sampler, drop_last=drop_last, batch_size=self.batch_size)

    def calibration_dataloader(self) -> DataLoader:
        """Training images in a fixed order, never augmented."""
        return self._loader(self._dataset("train"))

    def val_dataloader(self) -> DataLoader:
        """Images held back from training, in a fixed order."""
        return self._in_shares("val")

    def test_dataloader(self) -> DataLoader:
        """Images on which nothing was chosen, in a fixed order."""
        return self._in_shares("test")

    def view_loaders(self, split: Split) -> list[DataLoader]:
        """Every view of every image of a split, in the order of `images`, one loader a view.

        Raises:
            RuntimeError: there is no end of views.
        """
        if split != "train":
            return [self._loader(self._dataset(split))]
        if self.num_views is None:
            raise RuntimeError("the training images have new views each epoch; they cannot be listed")
        dataset = self._dataset("train", augment=self.augment)
        keys = [[(view, index) for index in range(len(dataset))] for view in range(self.num_views)]
        return [self._loader(dataset, sampler=order) for order in keys]

    def identity(self, split: Split) -> dict[str, Any]:
        """Return all that the tensors of `view_loaders` depend on, JSON-able."""
        augmented = self.augment and split == "train"
        return {
            "images": self.images(split).identity(),
            "preprocessing": self.preprocessing.to_dict(),
            "augment": {"views": self.num_views, "flip": self.flip, "seed": self.seed} if augmented else None,
        }

    @abstractmethod
    def _sources(self) -> tuple[Images, Images | None]:
        """Return the images for training and those for evaluation, None where nothing divides them."""

    @cached_property
    def _splits(self) -> dict[Split, Images]:
        self.prepare_data()
        rest, test = self._sources()
        if isinstance(rest, ImageFiles):
            rest = once(rest)
        if isinstance(rest, ImageFiles) and isinstance(test, ImageFiles):
            test = once(test)
            check_apart(rest, test, self.location)
        if test is None:
            rest, test = divide(rest, self.test_part, "data.test_part")
        self.held_back = least_share(self.held_back, len(rest))
        train, val = divide(rest, self.held_back, "data.held_back")
        return {"train": train, "val": val, "test": shuffle(test)}

    def _sized(self, preprocessing: Preprocessing) -> Preprocessing:
        return preprocessing if self.image_size is None else preprocessing.with_image_size(self.image_size)

    def _dataset(self, split: Split, augment: bool = False) -> ImageDataset:
        preprocessing = self.preprocessing
        if augment:
            return ImageDataset(self.images(split), preprocessing.augmented_transform(self.flip).placed, self.seed)
        return ImageDataset(self.images(split), preprocessing.placed)

    def _in_shares(self, split: Split) -> DataLoader:
        dataset = self._dataset(split)
        return self._loader(dataset, sampler=ShareSampler(len(dataset), own_share()))

    def _loader(self, dataset: ImageDataset, batch_size: int | None = None, **options: Any) -> DataLoader:
        return DataLoader(
            dataset,
            batch_size=batch_size or (1 if self.preprocessing.input_shape is None else self.batch_size),
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
            worker_init_fn=partial(_allow, self.max_megapixels),
            generator=torch.Generator(),  # else each pass would move the global one on
            **options,
        )


def _allow(max_megapixels: float | None, worker: int) -> None:
    """Let a process that loads images open those that the main one may."""
    allow_megapixels(MEGAPIXELS, max_megapixels)
