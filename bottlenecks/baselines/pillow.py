"""What the image codecs share that Pillow reads and writes."""

from __future__ import annotations

import io
import warnings
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from bottlenecks.baselines.base import ImageBaseline, Pixels
from bottlenecks.errors import reason
from bottlenecks.images.preprocessing import MAX_PIXELS, Preprocessing


class PillowBaseline(ImageBaseline):
    """A file format of Pillow's.

    Args:
        preprocessing: how images became the network's input.
        setting: of the operating point.
        options: of Pillow's `save`.
    """

    file_format: ClassVar[str]
    tail: ClassVar[bytes] = b""  # with which every file ends, where Pillow would not miss it

    def __init__(self, preprocessing: Preprocessing, setting: str, **options: Any) -> None:
        super().__init__(preprocessing)
        self.setting, self.options = setting, options

    def write(self, pixels: Pixels) -> bytes:
        """Code pixels, (H, W) where grey, else (H, W, 3)."""
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, self.file_format, **self.options)
        return file.getvalue()

    def read(self, stream: bytes) -> Pixels:
        """Decode pixels, (H, W) or (H, W, 3)."""
        if not stream.endswith(self.tail):
            raise ValueError("the file has lost its end")
        try:
            return self._open(stream)
        except Exception as error:  # what Pillow raises on damage is different for each format and release
            raise ValueError(reason(error)) from None

    def _open(self, stream: bytes) -> Pixels:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # Pillow warns where a file claims to be huge
            image = Image.open(io.BytesIO(stream), formats=[self.file_format])
            if image.width * image.height > MAX_PIXELS or image.mode not in ("L", "RGB"):
                raise ValueError(f"an image of {image.width}x{image.height}, {image.mode}")
            return np.array(image)
