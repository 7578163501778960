"""Pictures as a network takes them: tensors and targets, with augmentation that can be repeated."""

import numpy as np
import torch
from torch.utils.data import Dataset

from bottlenecks.preprocessing import Transform
from datamodules.source import Pictures


class PictureDataset(Dataset[tuple[torch.Tensor, int]]):
    """Applies a transform to pictures.

    Args:
        pictures: the pictures, with their targets.
        transform: picture -> float tensor `(3, H, W)`.
        seed: for a random transform: its draws depend on seed, view and index alone, not on the process that
            runs it or on what came before. None for a deterministic transform.
    """

    def __init__(self, pictures: Pictures, transform: Transform, seed: int | None = None) -> None:
        self.pictures = pictures
        self.transform = transform
        self.seed = seed

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, key: int | tuple[int, int]) -> tuple[torch.Tensor, int]:
        """Return image `(3, H, W)` and target at an index, or at the `(view, index)` of `EpochSampler`."""
        view, index = key if isinstance(key, tuple) else (0, key)
        picture, target = self.pictures[index], int(self.pictures.targets[index])
        if self.seed is None:
            return self.transform(picture), target
        state = np.random.SeedSequence([self.seed, view, index]).generate_state(1, np.uint64)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(int(state[0]))  # torch.manual_seed would reseed the accelerator too
            return self.transform(picture), target
