"""Features as one VVC image, by the encoder in the program that imageio-ffmpeg brings."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np

from bottlenecks.baselines.features import TensorCalibration
from bottlenecks.baselines.hevc import hevc10
from bottlenecks.baselines.mosaic import Mosaic
from bottlenecks.baselines.selection import Range, on_the_front
from bottlenecks.baselines.still import Plane, decode_vvc
from bottlenecks.errors import UsageError, reason

NUM_SETTINGS = 5  # of at most eight: VVenC takes four to ten times as long as x265
BITS = 10
# FFmpeg gives VVenC room for one byte a pixel, and fails where that is too little: smaller images hold no header, and
# noise at QP 14 takes 0.87 bytes.
LEAST_QP, LEAST_VVC_SIDE = 14, 64
# Unlike x265, VVenC refuses options that it does not know. The two tools are for what has sharp edges, as tiles have.
VVENC_OPTIONS = "AccessUnitDelimiter=0:TransformSkip=1:BDPCM=1:IntraQPOffset=0"
PRESET = "fast"  # medium: three times as long for 0.5 % fewer bytes and 4 % less squared error
WAY_OUT = "pip install 'bottlenecks[vvc]'"


class Vvc(Mosaic):
    """VVC intra of a mosaic, 10 bits (VVenC; decoded by FFmpeg's own decoder, through PyAV).

    VVenC takes 4:2:0 alone: the chroma planes are flat, which costs next to nothing (a mosaic that is flat in luma too
    is 16 bytes).

    Args:
        feature_shape: (C, H, W).
        ends: of the range that is not clipped.
        qp: `LEAST_QP` (fine) to 63.
    """

    name = "vvc"
    multiple, least = 2, LEAST_VVC_SIDE  # chroma has half the size

    def __init__(self, feature_shape: Sequence[int], ends: Range, qp: int) -> None:
        if qp < LEAST_QP:
            raise ValueError(f"qp={qp}: expected at least {LEAST_QP}, or FFmpeg fails on features like noise")
        super().__init__(feature_shape, ends, BITS, qp)

    def code(self, plane: Plane) -> bytes:
        """Code a grey image (H, W), uint16 below 1024."""
        height, width = plane.shape
        chroma = np.full(height * width // 2, 2 ** (BITS - 1), np.uint16)
        raw = plane.astype("<u2").tobytes() + chroma.astype("<u2").tobytes()
        with tempfile.TemporaryDirectory() as folder:
            # A file, not a pipe: VVenC prints warnings to stdout, in the midst of the stream.
            path = Path(folder) / "image.vvc"
            arguments = ["-f", "rawvideo", "-pix_fmt", "yuv420p10le", "-s", f"{width}x{height}", "-r", "1", "-i", "-"]
            arguments += ["-c:v", "libvvenc", "-preset", PRESET, "-qp", str(self.qp), "-qpa", "0", "-g", "1"]
            arguments += ["-threads", "1", "-vvenc-params", VVENC_OPTIONS, "-f", "vvc", str(path)]
            _ffmpeg(arguments, raw)
            return path.read_bytes()

    def decode_plane(self, stream: bytes) -> Plane:
        """Decode the luma (H, W)."""
        return decode_vvc(stream)[0]


def vvc(calibration: TensorCalibration) -> list[Vvc]:
    """Return a few settings: ranges and QPs that are HEVC's best at 10 bits, for a QP means the same in both.

    Returns:
        Codecs, from few bytes to many.

    Raises:
        UsageError: the program is not there, or has no VVenC.
    """
    _check_encoder()
    settings = hevc10(calibration)
    chosen = np.unique(np.linspace(0, len(settings) - 1, NUM_SETTINGS).round().astype(int))
    points = dict.fromkeys((settings[index].ends, max(settings[index].qp, LEAST_QP)) for index in chosen)
    return on_the_front([Vvc(calibration.features.shape[1:], *point) for point in points], calibration)


@cache
def _program() -> str:
    try:
        from imageio_ffmpeg import get_ffmpeg_exe
    except ImportError:
        raise UsageError(f"codec vvc needs the package imageio-ffmpeg; {WAY_OUT}") from None
    try:
        return get_ffmpeg_exe()
    except RuntimeError as error:
        raise UsageError(f"codec vvc: {reason(error)}; {WAY_OUT}, or set IMAGEIO_FFMPEG_EXE") from None


def _ffmpeg(arguments: Sequence[str], data: bytes = b"") -> str:
    command = [_program(), "-hide_banner", "-loglevel", "error", "-nostdin", *arguments]
    done = subprocess.run(command, input=data, capture_output=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout.decode(errors="replace")


def _check_encoder() -> None:
    if " libvvenc " not in _ffmpeg(["-encoders"]):
        raise UsageError(
            f"codec vvc: {_program()} has no VVenC; {WAY_OUT} (imageio-ffmpeg from 0.8 on), or set IMAGEIO_FFMPEG_EXE "
            "to an ffmpeg that has libvvenc"
        )
