"""The input image as HEVC intra."""

from __future__ import annotations

from bottlenecks.baselines.base import Calibration, ImageBaseline, Pixels
from bottlenecks.baselines.still import LEAST_SIDE, decode_hevc, encode_hevc, pad
from bottlenecks.baselines.ycbcr import from_planes, to_planes
from bottlenecks.images.preprocessing import Preprocessing

QPS = (46, 41, 36, 30, 24, 16)


class HevcImage(ImageBaseline):
    """HEVC intra by x265; YCbCr (BT.601, full range) 4:2:0, grey 4:0:0.

    An elementary stream, of which some 85 bytes are parameter sets and its end. It begins with byte 0; where the
    image had to be padded, because a side is odd or below 16 pixels, one byte stands before it: rows and columns
    too many, four bits each.

    Args:
        preprocessing: how images became the network's input.
        qp: 0 (fine) to 51.
    """

    name = "hevc_image"

    def __init__(self, preprocessing: Preprocessing, qp: int) -> None:
        super().__init__(preprocessing)
        self.qp, self.setting = qp, f"qp={qp}"

    def write(self, pixels: Pixels) -> bytes:
        """Code pixels, (H, W) where grey, else (H, W, 3)."""
        luma, *chroma = to_planes(pixels)
        multiple = 2 if chroma else 1
        padded = pad(luma, multiple)
        planes = [padded, *(pad(plane, least=LEAST_SIDE // 2) for plane in chroma)]
        rows, columns = (big - small for big, small in zip(padded.shape, luma.shape, strict=True))
        prefix = bytes([rows << 4 | columns]) if rows or columns else b""
        return prefix + encode_hevc(planes, self.qp)

    def read(self, stream: bytes) -> Pixels:
        """Decode pixels, (H, W) or (H, W, 3)."""
        rows, columns = divmod(stream[0], 16) if stream else (0, 0)
        pixels = from_planes(decode_hevc(stream[1:] if rows or columns else stream))
        height, width = pixels.shape[0] - rows, pixels.shape[1] - columns
        if min(height, width) < 1:
            raise ValueError(f"{rows} rows and {columns} columns too many in an image of {pixels.shape[:2]}")
        return pixels[:height, :width]


def hevc_image(calibration: Calibration) -> list[HevcImage]:
    """Return the settings that span the curve, from few bytes to many."""
    return [HevcImage(calibration.preprocessing, qp) for qp in QPS]
