"""Where an image's pixels go when it is resized, cut and mirrored, so that masks and boxes can follow.

Boxes go where `torchvision.transforms.v2` takes its own. Masks are stricter: v2's are resized by the lines before the
middle of a pixel, and then no longer lie on what Pillow made of the image; what v2 puts outside of it is class 0.
Nor does v2 know which share of an object is left in a view. A device needs the sides without torch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

Size: TypeAlias = "int | tuple[int, int]"
Sides: TypeAlias = tuple[int, int]

NOWHERE = -1  # the label of a pixel outside the image


@dataclass(frozen=True)
class Step:
    """Scale an image, cut a window out of it, and perhaps mirror that.

    Attributes:
        source: `(width, height)` of the image in pixels.
        scaled: `(width, height)` that it is resized to.
        corner: `(left, top)` of the window in the scaled image; below 0 where it begins outside.
        size: `(width, height)` of the window.
        mirrored: left and right change places in the end.
    """

    source: Sides
    scaled: Sides
    corner: Sides
    size: Sides
    mirrored: bool = False

    def mask(self, mask: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Move a mask, taking the nearest pixel.

        Args:
            mask: (H, W), of the size of `source`.

        Returns:
            (H, W) of `size`, `NOWHERE` outside the image.
        """
        columns, rows = (self._nearest(axis) for axis in (0, 1))
        moved = mask[rows[:, None], columns]
        return np.where((rows[:, None] < 0) | (columns < 0), NOWHERE, moved)

    def boxes(self, boxes: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Move boxes (M, 4), each x1, y1, x2, y2 in pixels, without clipping them to the window."""
        scale = np.array(self.scaled) / np.array(self.source)
        x1, y1, x2, y2 = (boxes * np.tile(scale, 2) - np.tile(self.corner, 2)).T
        if self.mirrored:
            x1, x2 = self.size[0] - x2, self.size[0] - x1
        return np.stack([x1, y1, x2, y2], axis=1)

    def _nearest(self, axis: int) -> npt.NDArray[np.int32]:
        """Return the line of the source that Pillow's nearest takes for each of the window; -1 where there is none."""
        lines = Image.fromarray(np.arange(self.source[axis], dtype=np.int32)[None])
        scaled = np.asarray(lines.resize((self.scaled[axis], 1), Image.Resampling.NEAREST))[0]
        place = np.arange(self.size[axis]) + self.corner[axis]
        inside = (place >= 0) & (place < len(scaled))
        found = np.where(inside, scaled[place.clip(0, len(scaled) - 1)], -1)
        return found[::-1] if self.mirrored and axis == 0 else found


def follow_boxes(
    boxes: npt.NDArray[np.float64], steps: Sequence[Step], least_share: float = 0, least_side: float = 0
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Move boxes through steps, each time clipped to the window.

    Args:
        boxes: (M, 4), each x1, y1, x2, y2 in pixels, of some area.
        steps: in the order they were taken.
        least_share: of its area that a box has to keep.
        least_side: in pixels, that both sides of a box must have in the end.

    Returns:
        The boxes (M, 4), and which of them are left (M,); what has no area never is.
    """
    share = np.ones(len(boxes))
    for step in steps:
        moved = step.boxes(boxes)
        boxes = moved.clip(0, np.tile(step.size, 2))
        share = share * _area(boxes) / np.maximum(_area(moved), np.finfo(float).tiny)
    left = (share > 0) & (share >= least_share) & (_sides(boxes).min(axis=1, initial=np.inf) >= least_side)
    return boxes, left


def resized_sides(sides: Sides, size: Size | None) -> Sides:
    """Resize as torchvision does: a number is the short side, and the long one is rounded down.

    Args:
        sides: `(width, height)` in pixels.
        size: length of the short side, or `(height, width)`; None keeps the size.

    Returns:
        `(width, height)`.
    """
    if size is None:
        return sides
    if not isinstance(size, int):
        return size[1], size[0]
    short, long = sorted(sides)
    new = size, int(size * long / short)
    return new if sides[0] <= sides[1] else (new[1], new[0])


def centred(sides: Sides, window: Sides, down: bool = False) -> Sides:
    """Return the corner (left, top) of a window in an image's centre, as torchvision rounds it; below 0 outside.

    Args:
        sides: `(width, height)` of the image in pixels.
        window: the same of the window.
        down: round half a pixel down, as transformers does.
    """
    rounded = math.floor if down else round
    left, top = (
        -((cut - side) // 2) if cut > side else rounded((side - cut) / 2)
        for side, cut in zip(sides, window, strict=True)
    )
    return left, top


def _sides(boxes: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return boxes[:, 2:] - boxes[:, :2]


def _area(boxes: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return _sides(boxes).prod(axis=1)
