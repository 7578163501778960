"""What codecs of features share that tile them into one grey image, for a video codec."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence

import numpy as np

from bottlenecks.baselines.features import FeatureBaseline
from bottlenecks.baselines.selection import Range, candidate_ranges
from bottlenecks.baselines.still import LEAST_SIDE, Plane, pad
from bottlenecks.baselines.tiling import tile, untile
from bottlenecks.baselines.uniform import Levels, from_levels, to_levels
from bottlenecks.splitting.features import FloatArray

QPS = (24, 31, 36, 40, 43, 45, 47, 51)  # for the narrowest range
START = b"\0\0\1"  # before each unit of a stream


class Mosaic(FeatureBaseline):
    """Clip, quantise evenly, tile, code as one grey image.

        features (C, H, W) -> levels -> mosaic -> stream, less its parameter sets -> frame

    A stream begins with parameter sets that are the same for all images of one size: those are agreed beforehand as
    everything that is, and only what follows is sent. The paper's comparison counts them (arXiv 2105.06002).

    Args:
        feature_shape: (C, H, W).
        ends: of the range that is not clipped.
        bits: of a level.
        qp: of the video codec.
    """

    multiple, least = 1, LEAST_SIDE  # of the image's sides, in pixels

    def __init__(self, feature_shape: Sequence[int], ends: Range, bits: int, qp: int) -> None:
        self.ends, self.bits, self.qp = ends, bits, qp
        self.setting = f"qp={qp} range={ends[1]:.3g}" if ends[0] == 0 else f"qp={qp} range={ends[0]:.3g},{ends[1]:.3g}"
        self.head = self._find_head(feature_shape)
        super().__init__(feature_shape, *ends, bits, qp, np.frombuffer(self.head, np.uint8))

    @abstractmethod
    def code(self, plane: Plane) -> bytes:
        """Code a grey image (H, W), uint8 or uint16, into a stream."""

    @abstractmethod
    def decode_plane(self, stream: bytes) -> Plane:
        """Decode a stream into a grey image (H, W).

        Raises:
            ValueError: it is none.
        """

    def write(self, features: FloatArray) -> bytes:
        """Code features (C, H, W) into a payload."""
        stream = self._code(to_levels(features, self.ends, self.bits))
        if not stream.startswith(self.head):
            raise RuntimeError(f"{self.name}: the encoder wrote other parameter sets than before")
        return stream[len(self.head) :]

    def read(self, payload: bytes) -> FloatArray:
        """Decode a payload into features (C, H, W)."""
        plane = self.decode_plane(self.head + payload)
        expected = self._image(np.zeros(self.feature_shape, np.uint16)).shape
        if plane.shape != expected:
            raise ValueError(f"expected an image of {expected}, found {plane.shape}")
        levels = np.minimum(untile(plane, self.feature_shape), 2**self.bits - 1)
        return from_levels(levels, self.ends, self.bits)

    def _code(self, levels: Levels) -> bytes:
        """Code levels (C, H, W); a unit may start with three or four bytes, of which three do."""
        return self.code(self._image(levels)).replace(b"\0" + START, START)

    def _image(self, levels: Levels) -> Plane:
        return pad(tile(levels.astype(np.uint8 if self.bits == 8 else np.uint16)), self.multiple, self.least)

    def _find_head(self, feature_shape: Sequence[int]) -> bytes:
        """Find what two streams have in common, up to the last start of a unit in it."""
        flat = np.zeros(tuple(feature_shape), np.uint16)
        ramp = (2**self.bits - 1 - np.arange(flat.size) % 2**self.bits).astype(np.uint16).reshape(flat.shape)
        one, other = self._code(flat), self._code(ramp)
        same = next(index for index, (left, right) in enumerate(zip(one, other, strict=False)) if left != right)
        return one[: one.rindex(START, 0, same) + len(START)]


def operating_points(features: FloatArray) -> list[tuple[Range, int]]:
    """Return ranges and QPs to choose from: three ranges (all, 99.8 % and 99 % of the elements), eight steps each.

    A wide range at fine steps and a narrow one at coarse steps both have their place. A step is what QP and range make
    together: it doubles with each 6 of QP and with each doubling of the range, so that the same QP would be too coarse
    for a wide range where it is right for a narrow one.
    """
    ranges = candidate_ranges(features)[::-2][:3]
    widths = [high - low for low, high in ranges]
    shifts = [6 * math.log2(width / min(widths)) for width in widths]
    points = [(ends, max(round(qp - shift), 0)) for ends, shift in zip(ranges, shifts, strict=True) for qp in QPS]
    return list(dict.fromkeys(points))
