"""Random views of a picture to train a network on, and where its pixels went."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from PIL import Image
from torchvision import transforms
from torchvision.transforms import InterpolationMode, functional

from bottlenecks.errors import UsageError
from bottlenecks.geometry import Step, centred, resized_sides

if TYPE_CHECKING:
    from torch import Tensor

    from bottlenecks.preprocessing import Preprocessing

SMALL_SIDE = 96  # pixels; up to here a picture loses too much in a random resized crop
SHARES = (0.25, 1.0)  # of a larger picture's area that a crop keeps
RATIOS = (3 / 4, 4 / 3)  # width over height of such a crop, before it is resized


class Augmentation:
    """Crop a picture at random, mirror half of them, normalise.

    Small pictures are shifted by up to an eighth of a side, larger ones are cropped at random scale and shape. All
    randomness comes from torch's global generator.

    Args:
        preprocessing: what the network expects.
        resize: picture -> picture in RGB, resized as `preprocessing` says.
        convert: picture -> picture in RGB.
        normalise: picture -> float tensor (3, H, W).
        flip: mirror half of the pictures; wrong where left and right matter, as in digits.

    Raises:
        UsageError: The size of the input is not fixed.
    """

    def __init__(
        self, preprocessing: Preprocessing, resize: Callable, convert: Callable, normalise: Callable, flip: bool
    ) -> None:
        if preprocessing.input_shape is None:
            raise UsageError("data.augment=true: needs inputs of one size; give preprocessing.crop or data.image_size")
        _, self.height, self.width = preprocessing.input_shape
        self.preprocessing = preprocessing
        self.resize, self.convert, self.normalise = resize, convert, normalise
        self.flip = flip

    def __call__(self, picture: Image.Image) -> Tensor:
        """Return a random view, float (3, H, W)."""
        return self.placed(picture)[0]

    def placed(self, picture: Image.Image) -> tuple[Tensor, list[Step]]:
        """Return a random view, float (3, H, W), and the steps that its pixels took."""
        small = min(self.height, self.width) <= SMALL_SIDE
        view, steps = self._shifted(picture) if small else self._cropped(picture)
        if self.flip and torch.rand(1) < 0.5:
            size = (self.width, self.height)
            view, steps = functional.hflip(view), [*steps, Step(size, size, (0, 0), size, mirrored=True)]
        return self.normalise(view), steps

    def _shifted(self, picture: Image.Image) -> tuple[Image.Image | Tensor, list[Step]]:
        size = (self.width, self.height)
        view = functional.center_crop(self.resize(picture), [self.height, self.width])
        down, across = self.height // 8, self.width // 8
        top, left = (int(torch.randint(0, 2 * most + 1, ())) - most if most else 0 for most in (down, across))
        scaled = resized_sides(picture.size, self.preprocessing.resize)
        steps = [Step(picture.size, scaled, centred(scaled, size), size), Step(size, size, (left, top), size)]
        return functional.crop(view, top, left, self.height, self.width), steps

    def _cropped(self, picture: Image.Image) -> tuple[Image.Image, list[Step]]:
        size = (self.width, self.height)
        top, left, height, width = transforms.RandomResizedCrop.get_params(picture, list(SHARES), list(RATIOS))
        mode = InterpolationMode(self.preprocessing.interpolation)
        view = functional.resized_crop(
            self.convert(picture), top, left, height, width, [self.height, self.width], mode, antialias=True
        )
        cut = Step(picture.size, picture.size, (left, top), (width, height))
        return view, [cut, Step((width, height), size, (0, 0), size)]
