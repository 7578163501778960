"""Colours and words on images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

# Okabe and Ito's colours, which the colour-blind tell apart.
MOST_NAMED = 5  # classes or objects in a line
COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7")


def palette(count: int) -> npt.NDArray[np.uint8]:
    """Return a colour for each of some classes, (count, 3); they repeat in paler shades."""
    base = np.array([[int(colour[start : start + 2], 16) for start in (1, 3, 5)] for colour in COLOURS], np.float64)
    rounds = np.arange(count) // len(base)
    paler = 1 - 0.7 ** rounds[:, None]
    return np.rint(base[np.arange(count) % len(base)] * (1 - paler) + 255 * paler).astype(np.uint8)


def name_of(number: int, class_names: Sequence[str]) -> str:
    """Name a class, or give its number where it has no name."""
    return class_names[number] if number < len(class_names) else str(number)


def write(image: Image.Image, text: str) -> Image.Image:
    """Write a line in the upper left corner, readable on any ground."""
    drawn = image.copy()
    pen = ImageDraw.Draw(drawn)
    pen.rectangle(pen.textbbox((2, 1), text), fill="black")
    pen.text((2, 1), text, fill="white")
    return drawn
