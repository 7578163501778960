"""Scenes composed of handwritten digits: images with masks and boxes that need no download."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from .digits import digit_parts
from .source import Images

SIDE = 128  # pixels of a scene, both ways
HEIGHTS = (20, 48)  # pixels of a digit, about: its ink reaches nearly so far
COUNTS = (2, 6)  # digits in a scene; fewer where no place is left
PLACES = 30  # that are tried for a digit
CONTRASTS = (70, 130)  # of 255, between the brightness of a digit and of what lies behind it
TINT = 40  # of 255, likewise
OVERLAP = 0.05  # of the smaller of two boxes, that both may share
PATCHES, STRIPES, NOISE = 32, 10, 12  # of 255, the most that a background differs from its colour by

Array = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Scenes:
    """Digits on a background.

    Attributes:
        arrays: uint8 (N, H, W, 3), the images.
        masks: uint8 (N, H, W): 0 for the background, 1 + the digit where there is ink.
        objects: of each scene, rows `[digit, x1, y1, x2, y2]` in pixels.
    """

    arrays: Array
    masks: Array
    objects: list[list[tuple[int, int, int, int, int]]]


def compose_parts(num_train: int, num_test: int) -> tuple[Scenes, Scenes]:
    """Compose scenes to train on and scenes to evaluate on, of the digits that `digits` trains and evaluates on.

    The same scenes each time: scene 0 is the same however many there are.
    """
    train, test = digit_parts()
    return compose(train, num_train, part=0), compose(test, num_test, part=1)


def compose(digits: Images, count: int, part: int) -> Scenes:
    """Compose scenes of digits.

    Args:
        digits: grey images, with their classes.
        count: number of scenes.
        part: other scenes for each number.
    """
    glyphs = [np.asarray(digits[index]) for index in range(len(digits))]
    random = np.random.RandomState(part)  # unlike Generator's, its stream is promised not to change
    scenes = [_scene(random, glyphs, digits.classes) for _ in range(count)]
    arrays, masks, objects = zip(*scenes, strict=True)
    return Scenes(np.stack(arrays), np.stack(masks), list(objects))


def _scene(random: np.random.RandomState, glyphs: list[Array], classes: np.ndarray) -> tuple[Array, Array, list]:
    image, mask = _background(random), np.zeros((SIDE, SIDE), np.uint8)
    objects: list[tuple[int, int, int, int, int]] = []
    for _ in range(random.randint(COUNTS[0], COUNTS[1] + 1)):
        index = random.randint(len(glyphs))
        ink = _ink(glyphs[index], random.randint(HEIGHTS[0], HEIGHTS[1] + 1))
        place = _place(random, ink.shape, objects)
        if place is not None:
            left, top = place
            window = np.s_[top : top + ink.shape[0], left : left + ink.shape[1]]
            image[window] += ink[..., None] * (_colour(random, image[window].mean()) - image[window])
            mask[window][ink >= 0.5] = 1 + classes[index]
            objects.append((int(classes[index]), left, top, left + ink.shape[1], top + ink.shape[0]))
    noise = random.randint(-NOISE, NOISE + 1, image.shape, dtype=np.int8)
    return (image + noise).clip(0, 255).astype(np.uint8), mask, objects


def _background(random: np.random.RandomState) -> FloatArray:
    """Return soft patches around a colour, with stripes on them, (SIDE, SIDE, 3)."""
    patches = random.randint(48, 208, 3) + random.randint(-PATCHES, PATCHES + 1, (5, 5, 3))
    soft = Image.fromarray(patches.astype(np.uint8)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    waves = np.exp(1j * np.arange(SIDE) * random.uniform(-0.9, 0.9, (2, 1)))
    stripes = random.uniform(2, STRIPES) * np.outer(waves[0], waves[1]).imag
    return np.asarray(soft, dtype=np.float32) + stripes.astype(np.float32)[..., None]


def _ink(glyph: Array, height: int) -> FloatArray:
    """Enlarge a digit, float 0..1; cut to where at least half is ink."""
    width = round(height * glyph.shape[1] / glyph.shape[0])
    large = np.asarray(Image.fromarray(glyph).resize((width, height), Image.Resampling.BICUBIC), dtype=np.float32) / 255
    rows, columns = np.flatnonzero((large >= 0.5).any(axis=1)), np.flatnonzero((large >= 0.5).any(axis=0))
    return large[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _place(random: np.random.RandomState, shape: tuple[int, ...], objects: list) -> tuple[int, int] | None:
    """Find a corner (left, top) for a digit of a shape (height, width) that leaves the others visible."""
    height, width = shape
    for _ in range(PLACES):
        left, top = random.randint(SIDE - width + 1), random.randint(SIDE - height + 1)
        if all(_shared((left, top, left + width, top + height), other[1:]) <= OVERLAP for other in objects):
            return left, top
    return None


def _shared(first: tuple[int, ...], second: tuple[int, ...]) -> float:
    """Return the share of the smaller box that two boxes have in common."""
    width, height = (min(first[axis + 2], second[axis + 2]) - max(first[axis], second[axis]) for axis in (0, 1))
    smaller = min((box[2] - box[0]) * (box[3] - box[1]) for box in (first, second))
    return max(width, 0) * max(height, 0) / smaller


def _colour(random: np.random.RandomState, behind: float) -> FloatArray:
    """Draw a colour that stands out from a brightness, 0..255: light on dark, dark on light."""
    contrast = random.uniform(*CONTRASTS) * (1 if behind < 128 else -1)
    return (behind + contrast + random.uniform(-TINT, TINT, 3)).clip(0, 255).astype(np.float32)
