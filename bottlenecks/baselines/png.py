"""The input image as a PNG file: the lossless end."""

from __future__ import annotations

from bottlenecks.baselines.base import Calibration
from bottlenecks.baselines.pillow import PillowBaseline


class Png(PillowBaseline):
    """PNG, 8 bits, at zlib's best; red, green and blue as they are, or grey.

    Args:
        preprocessing: how images became the network's input.
    """

    name = "png"
    file_format = "PNG"
    tail = b"IEND\xae\x42\x60\x82"


def png(calibration: Calibration) -> list[Png]:
    """Return the one setting."""
    return [Png(calibration.preprocessing, "lossless", optimize=True)]
