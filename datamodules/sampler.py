"""The order of the training pictures, as a function of seed and epoch alone."""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler


class EpochSampler(Sampler[tuple[int, int]]):
    """Shuffles anew each epoch and says which view of a picture is its turn, so that augmentation can depend on it.

    Nothing is carried over from one epoch to the next: a resumed run sees the order that an uninterrupted one
    sees. Lightning calls `set_epoch` before each epoch, and still does where it wraps this sampler to give
    each process its share.

    Args:
        num_pictures: how many pictures there are.
        seed: a number from 0.
        views: how many augmented views of each picture there are, taken in turn; None for new ones each epoch.
    """

    def __init__(self, num_pictures: int, seed: int, views: int | None = None) -> None:
        self.num_pictures = num_pictures
        self.seed = seed
        self.views = views
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Go to an epoch, counted from 0."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.num_pictures

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Yield `(view, index)` once for each picture."""
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.num_pictures)
        view = self.epoch % self.views if self.views else self.epoch
        return ((view, index) for index in order.tolist())
