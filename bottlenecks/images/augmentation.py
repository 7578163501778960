"""Random views of an image to train a network on, and where its pixels went."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional

from bottlenecks.images.geometry import Sides, Size, Step, centred, resized_sides
from bottlenecks.images.reading import upright

SMALL_SIDE = 96  # pixels; up to here an image loses too much in a random resized crop
SHARES = (0.25, 1.0)  # of a larger image's area that a crop keeps
RATIOS = (3 / 4, 4 / 3)  # width over height of such a crop, before it is resized


@dataclass(frozen=True)
class Augmentation:
    """Crop an image at random, mirror half of them, normalise.

    Small images are shifted by up to an eighth of a side, larger ones are cropped at random scale and shape. All
    randomness comes from torch's global generator.

    Attributes:
        size: `(width, height)` of the views in pixels.
        resize: that an image is resized to before it is shifted, as for `resized_sides`.
        interpolation: torchvision's name.
        resized: image -> image in RGB, resized.
        converted: image -> image in RGB.
        normalised: image -> float tensor (3, H, W).
        flip: mirror half of the images.
    """

    size: Sides
    resize: Size | None
    interpolation: str
    resized: Callable
    converted: Callable
    normalised: Callable
    flip: bool

    def __call__(self, image: Image.Image) -> Tensor:
        """Return a random view, float (3, H, W)."""
        return self.placed(image)[0]

    def placed(self, image: Image.Image) -> tuple[Tensor, list[Step]]:
        """Return a random view, float (3, H, W), and the steps that its pixels took."""
        image = upright(image)
        view, steps = (self._shifted if min(self.size) <= SMALL_SIDE else self._cropped)(image)
        if self.flip and torch.rand(1) < 0.5:
            mirror = Step(self.size, self.size, (0, 0), self.size, mirrored=True)
            view, steps = functional.hflip(view), [*steps, mirror]
        return self.normalised(view), steps

    def _shifted(self, image: Image.Image) -> tuple[Image.Image | Tensor, list[Step]]:
        width, height = self.size
        view = functional.center_crop(self.resized(image), [height, width])
        top, left = (
            int(torch.randint(0, 2 * most + 1, ())) - most if most else 0 for most in (height // 8, width // 8)
        )
        scaled = resized_sides(image.size, self.resize)
        fixed = Step(image.size, scaled, centred(scaled, self.size), self.size)
        return functional.crop(view, top, left, height, width), [
            fixed,
            Step(self.size, self.size, (left, top), self.size),
        ]

    def _cropped(self, image: Image.Image) -> tuple[Image.Image, list[Step]]:
        top, left, height, width = v2.RandomResizedCrop.get_params(image, list(SHARES), list(RATIOS))
        window, size, mode = (top, left, height, width), self.size[::-1], InterpolationMode(self.interpolation)
        view = functional.resized_crop(self.converted(image), *window, list(size), mode, antialias=True)
        cut = Step(image.size, image.size, (left, top), (width, height))
        return view, [cut, Step((width, height), self.size, (0, 0), self.size)]
