"""Clip, quantise evenly, deflate: what one does on the first day."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from bottlenecks.baselines.features import FeatureBaseline, TensorCalibration
from bottlenecks.baselines.selection import Range, best_range
from bottlenecks.splitting.features import FloatArray

Levels = npt.NDArray[np.uint16]


def to_levels(features: FloatArray, ends: Range, bits: int) -> Levels:
    """Number the nearest of 2^bits evenly spaced values, the first and last of which are the ends of the range."""
    low, high = np.float32(ends[0]), np.float32(ends[1])
    share = (np.clip(features, low, high) - low) / (high - low)
    return np.floor(share * np.float32(2**bits - 1) + np.float32(0.5)).astype(np.uint16)


def from_levels(levels: npt.NDArray[np.integer], ends: Range, bits: int) -> FloatArray:
    """Return the values of such numbers."""
    low, high = np.float32(ends[0]), np.float32(ends[1])
    return low + levels.astype(np.float32) * ((high - low) / np.float32(2**bits - 1))


def requantise(features: FloatArray, ends: Range, bits: int) -> FloatArray:
    """Quantise and reconstruct."""
    return from_levels(to_levels(features, ends, bits), ends, bits)


class Uniform(FeatureBaseline):
    """Evenly spaced levels through zlib at its best; of 4 bits two share a byte.

    Args:
        feature_shape: (C, H, W).
        ends: of the range that is not clipped.
        bits: an element, 4 or 8.
    """

    name = "uniform"

    def __init__(self, feature_shape: Sequence[int], ends: Range, bits: int) -> None:
        self.ends, self.bits, self.setting = ends, bits, f"{bits} bits"
        super().__init__(feature_shape, *ends, bits)
        self.num_elements = int(np.prod(self.feature_shape))

    def write(self, features: FloatArray) -> bytes:
        """Code features (C, H, W) into a payload."""
        levels = to_levels(features, self.ends, self.bits).astype(np.uint8).reshape(-1)
        if self.bits == 4:
            pairs = np.pad(levels, (0, self.num_elements % 2)).reshape(-1, 2)
            levels = (pairs[:, 0] * 16 + pairs[:, 1]).astype(np.uint8)
        return zlib.compress(levels.tobytes(), 9)

    def read(self, payload: bytes) -> FloatArray:
        """Decode a payload into features (C, H, W)."""
        levels = np.frombuffer(self._inflate(payload), np.uint8)
        if self.bits == 4:
            levels = np.stack(np.divmod(levels, 16), axis=-1).reshape(-1)[: self.num_elements]
        return from_levels(levels, self.ends, self.bits).reshape(self.feature_shape)

    def _inflate(self, payload: bytes) -> bytes:
        """Inflate no more than there can be."""
        expected = -(-self.num_elements * self.bits // 8)
        inflater = zlib.decompressobj()
        try:
            data = inflater.decompress(payload, expected + 1)
        except zlib.error as error:
            raise ValueError(str(error)) from None
        if len(data) != expected or not inflater.eof or inflater.unused_data:
            raise ValueError(f"it does not inflate to {expected} bytes")
        return data


def uniform(calibration: TensorCalibration) -> list[Uniform]:
    """Return 4 and 8 bits, each with the range that disturbs the rest of the network least.

    From the least to the greatest element, which is among those ranges, would be simpler; but one far outlier then
    leaves few levels for all other elements, and no comparison with that says much.
    """
    shape = calibration.features.shape[1:]
    return [Uniform(shape, best_range(calibration, partial(requantise, bits=bits)), bits) for bits in (4, 8)]
