"""What codecs of features share that tile them into one grey picture, for a video codec."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np

from bottlenecks.baselines.base import FeatureBaseline, FloatArray
from bottlenecks.baselines.selection import Range, candidate_ranges
from bottlenecks.baselines.still import Plane, pad
from bottlenecks.baselines.tiling import tile, untile
from bottlenecks.baselines.uniform import Levels, from_levels, to_levels

START = b"\0\0\1"  # before each unit of a stream


class Mosaic(FeatureBaseline):
    """Clip, quantise evenly, tile, code as one grey picture.

        features (C, H, W) -> levels -> mosaic -> stream, less its parameter sets -> frame

    A stream begins with parameter sets that are the same for all pictures of one size: those are agreed beforehand as
    everything that is, and only what follows is sent. The paper's comparison counts them (arXiv 2105.06002).

    Args:
        feature_shape: (C, H, W).
        ends: of the range that is not clipped.
        bits: of a level.
        qp: of the video codec.
    """

    multiple = 1  # of the mosaic's sides, in pixels

    def __init__(self, feature_shape: Sequence[int], ends: Range, bits: int, qp: int) -> None:
        self.ends, self.bits, self.qp = ends, bits, qp
        self.setting = f"qp={qp} range={ends[1]:.3g}" if ends[0] == 0 else f"qp={qp} range={ends[0]:.3g},{ends[1]:.3g}"
        self.head = self._find_head(feature_shape)
        super().__init__(feature_shape, *ends, bits, qp, np.frombuffer(self.head, np.uint8))

    @abstractmethod
    def code(self, plane: Plane) -> bytes:
        """Code a grey picture (H, W), uint8 or uint16, into a stream."""

    @abstractmethod
    def decode_plane(self, stream: bytes) -> Plane:
        """Decode a stream into a grey picture (H, W).

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
        expected = self._picture(np.zeros(self.feature_shape, np.uint16)).shape
        if plane.shape != expected:
            raise ValueError(f"expected a picture of {expected}, found {plane.shape}")
        levels = np.minimum(untile(plane, self.feature_shape), 2**self.bits - 1)
        return from_levels(levels, self.ends, self.bits)

    def _code(self, levels: Levels) -> bytes:
        """Code levels (C, H, W); a unit may start with three or four bytes, of which three do."""
        return self.code(self._picture(levels)).replace(b"\0" + START, START)

    def _picture(self, levels: Levels) -> Plane:
        return pad(tile(levels.astype(np.uint8 if self.bits == 8 else np.uint16)), self.multiple)

    def _find_head(self, feature_shape: Sequence[int]) -> bytes:
        """Find what two streams have in common, up to the last start of a unit in it."""
        flat = np.zeros(tuple(feature_shape), np.uint16)
        noise = np.random.default_rng(0).integers(0, 2**self.bits, flat.shape, np.uint16)
        one, other = self._code(flat), self._code(noise)
        same = next(index for index, (left, right) in enumerate(zip(one, other, strict=False)) if left != right)
        return one[: one.rindex(START, 0, same) + len(START)]


def spread_ranges(features: FloatArray) -> list[Range]:
    """Give three ranges to choose from: all, 99.8 % and 99 % of the elements.

    A wide range at a fine QP and a narrow one at a coarse QP both have their place: for ResNet-50's features on
    CIFAR-10 at layer3, the best of a grid of ranges and QPs are at all ranges from 98 % up.
    """
    return candidate_ranges(features)[::-2][:3]
