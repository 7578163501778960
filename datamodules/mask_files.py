"""Masks in image files: one channel of class numbers, as a palette or in grey."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from bottlenecks.images.reading import ImageError, opened_image, upright, upright_size

from .annotations import Masks
from .damage import DamagedImageError

NUMBERED = ("P", "L", "1", "I", "I;16", "I;16B")  # Pillow's modes whose pixels are numbers

UNKNOWN = -2  # stands for a label that there is not

Colour: TypeAlias = tuple[int, int, int]
"""Red, green and blue, 0 to 255."""


@dataclass(frozen=True, eq=False)
class MaskFiles(Masks):
    """Masks in files, as CamVid and Pascal VOC have them.

    Attributes:
        names: (N,), paths below `folder`.
        folder: the dataset's folder.
        num_classes: labels run from 0 to one below it.
        void: the label of pixels without one; None where each has one.
    """

    names: npt.NDArray[np.str_]
    folder: str
    num_classes: int
    void: int | None

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, indices: npt.NDArray[np.int64]) -> MaskFiles:
        """Return the masks at these positions, in this order."""
        return replace(self, names=self.names[indices])

    def mask(self, index: int) -> npt.NDArray[np.int64]:
        """Return a mask (H, W), -1 where there is no label.

        Raises:
            DamagedImageError: It cannot be read, or has labels that are not known.
        """
        with self._named(index) as path, opened_image(path) as image:
            image.load()
            pixels = self._pixels(upright(image))
        labels = self._labels(pixels)
        if (labels == UNKNOWN).any():
            row, column = np.argwhere(labels == UNKNOWN)[0]
            raise DamagedImageError(
                f"{self.names[index]}: {self._say(pixels[row, column])} at row {row}, column {column}; "
                f"expected {self._expected()}"
            )
        return labels

    def largest(self, index: int) -> int:
        """Return the largest label of a mask, -1 where there is none or it cannot be read."""
        try:
            return int(self.mask(index).max())
        except DamagedImageError:
            return -1

    def size(self, index: int) -> tuple[int, int]:
        """Return `(width, height)` of a mask, upright, in pixels.

        Raises:
            DamagedImageError: The file cannot be read.
        """
        with self._named(index) as path:
            return upright_size(path)

    def update(self, digest: hashlib._Hash) -> None:
        """Put names, sizes and times of change into a digest."""
        digest.update(f"{self.num_classes}/{self.void};".encode())
        for name in self.names:
            stat = os.stat(os.path.join(self.folder, name))
            digest.update(os.fsencode(f"{name}/{stat.st_size}/{stat.st_mtime_ns};"))

    def _pixels(self, image: Image.Image) -> npt.NDArray[Any]:
        """Return a number for each pixel (H, W)."""
        if image.mode not in NUMBERED:
            raise ImageError(f"{image.mode} pixels; expected class numbers, in grey or indexed")
        return np.asarray(image)

    def _labels(self, pixels: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """Return labels (H, W), -1 where there is none, `UNKNOWN` where it is not known."""
        known = (pixels >= 0) & (pixels < self.num_classes)
        return np.where(pixels == self._void(), -1, np.where(known, pixels.astype(np.int64), UNKNOWN))

    def _void(self) -> int:
        return UNKNOWN if self.void is None else self.void

    def _say(self, pixel: int) -> str:
        return f"label {pixel}"

    def _expected(self) -> str:
        return f"0 to {self.num_classes - 1}" + ("" if self.void is None else f", or {self.void} for none")

    @contextmanager
    def _named(self, index: int) -> Iterator[str]:
        """Return the path of a mask; whatever is wrong with it is told with its name."""
        try:
            yield os.path.join(self.folder, self.names[index])
        except ImageError as error:
            raise DamagedImageError(f"{self.names[index]}: {error}") from error


@dataclass(frozen=True, eq=False)
class ColourMaskFiles(MaskFiles):
    """Masks in files whose pixels are colours of a list; `void` is a colour as one number, as `number_of` gives it.

    Attributes:
        colours: of the classes, in their order.
    """

    colours: tuple[Colour, ...]

    def update(self, digest: hashlib._Hash) -> None:
        """Put colours, names, sizes and times of change into a digest."""
        digest.update(repr(self.colours).encode())
        super().update(digest)

    def _pixels(self, image: Image.Image) -> npt.NDArray[np.int64]:
        return number_of(np.asarray(image.convert("RGB")))

    def _labels(self, pixels: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        known = number_of(np.array(self.colours))
        order = np.argsort(known)
        place = np.searchsorted(known[order], pixels).clip(max=len(known) - 1)
        labels = np.where(known[order][place] == pixels, order[place], UNKNOWN)
        return np.where(pixels == self._void(), -1, labels)

    def _say(self, pixel: int) -> str:
        return f"colour [{pixel >> 16},{pixel >> 8 & 255},{pixel & 255}]"

    def _expected(self) -> str:
        return f"the colours of {self.num_classes} classes" + (
            "" if self.void is None else f", or {self._say(self.void)}"
        )


def number_of(colours: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Turn colours (…, 3) into one number each."""
    red, green, blue = np.moveaxis(colours.astype(np.int64), -1, 0)
    return red << 16 | green << 8 | blue
