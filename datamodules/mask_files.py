"""Masks in picture files: one channel of class numbers, as a palette or in grey."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from bottlenecks.images import ImageError, opened_image, upright, upright_size
from datamodules.annotations import Masks
from datamodules.damage import DamagedPictureError

NUMBERED = ("P", "L", "1", "I", "I;16", "I;16B")  # Pillow's modes whose pixels are numbers


@dataclass(frozen=True, eq=False)
class MaskFiles(Masks):
    """Masks in files, as CamVid and Pascal VOC have them.

    Attributes:
        names: (N,), paths below `folder`.
        folder: the dataset's folder.
        num_classes: labels run from 0 to one below it.
        void: the label of pixels without one.
    """

    names: npt.NDArray[np.str_]
    folder: str
    num_classes: int
    void: int

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, indices: npt.NDArray[np.int64]) -> MaskFiles:
        """Return the masks at these positions, in this order."""
        return replace(self, names=self.names[indices])

    def mask(self, index: int) -> npt.NDArray[np.int64]:
        """Return a mask (H, W), -1 where there is no label.

        Raises:
            DamagedPictureError: It cannot be read, or has labels that are not known.
        """
        with self._named(index) as path, opened_image(path) as picture:
            picture.load()
            mode, labels = picture.mode, np.asarray(upright(picture))
        if mode not in NUMBERED:
            raise DamagedPictureError(f"{self.names[index]}: {mode} pixels; expected class numbers, in grey or indexed")
        wrong = (labels != self.void) & ((labels < 0) | (labels >= self.num_classes))
        if wrong.any():
            row, column = np.argwhere(wrong)[0]
            raise DamagedPictureError(
                f"{self.names[index]}: label {labels[row, column]} at row {row}, column {column}; "
                f"expected 0 to {self.num_classes - 1}, or {self.void} for none"
            )
        return np.where(labels == self.void, -1, labels.astype(np.int64))

    def size(self, index: int) -> tuple[int, int]:
        """Return `(width, height)` of a mask, upright, in pixels.

        Raises:
            DamagedPictureError: The file cannot be read.
        """
        with self._named(index) as path:
            return upright_size(path)

    def update(self, digest: hashlib._Hash) -> None:
        """Put names, sizes and times of change into a digest."""
        digest.update(f"{self.num_classes}/{self.void};".encode())
        for name in self.names:
            stat = os.stat(os.path.join(self.folder, name))
            digest.update(f"{name}/{stat.st_size}/{stat.st_mtime_ns};".encode())

    @contextmanager
    def _named(self, index: int) -> Iterator[str]:
        """Give the path of a mask; whatever is wrong with it is told with its name."""
        try:
            yield os.path.join(self.folder, self.names[index])
        except ImageError as error:
            raise DamagedPictureError(f"{self.names[index]}: {error}") from error
