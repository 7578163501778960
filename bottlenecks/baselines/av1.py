"""The input image as AV1 intra."""

from __future__ import annotations

import io

from PIL import Image, features

from bottlenecks.baselines.base import Calibration, ImageBaseline, Pixels
from bottlenecks.baselines.still import av1_of_avif, decode_av1
from bottlenecks.baselines.ycbcr import from_planes
from bottlenecks.errors import UsageError
from bottlenecks.images.preprocessing import Preprocessing

QUALITIES = (5, 20, 35, 50, 65, 85)
SPEED = 5  # at equal PSNR 4 takes up to 3 % fewer bytes in 1.2 to 2 times the time; 6 takes 3 to 23 % more bytes


class Av1(ImageBaseline):
    """AV1 by libaom, speed 5, tuned to the squared error; YCbCr (BT.601, full range) 4:2:0, grey 4:0:0.

    Pillow's AVIF encoder makes the stream, and its container (some 270 bytes: more than a small image) is left
    away: the open bitstream units hold size and colour space. SVT-AV1, which PyAV brings, has neither grey nor sides
    below 64 pixels; at equal bytes its PSNR is 2 dB lower on 32x32, and from equal to 0.9 dB lower on 64x64 and
    224x224 images.

    Args:
        preprocessing: how images became the network's input.
        quality: 0 to 100.
    """

    name = "av1"

    def __init__(self, preprocessing: Preprocessing, quality: int) -> None:
        super().__init__(preprocessing)
        self.quality, self.setting = quality, f"quality={quality}"

    def write(self, pixels: Pixels) -> bytes:
        """Code pixels, (H, W) where grey, else (H, W, 3)."""
        if not features.check("avif"):
            raise UsageError("codec av1 needs a Pillow that writes AVIF; pip install 'pillow>=11.3'")
        file = io.BytesIO()
        layout = "4:0:0" if pixels.ndim == 2 else "4:2:0"
        Image.fromarray(pixels).save(
            file,
            "AVIF",
            quality=self.quality,
            subsampling=layout,
            codec="aom",
            speed=SPEED,
            max_threads=1,
            advanced={"tune": "psnr"},
        )
        return av1_of_avif(file.getvalue())

    def read(self, stream: bytes) -> Pixels:
        """Decode pixels, (H, W) or (H, W, 3)."""
        return from_planes(decode_av1(stream))


def av1(calibration: Calibration) -> list[Av1]:
    """Return the settings that span the curve, from few bytes to many."""
    return [Av1(calibration.preprocessing, quality) for quality in QUALITIES]
