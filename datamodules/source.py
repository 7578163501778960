"""Images and what is known of them before any transform, in files or in memory."""

from __future__ import annotations

import hashlib
import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image
from torch import Tensor

from bottlenecks.errors import UsageError
from bottlenecks.images.geometry import Step

from .annotations import Annotations
from .damage import MAX_DECODED, find_damaged, image_size, in_parallel, load_named

NUM_NAMED = 3  # files that a message names before it only counts


@dataclass(frozen=True, eq=False)
class Images(ABC):
    """A sequence of images with a name and a target each.

    Attributes:
        names: one for each image; of a file, its path below the dataset's folder.
        targets: int64 `(N,)`, the class, or -1 where there is no label; or masks, or boxes.
    """

    names: tuple[str, ...]
    targets: np.ndarray | Annotations

    def __len__(self) -> int:
        return len(self.names)

    @abstractmethod
    def __getitem__(self, index: int) -> Image.Image:
        """Return the decoded image at a position."""

    @abstractmethod
    def size(self, index: int) -> tuple[int, int]:
        """Return `(width, height)` of the image at a position, in pixels."""

    @property
    def classes(self) -> np.ndarray:
        """The class of each image, int64 `(N,)`; 0 for all where masks or boxes say more than that."""
        return np.zeros(len(self), np.int64) if isinstance(self.targets, Annotations) else self.targets

    def target(self, index: int, steps: Sequence[Step], augmented: bool) -> Tensor | int:
        """Return what a network is to find in a view; see `Annotations.target`."""
        if isinstance(self.targets, Annotations):
            return self.targets.target(index, steps, augmented)
        return int(self.targets[index])

    def select(self, indices: Sequence[int] | np.ndarray) -> Images:
        """Return the images at these positions, in this order."""
        names = tuple(self.names[index] for index in indices)
        return replace(self, names=names, targets=self.targets[np.asarray(indices, dtype=np.int64)])

    @abstractmethod
    def identity(self) -> str:
        """Identify names, targets and contents by 16 hexadecimal digits."""

    def content(self) -> str:
        """Identify names, targets and contents by 16 hexadecimal digits that a copy elsewhere has, too."""
        return self.identity()

    def find_damaged(self, thorough: bool = False) -> dict[int, str]:
        """Return position -> reason for each image that cannot be read; see `datamodules.damage`."""
        return {}

    def find_faults(self, thorough: bool = False) -> dict[int, str]:
        """Return position -> reason for each image whose mask or boxes cannot be used.

        Args:
            thorough: look at every pixel of every mask, however many there are.
        """
        if not isinstance(self.targets, Annotations):
            return {}
        targets, all_pixels = self.targets, thorough or len(self) <= MAX_DECODED
        return in_parallel(lambda index: targets.fault(index, self.size(index), all_pixels), range(len(self)))

    def _digest(self) -> hashlib._Hash:
        digest = hashlib.sha256(os.fsencode("\0".join(self.names)))
        if isinstance(self.targets, Annotations):
            self.targets.update(digest)
        else:
            digest.update(np.ascontiguousarray(self.targets).tobytes())
        return digest


@dataclass(frozen=True, eq=False)
class ImageFiles(Images):
    """Images in files.

    Attributes:
        folder: the folder that `names` start from.
    """

    folder: str

    def __getitem__(self, index: int) -> Image.Image:
        """Return the decoded image at a position, upright and in RGB.

        Raises:
            DamagedImageError: The file cannot be read.
        """
        return load_named(os.path.join(self.folder, self.names[index]))

    def size(self, index: int) -> tuple[int, int]:
        """Return `(width, height)` of the image at a position, upright, in pixels.

        Raises:
            DamagedImageError: The file cannot be read.
        """
        return image_size(os.path.join(self.folder, self.names[index]))

    def identity(self) -> str:
        """Identify names, targets, sizes and times of change by 16 hexadecimal digits."""
        digest = self._digest()
        digest.update(b"upright;")  # unlike the pixels that were cached before orientations counted
        for name in self.names:
            stat = os.stat(os.path.join(self.folder, name))
            digest.update(f"{stat.st_size}/{stat.st_mtime_ns};".encode())
        return digest.hexdigest()[:16]

    def content(self) -> str:
        """Identify names, targets and sizes by 16 hexadecimal digits."""
        digest = self._digest()
        for name in self.names:
            digest.update(f"{os.path.getsize(os.path.join(self.folder, name))};".encode())
        return digest.hexdigest()[:16]

    def select(self, indices: Sequence[int] | np.ndarray) -> ImageFiles:
        """Return the images at these positions, in this order."""
        chosen = super().select(indices)
        return ImageFiles(chosen.names, chosen.targets, self.folder)

    def find_damaged(self, thorough: bool = False) -> dict[int, str]:
        """Return position -> reason for each file that cannot be read; see `datamodules.damage`."""
        return find_damaged([os.path.join(self.folder, name) for name in self.names], thorough)


@dataclass(frozen=True, eq=False)
class ImageArrays(Images):
    """Images in memory.

    Attributes:
        arrays: uint8, grey `(N, H, W)` or colour `(N, H, W, 3)`.
    """

    arrays: np.ndarray

    def __getitem__(self, index: int) -> Image.Image:
        """Return the image at a position, in mode `L` or `RGB`."""
        return Image.fromarray(self.arrays[index])

    def size(self, index: int) -> tuple[int, int]:
        """Return `(width, height)` of every image, in pixels."""
        height, width = self.arrays.shape[1:3]
        return width, height

    def identity(self) -> str:
        """Identify names, targets and pixels by 16 hexadecimal digits."""
        digest = self._digest()
        digest.update(np.ascontiguousarray(self.arrays).data)
        return digest.hexdigest()[:16]

    def select(self, indices: Sequence[int] | np.ndarray) -> ImageArrays:
        """Return the images at these positions, in this order."""
        chosen = super().select(indices)
        return ImageArrays(chosen.names, chosen.targets, self.arrays[np.asarray(indices, dtype=np.int64)])


def readable(images: Images, location: str, skip_damaged: bool) -> Images:
    """Check every image, and its mask or boxes.

    Args:
        images: any number of them.
        location: the setting that says where they are, and its value, for the message.
        skip_damaged: leave out what cannot be read or used, with a warning that counts it.

    Raises:
        UsageError: Something cannot be used and is not to be left out, or nothing can be used.
    """
    damaged = images.find_damaged(thorough=skip_damaged)
    images = _without(damaged, images, "files cannot be read as images", "remove", location, skip_damaged)
    faults = images.find_faults(thorough=skip_damaged)
    return _without(faults, images, "images have annotations of no use", "mend", location, skip_damaged)


def _without(
    wrong: Mapping[int, str], images: Images, what: str, remedy: str, location: str, skip_damaged: bool
) -> Images:
    if not wrong:
        return images
    named = shortened([f"{images.names[index]} ({reason})" for index, reason in wrong.items()])
    found = f"{len(wrong)} of {len(images)} {what}: {named}"
    if not skip_damaged:
        raise UsageError(f"{location}: {found}; {remedy} them, or data.skip_damaged=true leaves them out")
    if len(wrong) == len(images):
        raise UsageError(f"{location}: {found}; none is left")
    warnings.warn(f"{location}: left out {found}", stacklevel=3)
    return images.select([index for index in range(len(images)) if index not in wrong])


def shortened(names: Sequence[str]) -> str:
    """Name the first few of many things in a message."""
    return ", ".join([*names[:NUM_NAMED], *["..."] * (len(names) > NUM_NAMED)])
