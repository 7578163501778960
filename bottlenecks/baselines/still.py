"""One image to a raw HEVC, VVC or AV1 stream and back, through PyAV."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from bottlenecks.errors import UsageError
from bottlenecks.images.preprocessing import MAX_PIXELS

Plane = npt.NDArray[np.integer]

LEAST_SIDE = 16  # pixels; x265 and VVenC refuse less
END_OF_SEQUENCE = bytes.fromhex("0000014801")  # a unit of its own, table 7-1 of the HEVC standard
# Without a list of its options (2 kB), with one thread, without what serves the eye at the cost of the error, at the
# very QP: x265 takes 3 off for intra images else. rdoq-level=2, a part of preset slow, saves 2 % of the bytes. x265
# ignores options that it does not know; the tests see to it that it takes these.
X265_OPTIONS = (
    "keyint=1:pools=none:frame-threads=1:info=0:log-level=none:aq-mode=0:psy-rd=0:psy-rdoq=0:rdoq-level=2:tskip=1"
    ":ipratio=1:range=full:colormatrix=smpte170m"
)


def import_av() -> ModuleType:
    """Import PyAV, which comes as an extra.

    Raises:
        UsageError: it is not installed.
    """
    try:
        import av
    except ImportError:
        raise UsageError("HEVC, VVC and AV1 need PyAV; pip install 'bottlenecks[evaluation]'") from None
    return av


def _encoder(av: ModuleType, name: str) -> Any:
    try:
        return av.CodecContext.create(name, "w")
    except av.codec.codec.UnknownCodecError:
        wheel = "PyAV's own wheel has it (pip install --force-reinstall --only-binary=av av)"
        raise UsageError(
            f"codecs: the PyAV installed here is built without {name}; {wheel}, or leave HEVC out"
        ) from None


def encode_hevc(planes: Sequence[Plane], qp: int) -> bytes:
    """Code an image with x265, preset medium: intra, at one QP, one thread.

    The rest of what slower presets do saves 1 % of the bytes of tiled features in two to four times the time.

    Args:
        planes: grey alone (H, W), 4:0:0; or luma (H, W) and two chroma planes (H/2, W/2), 4:2:0, H and W even. uint8
            elements are coded with 8 bits, uint16 ones below 1024 with 10. H and W are at least `LEAST_SIDE`.
        qp: 0 (fine) to 51.

    Returns:
        An elementary stream, VPS, SPS and PPS included. They say that values have full range and that chroma is
        BT.601's, as in JPEG. At its end stands the end of a sequence (5 bytes), or a lost end would not be seen.
    """
    av = import_av()
    layout = ("gray" if len(planes) == 1 else "yuv420p") + ("" if planes[0].dtype == np.uint8 else "10le")
    frame = _to_frame(av, planes, layout)
    encoder = _encoder(av, "libx265")
    encoder.width, encoder.height, encoder.pix_fmt = frame.width, frame.height, layout
    encoder.time_base, encoder.thread_count = Fraction(1), 1
    encoder.options = {"preset": "medium", "x265-params": f"qp={qp}:{X265_OPTIONS}"}
    packets = [*encoder.encode(frame), *encoder.encode(None)]
    return b"".join(map(bytes, packets)) + END_OF_SEQUENCE


def decode_hevc(stream: bytes) -> list[Plane]:
    """Decode what `encode_hevc` wrote.

    Raises:
        ValueError: it is not one whole image.
    """
    if stream.find(END_OF_SEQUENCE) != len(stream) - len(END_OF_SEQUENCE):
        raise ValueError("the HEVC stream has lost its end, or goes on after it")
    return _decode("hevc", stream)


def decode_vvc(stream: bytes) -> list[Plane]:
    """Decode a raw VVC stream of one image.

    Raises:
        ValueError: it is not.
    """
    return _decode("vvc", stream)


def decode_av1(stream: bytes) -> list[Plane]:
    """Decode one image's open bitstream units with dav1d.

    Raises:
        ValueError: they are not.
    """
    return _decode("libdav1d", stream)


def av1_of_avif(file: bytes) -> bytes:
    """Take the open bitstream units out of an AVIF file, whose container takes some 270 bytes."""
    import io

    av = import_av()
    with av.open(io.BytesIO(file)) as container:
        return b"".join(bytes(packet) for packet in container.demux(video=0))


def pad(plane: Plane, multiple: int = 1, least: int = LEAST_SIDE) -> Plane:
    """Repeat the last row and column until both sides are large enough and multiples of `multiple`."""
    missing = [max(least, -(-side // multiple) * multiple) - side for side in plane.shape]
    return np.pad(plane, [(0, count) for count in missing], mode="edge")


def _decode(codec: str, stream: bytes) -> list[Plane]:
    av = import_av()
    decoder = av.CodecContext.create(codec, "r")
    decoder.thread_count = 1
    decoder.options = {"max_pixels": str(MAX_PIXELS)}  # or a few bytes could ask for gigabytes
    try:
        frames = [*decoder.decode(av.Packet(stream)), *decoder.decode(None)]
    except av.FFmpegError as error:
        raise ValueError(f"{codec} cannot decode it: {error.strerror}") from None
    if len(frames) != 1:
        raise ValueError(f"{codec}: expected one image, found {len(frames)}")
    return _from_frame(frames[0])


def _to_frame(av: ModuleType, planes: Sequence[Plane], layout: str) -> Any:
    height, width = planes[0].shape
    frame = av.VideoFrame(width, height, layout)
    frame.pts = 0
    for target, plane in zip(frame.planes, planes, strict=True):
        rows = np.zeros((target.height, target.line_size // plane.itemsize), plane.dtype)
        rows[:, : target.width] = plane
        target.update(rows.tobytes())
    return frame


def _from_frame(frame: Any) -> list[Plane]:
    """Copy the planes of a planar frame, uint8 or uint16."""
    if frame.format.is_rgb or len(frame.planes) != len(frame.format.components):
        raise ValueError(f"expected planes of luma and chroma, found {frame.format.name}")
    dtype: type[np.integer] = np.uint8 if frame.format.components[0].bits == 8 else np.uint16
    return [_from_plane(plane, dtype) for plane in frame.planes]


def _from_plane(plane: Any, dtype: type[np.integer]) -> Plane:
    """Copy the pixels of each line, and not what fills it up."""
    values = np.frombuffer(plane, dtype)
    length = plane.line_size // values.itemsize
    return values[: plane.height * length].reshape(plane.height, length)[:, : plane.width].copy()
