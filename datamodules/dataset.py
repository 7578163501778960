"""Images as a network takes them: tensors and targets, with augmentation that can be repeated."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from bottlenecks.errors import UsageError
from bottlenecks.images.geometry import Step

from .damage import DamagedImageError
from .source import Images


class ImageDataset(Dataset[tuple[Tensor, Tensor | int]]):
    """Applies a transform to images, and lets what is to be found in them follow.

    Args:
        images: the images, with their targets.
        transform: image -> float tensor `(3, H, W)`, and the steps that its pixels took.
        seed: for a random transform: its draws depend on seed, view and index alone, not on the process that
            runs it or on what came before. None for a deterministic transform.
    """

    def __init__(
        self,
        images: Images,
        transform: Callable[[Image.Image], tuple[Tensor, Sequence[Step]]],
        seed: int | None = None,
    ) -> None:
        self.images = images
        self.transform = transform
        self.seed = seed

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: int | tuple[int, int]) -> tuple[Tensor, Tensor | int]:
        """Return image `(3, H, W)` and target at an index, or at the `(view, index)` of `EpochSampler`.

        Raises:
            DamagedImageError: The image, or what is to be found in it, cannot be used.
        """
        view, index = key if isinstance(key, tuple) else (0, key)
        try:
            image, steps = self._transformed(view, index)
        except DamagedImageError:
            raise
        except UsageError as error:  # such as a size that nothing can be resized from
            raise DamagedImageError(f"{self.images.names[index]}: {error}; remove it") from error
        return image, self.images.target(index, steps, augmented=self.seed is not None)

    def _transformed(self, view: int, index: int) -> tuple[Tensor, Sequence[Step]]:
        image = self.images[index]
        if self.seed is None:
            return self.transform(image)
        state = np.random.SeedSequence([self.seed, view, index]).generate_state(1, np.uint64)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(int(state[0]))  # torch.manual_seed would reseed the accelerator too
            return self.transform(image)
