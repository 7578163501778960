"""The order of the training images, as a function of seed and epoch alone."""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from bottlenecks.processes import Share

ALL = Share(0, 1)


class EpochSampler(Sampler[tuple[int, int]]):
    """Shuffles anew each epoch and says which view of an image is its turn, so that augmentation can depend on it.

    Nothing is carried over from one epoch to the next: a resumed run sees the order that an uninterrupted one
    sees. Lightning calls `set_epoch` before each epoch.

    Args:
        num_images: how many images there are.
        seed: a number from 0.
        views: how many augmented views of each image there are, taken in turn; None for new ones each epoch.
        share: of the images, where several processes divide each epoch among them; all take equally many, so a
            few images may have to wait for another epoch.
    """

    def __init__(self, num_images: int, seed: int, views: int | None = None, share: Share = ALL) -> None:
        self.num_images = num_images
        self.seed = seed
        self.views = views
        self.share = share
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Go to an epoch, counted from 0."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.num_images // self.share.world_size

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Yield `(view, index)` once for each image."""
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.num_images)
        order = order[self.share.rank :: self.share.world_size][: len(self)]
        view = self.epoch % self.views if self.views else self.epoch
        return ((view, index) for index in order.tolist())


class ShareSampler(Sampler[int]):
    """Goes through the images in order, each process through its share; no image is taken twice.

    Args:
        num_images: how many images there are.
        share: of this process.
    """

    def __init__(self, num_images: int, share: Share) -> None:
        self.indices = range(share.rank, num_images, share.world_size)

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[int]:
        """Yield each index of the share once."""
        return iter(self.indices)
