"""The input image as a WebP file."""

from __future__ import annotations

from bottlenecks.baselines.base import Calibration
from bottlenecks.baselines.pillow import PillowBaseline
from bottlenecks.images.preprocessing import Preprocessing

QUALITIES = (0, 15, 35, 55, 75, 92)


class WebP(PillowBaseline):
    """WebP by libwebp, lossy, at its slowest: YCbCr (BT.601, limited range), 4:2:0.

    The format has no grey: such an image is coded as colour, with flat chroma.

    Args:
        preprocessing: how images became the network's input.
        quality: 0 to 100.
    """

    name = "webp"
    file_format = "WEBP"

    def __init__(self, preprocessing: Preprocessing, quality: int) -> None:
        super().__init__(preprocessing, f"quality={quality}", quality=quality, method=6)


def webp(calibration: Calibration) -> list[WebP]:
    """Return the settings that span the curve, from few bytes to many."""
    return [WebP(calibration.preprocessing, quality) for quality in QUALITIES]
