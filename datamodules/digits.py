"""Handwritten digits that come with scikit-learn: real data without a download."""

from functools import cache

import numpy as np
from sklearn.datasets import load_digits

from .base import ImageDataModule
from .source import ImageArrays, Images
from .splits import divide

NUM_TEST = 397  # of 1,797
MAX_VALUE = 16


@cache
def digit_parts() -> tuple[Images, Images]:
    """Return the 1,400 digits to train on or hold back, and the 397 to evaluate on."""
    digits = load_digits()
    arrays = np.round(digits.images * (255 / MAX_VALUE)).astype(np.uint8)
    names = tuple(f"digit-{index:04d}" for index in range(len(arrays)))
    images = ImageArrays(names, digits.target.astype(np.int64), arrays)
    return divide(images, NUM_TEST, "number of digits to evaluate on")


class Digits(ImageDataModule):
    """1,797 handwritten digits, 8x8 and grey, of which always the same 397 are evaluated on.

    They are the test set of UCI's "Optical Recognition of Handwritten Digits", its values 0..16 made 8-bit.
    """

    labels = "own"
    class_names = tuple("0123456789")

    def _sources(self) -> tuple[Images, Images]:
        return digit_parts()
