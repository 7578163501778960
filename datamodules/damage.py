"""Finds files that are no readable image before a run starts, and names those met later."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.pool import ThreadPool
from typing import TypeVar

from PIL import Image
from rich.console import Console
from rich.progress import track

from bottlenecks.errors import UsageError
from bottlenecks.images import reading
from bottlenecks.images.preprocessing import MAX_PIXELS
from bottlenecks.images.reading import (
    ImageError,
    check_regular,
    opened_image,
    to_rgb,
    unreadable,
    upright_size,
)

T = TypeVar("T")

MAX_DECODED = 20_000  # files; decoding this many takes up to about 20 s on two cores
WORTH_A_BAR = 2_000  # files
LONGEST = MAX_PIXELS // 256**2  # times as long as wide, that an image may be: its short side becomes 256 pixels or so
SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"GIF8", b"RIFF", b"BM", b"BM")  # JPEG to BMP


class DamagedImageError(UsageError):
    """An image, or its mask, turned out to be unreadable while it was loaded.

    A `DataLoader` raises a worker's error again with the traceback as its message: the last line is kept.
    """

    def __init__(self, message: str) -> None:
        prefix = f"{type(self).__module__}.{type(self).__qualname__}: "
        super().__init__(message.strip().splitlines()[-1].removeprefix(prefix))


def load_named(path: str) -> Image.Image:
    """Read and decode one image, upright and in RGB.

    Raises:
        DamagedImageError: The file is missing, no image, damaged, or of a kind that has no colours.
    """
    with _named(path):
        return reading.load_image(path)


def image_size(path: str) -> tuple[int, int]:
    """Read `(width, height)` of one image, upright, in pixels.

    Raises:
        DamagedImageError: The file is missing or no image.
    """
    with _named(path):
        return upright_size(path)


@contextmanager
def _named(path: str) -> Iterator[None]:
    try:
        yield
    except ImageError as error:
        remedy = "remove it, or data.skip_damaged=true leaves out every file that cannot be decoded"
        raise DamagedImageError(f"{path}: damaged image ({error}); {remedy}") from error


def find_damaged(paths: Sequence[str], thorough: bool = False) -> dict[int, str]:
    """Look at every file, with a progress bar where there are many.

    Up to `MAX_DECODED` files are decoded; of more, only the signature is looked at: all else takes minutes.

    Args:
        paths: the files.
        thorough: decode all, however many there are.

    Returns:
        Position in `paths` -> reason, for each file that is no readable image.
    """
    return in_parallel(_decode if thorough or len(paths) <= MAX_DECODED else _look_at_signature, paths)


def in_parallel(check: Callable[[T], str | None], items: Sequence[T]) -> dict[int, str]:
    """Check many items in threads, with a progress bar where there are many.

    Args:
        check: gives the reason why an item cannot be used, or None.
        items: what is checked.

    Returns:
        Position in `items` -> reason, for each that cannot be used.
    """
    with ThreadPool(min(8, 2 * (os.cpu_count() or 1))) as pool:  # Pillow decodes without Python's lock
        reasons: Iterator[str | None] = pool.imap(check, items, chunksize=32)
        if len(items) > WORTH_A_BAR:
            reasons = _with_bar(reasons, len(items))
        return {index: reason for index, reason in enumerate(reasons) if reason is not None}


def _with_bar(reasons: Iterator[str | None], total: int) -> Iterator[str | None]:
    console = Console(stderr=True)
    hidden = not console.is_terminal
    return iter(track(reasons, "Checking images", total, console=console, transient=True, disable=hidden))


def _decode(path: str) -> str | None:
    try:
        with opened_image(path) as image:
            if max(image.size) > LONGEST * min(image.size):
                return f"{image.width}x{image.height} pixels, too long and thin to be resized"
            image.draft("L", (1, 1))  # JPEG: reads all of the file, but only its coarsest scale
            to_rgb(image)
        return None
    except ImageError as error:
        return str(error)


def _look_at_signature(path: str) -> str | None:
    try:
        check_regular(path)
        with open(path, "rb") as file:
            start = file.read(max(map(len, SIGNATURES)))
    except OSError as error:
        return unreadable(error)
    return None if start.startswith(SIGNATURES) else _decode(path)  # rarer formats
