"""Pictures and their labels before any transform, in files or in memory."""

from __future__ import annotations

import hashlib
import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from bottlenecks.errors import UsageError
from datamodules.damage import find_damaged, load_picture

NUM_NAMED = 3  # files that a message names before it only counts


@dataclass(frozen=True, eq=False)
class Pictures(ABC):
    """A sequence of pictures with a name and a target each.

    Attributes:
        names: one for each picture; of a file, its path below the dataset's folder.
        targets: int64 `(N,)`, the class, or -1 where there is no label.
    """

    names: tuple[str, ...]
    targets: np.ndarray

    def __len__(self) -> int:
        return len(self.names)

    @abstractmethod
    def __getitem__(self, index: int) -> Image.Image:
        """Return the decoded picture at a position."""

    def select(self, indices: Sequence[int] | np.ndarray) -> Pictures:
        """Return the pictures at these positions, in this order."""
        names = tuple(self.names[index] for index in indices)
        return replace(self, names=names, targets=self.targets[np.asarray(indices, dtype=np.int64)])

    @abstractmethod
    def identity(self) -> str:
        """Identify names, targets and contents by 16 hexadecimal digits."""

    def find_damaged(self, thorough: bool = False) -> dict[int, str]:
        """Return position -> reason for each picture that cannot be read; see `datamodules.damage`."""
        return {}

    def _digest(self) -> hashlib._Hash:
        digest = hashlib.sha256("\0".join(self.names).encode())
        digest.update(np.ascontiguousarray(self.targets).tobytes())
        return digest


@dataclass(frozen=True, eq=False)
class PictureFiles(Pictures):
    """Pictures in files.

    Attributes:
        folder: the folder that `names` start from.
    """

    folder: str

    def __getitem__(self, index: int) -> Image.Image:
        """Return the decoded picture at a position.

        Raises:
            DamagedPictureError: The file cannot be read.
        """
        return load_picture(os.path.join(self.folder, self.names[index]))

    def identity(self) -> str:
        """Identify names, targets, sizes and times of change by 16 hexadecimal digits."""
        digest = self._digest()
        for name in self.names:
            stat = os.stat(os.path.join(self.folder, name))
            digest.update(f"{stat.st_size}/{stat.st_mtime_ns};".encode())
        return digest.hexdigest()[:16]

    def find_damaged(self, thorough: bool = False) -> dict[int, str]:
        """Return position -> reason for each file that cannot be read; see `datamodules.damage`."""
        return find_damaged([os.path.join(self.folder, name) for name in self.names], thorough)


@dataclass(frozen=True, eq=False)
class PictureArrays(Pictures):
    """Pictures in memory.

    Attributes:
        arrays: uint8, grey `(N, H, W)` or colour `(N, H, W, 3)`.
    """

    arrays: np.ndarray

    def __getitem__(self, index: int) -> Image.Image:
        """Return the picture at a position, in mode `L` or `RGB`."""
        return Image.fromarray(self.arrays[index])

    def identity(self) -> str:
        """Identify names, targets and pixels by 16 hexadecimal digits."""
        digest = self._digest()
        digest.update(np.ascontiguousarray(self.arrays).data)
        return digest.hexdigest()[:16]

    def select(self, indices: Sequence[int] | np.ndarray) -> PictureArrays:
        """Return the pictures at these positions, in this order."""
        chosen = super().select(indices)
        return PictureArrays(chosen.names, chosen.targets, self.arrays[np.asarray(indices, dtype=np.int64)])


def readable(pictures: Pictures, location: str, skip_damaged: bool) -> Pictures:
    """Check every picture.

    Args:
        pictures: any number of them.
        location: the setting that says where they are, and its value, for the message.
        skip_damaged: leave out what cannot be read, with a warning that counts it.

    Raises:
        UsageError: Something cannot be read and is not to be left out, or nothing can be read.
    """
    damaged = pictures.find_damaged(thorough=skip_damaged)
    if not damaged:
        return pictures
    named = [f"{pictures.names[index]} ({reason})" for index, reason in list(damaged.items())[:NUM_NAMED]]
    named += ["..."] * (len(damaged) > NUM_NAMED)
    found = f"{len(damaged)} of {len(pictures)} files cannot be read as pictures: {', '.join(named)}"
    if not skip_damaged:
        raise UsageError(f"{location}: {found}; remove them, or data.skip_damaged=true leaves them out")
    if len(damaged) == len(pictures):
        raise UsageError(f"{location}: {found}; none is left")
    warnings.warn(f"{location}: left out {found}", stacklevel=2)
    return pictures.select([index for index in range(len(pictures)) if index not in damaged])
