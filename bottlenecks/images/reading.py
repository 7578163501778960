"""Opens images as every part of the project sees them: upright and in RGB, or refused with a reason; no torch."""

from __future__ import annotations

import errno
import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from bottlenecks.errors import UsageError, check_number

LYING = (5, 6, 7, 8)  # orientations that exchange width and height
BITS_PER_SAMPLE, PHOTOMETRIC = 258, 262  # TIFF's tags
WHITE_IS_ZERO = 0  # a negative, which Pillow turns where pixels have 8 bits alone
SPREAD = "PPM"  # the one format whose 16 bits Pillow holds in 32


class ImageError(UsageError):
    """An image cannot be used; the message is the reason alone."""


def load_image(path: str | os.PathLike[str]) -> Image.Image:
    """Read and decode one image, upright and in RGB.

    Raises:
        ImageError: It cannot be read, or has pixels that are no colours.
    """
    with opened_image(path) as image:
        return to_rgb(image)


def upright_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Read `(width, height)` of one image in pixels, as it is seen upright.

    Raises:
        ImageError: It cannot be read.
    """
    with opened_image(path) as image:
        if image.format == "TIFF":  # Pillow turns these while it decodes them
            image.load()
        lying = image.getexif().get(ExifTags.Base.Orientation) in LYING
        return (image.height, image.width) if lying else image.size


@contextmanager
def opened_image(path: str | os.PathLike[str]) -> Iterator[Image.Image]:
    """Open an image file that is not decoded yet; whatever goes wrong inside becomes one kind of error.

    Raises:
        ImageError: It is missing, no file, no image, damaged, or too large.
    """
    try:
        check_regular(path)
        with Image.open(path) as image:
            yield image
    except Exception as error:  # Pillow's plugins raise errors of many kinds on damaged files
        raise ImageError(unreadable(error)) from error


def upright(image: Image.Image) -> Image.Image:
    """Turn an image as its orientation says, and forget the orientation; one that stands upright is given back."""
    turned = image.getexif().get(ExifTags.Base.Orientation, 1) != 1
    return ImageOps.exif_transpose(image) if turned else image


def to_rgb(image: Image.Image) -> Image.Image:
    """Turn an image upright and convert it to RGB, 8 bits; of deeper greys the highest 8 bits are kept.

    Raises:
        ImageError: Its pixels are numbers without an agreed white.
    """
    image.load()
    tags = getattr(image, "tag_v2", {})
    image = upright(image)
    if image.mode == "F":
        raise ImageError("floating-point pixels have no agreed white; save it with 8 or 16 bits")
    if image.mode == "I" and image.format != SPREAD:
        raise ImageError("32-bit pixels have no agreed white; save it with 8 or 16 bits")
    if image.mode.startswith("I"):
        deeper = tags.get(BITS_PER_SAMPLE, (16,))[0] - 8
        highest = (np.asarray(image) >> deeper).clip(0, 255).astype(np.uint8)
        image = Image.fromarray(255 - highest if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO else highest)
    return image.convert("RGB")


def check_regular(path: str | os.PathLike[str]) -> None:
    """Refuse pipes and devices: to open one may wait for ever.

    Raises:
        OSError: There is nothing at all, or it is one of these.
    """
    mode = os.stat(path).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise OSError(errno.EINVAL, "a pipe or device, no file")


def allow_megapixels(argument: str, most: float | None) -> None:
    """Let Pillow open images of up to so many million pixels in this process; None leaves its own limit of 179.

    Raises:
        UsageError: It is no number above 0.
    """
    if most is None:
        return
    check_number(argument, most, 1e-6)
    Image.MAX_IMAGE_PIXELS = int(most * 1e6) // 2  # Pillow warns above this, and refuses twice as many
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


def unreadable(error: Exception) -> str:
    """Return why a file could not be read, in a few words."""
    if isinstance(error, UnidentifiedImageError):
        return "not an image"
    if isinstance(error, Image.DecompressionBombError):
        return f"more than {2 * (Image.MAX_IMAGE_PIXELS or 0) / 1e6:.4g} million pixels, max_megapixels allows more"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__
