"""The input image as a JPEG file."""

from __future__ import annotations

from bottlenecks.baselines.base import Calibration
from bottlenecks.baselines.pillow import PillowBaseline
from bottlenecks.images.preprocessing import Preprocessing

QUALITIES = (5, 15, 30, 50, 70, 90)


class Jpeg(PillowBaseline):
    """JPEG by libjpeg-turbo: YCbCr (BT.601, full range), 4:2:0, Huffman tables of its own; grey has luma alone.

    A file holds tables of some 300 bytes, which is most of it where images are small.

    Args:
        preprocessing: how images became the network's input.
        quality: 1 to 95.
    """

    name = "jpeg"
    file_format = "JPEG"
    tail = b"\xff\xd9"

    def __init__(self, preprocessing: Preprocessing, quality: int) -> None:
        super().__init__(
            preprocessing, f"quality={quality}", quality=quality, optimize=True, subsampling="4:2:0", keep_rgb=False
        )


def jpeg(calibration: Calibration) -> list[Jpeg]:
    """Return the settings that span the curve, from few bytes to many."""
    return [Jpeg(calibration.preprocessing, quality) for quality in QUALITIES]
