"""What is to be found in images, beyond a class for each: masks and boxes, checked and made into targets."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bottlenecks.images.geometry import Sides, Step, follow_boxes

from .damage import DamagedImageError

PADDING = (-1.0, 0.0, 0.0, 0.0, 0.0)  # a row of a target where an image has fewer objects than others
LEAST_SHARE = 0.25  # of its area that an object keeps in a random view, or it is not to be found there
LEAST_SIDE = 1.0  # pixels, likewise
SLACK = 0.5  # pixels that a box may reach over its image, by rounding

Objects: TypeAlias = Sequence[Sequence[float]] | str
"""Rows `[class, x1, y1, x2, y2]` of one image, or the reason why its annotation cannot be used."""


class Annotations(ABC):
    """One annotation for each of some images, which an array of positions selects from."""

    @abstractmethod
    def __len__(self) -> int:
        """Count the images."""

    @abstractmethod
    def __getitem__(self, indices: npt.NDArray[np.int64]) -> Annotations:
        """Return the annotations at these positions, in this order."""

    @abstractmethod
    def target(self, index: int, steps: Sequence[Step], augmented: bool) -> Tensor:
        """Return what a network is to find in a view of an image.

        Args:
            index: position of the image.
            steps: that its pixels took to the view.
            augmented: they were drawn at random, so that an object may have been cut away.

        Raises:
            UsageError: The annotation cannot be used.
        """

    @abstractmethod
    def fault(self, index: int, size: tuple[int, int], thorough: bool) -> str | None:
        """Return what is wrong with an annotation, for an image of `(width, height)`; None where nothing is.

        Args:
            index: position of the image.
            size: `(width, height)` of the image, upright, in pixels.
            thorough: look at every pixel, too.
        """

    @abstractmethod
    def update(self, digest: hashlib._Hash) -> None:
        """Put all that the targets depend on into a digest."""


class Masks(Annotations):
    """A label for each pixel of each image; targets are int64 (H, W), -1 where there is none."""

    @abstractmethod
    def mask(self, index: int) -> npt.NDArray[np.int64]:
        """Return a mask (H, W), of its image's size.

        Raises:
            DamagedImageError: It cannot be read, or has labels that are not known.
        """

    @abstractmethod
    def size(self, index: int) -> tuple[int, int]:
        """Return `(width, height)` of a mask in pixels, without a look at its labels.

        Raises:
            DamagedImageError: There is no mask.
        """

    def target(self, index: int, steps: Sequence[Step], augmented: bool) -> Tensor:
        """Return the mask of a view, int64 (H, W), -1 where there is no label.

        Raises:
            DamagedImageError: The mask cannot be used.
        """
        mask = self.mask(index)
        for step in steps:
            mask = step.mask(mask)
        return torch.from_numpy(mask)

    def fault(self, index: int, size: tuple[int, int], thorough: bool) -> str | None:
        """Return whether a mask is unlike its image or has labels that are not known; None where it is right."""
        try:
            width, height = self.size(index)
            if (width, height) != size:
                return f"mask of {width}x{height}, image of {size[0]}x{size[1]}"
            if thorough:
                self.mask(index)
        except DamagedImageError as error:
            return str(error)
        return None


@dataclass(frozen=True, eq=False)
class MaskArrays(Masks):
    """Masks in memory.

    Attributes:
        arrays: uint8 (N, H, W), labels.
    """

    arrays: npt.NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.arrays)

    def __getitem__(self, indices: npt.NDArray[np.int64]) -> MaskArrays:
        """Return the masks at these positions, in this order."""
        return MaskArrays(self.arrays[indices])

    def mask(self, index: int) -> npt.NDArray[np.int64]:
        """Return a mask (H, W)."""
        return self.arrays[index].astype(np.int64)

    def size(self, index: int) -> tuple[int, int]:
        """Return `(width, height)` of every mask in pixels."""
        height, width = self.arrays.shape[1:]
        return width, height

    def update(self, digest: hashlib._Hash) -> None:
        """Put the labels into a digest."""
        digest.update(np.ascontiguousarray(self.arrays).data)


@dataclass(frozen=True, eq=False)
class Boxes(Annotations):
    """Objects of each image; targets are float32 (M, 5), rows `[class, x1, y1, x2, y2]`, `PADDING` last.

    Attributes:
        rows: float32 (N, M, 5), in pixels of the images; padding has class -1.
        faults: what is wrong with an image's annotation, as found when it was read; None where nothing is.
        sizes: int (N, 2), width and height of the image in pixels as its annotation states them, 0 where it does not;
            None where none does.
    """

    rows: npt.NDArray[np.float32]
    faults: npt.NDArray[np.object_]
    sizes: npt.NDArray[np.int64] | None = None

    @classmethod
    def of_parts(cls, *parts: Sequence[Objects]) -> list[Boxes]:
        """Build several that have the same number of rows."""
        boxes = cls.of([objects for part in parts for objects in part])
        ends = np.cumsum([len(part) for part in parts])
        return [boxes[np.arange(end - len(part), end)] for part, end in zip(parts, ends, strict=True)]

    @classmethod
    def of(cls, objects: Sequence[Objects]) -> Boxes:
        """Build from the objects of each image; as many rows for each as the most of them have."""
        usable = [[] if isinstance(found, str) else list(found) for found in objects]
        rows = np.empty((len(objects), max([1, *map(len, usable)]), 5), dtype=np.float32)
        rows[:] = PADDING
        for place, found in zip(rows, usable, strict=True):
            if found:
                place[: len(found)] = found
        faults = np.empty(len(objects), dtype=object)
        faults[:] = [found if isinstance(found, str) else None for found in objects]
        return cls(rows, faults)

    def stating(self, sizes: Sequence[Sides | None]) -> Boxes:
        """Return the same with the size that each annotation states, None where it does not."""
        return replace(self, sizes=np.array([size or (0, 0) for size in sizes], np.int64).reshape(-1, 2))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, indices: npt.NDArray[np.int64]) -> Boxes:
        """Return the objects of the images at these positions, in this order."""
        return Boxes(self.rows[indices], self.faults[indices], None if self.sizes is None else self.sizes[indices])

    def objects(self, index: int) -> npt.NDArray[np.float32]:
        """Return an image's objects without padding, (objects, 5)."""
        rows = self.rows[index]
        return rows[rows[:, 0] >= 0]

    def target(self, index: int, steps: Sequence[Step], augmented: bool) -> Tensor:
        """Return the objects of a view, float32 (M, 5); those that are cut away leave padding."""
        objects = self.objects(index)
        least = (LEAST_SHARE, LEAST_SIDE) if augmented else (0.0, 0.0)
        boxes, left = follow_boxes(objects[:, 1:].astype(np.float64), steps, *least)
        target = torch.tensor(PADDING).repeat(self.rows.shape[1], 1)
        target[: left.sum(), 0] = torch.from_numpy(objects[left, 0])
        target[: left.sum(), 1:] = torch.from_numpy(boxes[left].astype(np.float32))
        return target

    def fault(self, index: int, size: tuple[int, int], thorough: bool) -> str | None:
        """Return which box is impossible, or what was wrong with the file; None where nothing is."""
        if self.faults[index] is not None:
            return str(self.faults[index])
        stated = size if self.sizes is None or not self.sizes[index].all() else tuple(self.sizes[index])
        if stated != size:
            return f"annotation for {stated[0]}x{stated[1]}, image of {size[0]}x{size[1]} as it stands upright"
        boxes = self.objects(index)[:, 1:]
        inside = ((boxes >= -SLACK) & (boxes <= np.tile(size, 2) + SLACK)).all(axis=1)
        right = inside & (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
        if right.all():
            return None
        first = int(right.argmin())
        numbers = ", ".join(f"{side:g}" for side in boxes[first])
        problem = "has no area" if inside[first] else f"does not lie in the image of {size[0]}x{size[1]}"
        return f"box {first + 1}, [{numbers}], {problem}"

    def update(self, digest: hashlib._Hash) -> None:
        """Put the objects into a digest."""
        digest.update(np.ascontiguousarray(self.rows).data)
