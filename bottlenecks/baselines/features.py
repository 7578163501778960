"""Codecs of one tensor of features, and what puts one for each tensor that crosses into a frame."""

from __future__ import annotations

import hashlib
import pickle
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from bottlenecks.baselines.base import Baseline, Calibration
from bottlenecks.coding.bitstream import BitstreamError, Limits, divide, join, pack, unpack
from bottlenecks.splitting.features import Arrays, FloatArray

T = TypeVar("T")


class FeatureBaseline(ABC):
    """Codes one tensor of features, of one shape.

    What sender and receiver agree on beforehand (levels, ranges, tables) is not sent; its fingerprint is, in two
    bytes, and names it to the receiver.

    Args:
        feature_shape: (C, H, W).
        agreed: all that both sides agree on; numbers, strings and arrays.

    Attributes:
        name: of the codec, such as `uniform`.
        setting: of the operating point, such as `4 bits`.
    """

    name: str
    setting: str

    def __init__(self, feature_shape: Sequence[int], *agreed: Any) -> None:
        self.feature_shape = tuple(int(size) for size in feature_shape)
        parts = [np.asarray(part).tobytes() if not isinstance(part, str) else part.encode() for part in agreed]
        self.fingerprint = hashlib.sha256(repr((self.name, self.feature_shape, parts)).encode()).digest()[:2]
        self.limits = Limits(max_payload_bytes=1024 + 16 * int(np.prod(self.feature_shape)), max_positions=1)

    @abstractmethod
    def write(self, features: FloatArray) -> bytes:
        """Code features (C, H, W) into a payload."""

    @abstractmethod
    def read(self, payload: bytes) -> FloatArray:
        """Decode a payload into features (C, H, W).

        Raises:
            ValueError: it is none of `write`'s.
        """

    def state_bytes(self) -> int:
        """Count the bytes of what sender and receiver agree on beforehand, pickled."""
        return len(pickle.dumps(self))

    def checked(self, array: FloatArray) -> bytes:
        """Code one image's features (C, H, W) into a payload, if they fit.

        Raises:
            ValueError: they have another shape than this codec was made for, or elements that are not finite.
        """
        if array.shape != self.feature_shape:
            raise ValueError(f"{self.name}: expected features of shape {self.feature_shape}, got {array.shape}")
        if not np.isfinite(array).all():
            raise ValueError(f"{self.name}: the features are not finite")
        return self.write(array)


class Framed(Baseline):
    """Codes every tensor that crosses with a codec of its own, into one frame.

    It is the frame that units use too: version, fingerprint, checksum.

    Args:
        parts: in the order of the tensors.
    """

    def __init__(self, parts: Sequence[FeatureBaseline]) -> None:
        self.parts = tuple(parts)
        self.name, self.setting = parts[0].name, " + ".join(part.setting for part in parts)
        fingerprints = b"".join(part.fingerprint for part in parts)
        self.fingerprint = fingerprints if len(parts) == 1 else hashlib.sha256(fingerprints).digest()[:2]
        most = sum(part.limits.max_payload_bytes for part in parts)
        self.limits = Limits(max_payload_bytes=most, max_positions=1)

    def encode(self, arrays: Arrays) -> bytes:
        """Code one image's features, (C, H, W) of each tensor."""
        payloads = [part.checked(one) for part, one in zip(self.parts, arrays, strict=True)]
        return pack(join(payloads), self.fingerprint)

    def decode(self, stream: bytes) -> Arrays:
        """Check one byte string and decode it into features, (C, H, W) of each tensor."""
        frame = unpack(stream, self.limits)
        if frame.fingerprint != self.fingerprint or frame.shape is not None:
            raise BitstreamError(f"this stream is not of {self.name}, {self.setting}")
        payloads = divide(frame.payload, len(self.parts))
        try:
            return tuple(part.read(payload) for part, payload in zip(self.parts, payloads, strict=True))
        except ValueError as error:
            raise BitstreamError(f"{self.name}: {error}") from None

    def state_bytes(self) -> int:
        """Add up those of the parts."""
        return sum(part.state_bytes() for part in self.parts)


@dataclass(frozen=True)
class TensorCalibration:
    """What a codec of one tensor may look at before it is evaluated, the other tensors as they are.

    Attributes:
        features: of some training images, (N, C, H, W).
        distortion: of what a codec made of those features, as in `Calibration`.
        measure: codes and decodes those features with each of some codecs, and gives mean bytes and distortion.
    """

    features: FloatArray
    distortion: Callable[[FloatArray], float]
    measure: Callable[[Sequence[FeatureBaseline]], list[tuple[float, float]]]


def make_framed(
    make: Callable[[TensorCalibration], Sequence[FeatureBaseline]], calibration: Calibration
) -> list[Baseline]:
    """Make a codec's operating points.

    Each tensor's settings are found while the others are left as they are, and paired from coarse to fine.

    Args:
        make: gives the operating points for one tensor.
        calibration: what the codec may look at.
    """
    found = [make(_alone(calibration, index)) for index in range(len(calibration.features))]
    count = max(map(len, found))
    shares = np.linspace(0, 1, count) if count > 1 else [1.0]
    return [Framed([points[round(share * (len(points) - 1))] for points in found]) for share in shares]


class _Exact(FeatureBaseline):
    """Sends a tensor as it is; takes the place of the others while one of them is calibrated."""

    name, setting = "exact", ""

    def write(self, features: FloatArray) -> bytes:
        return np.ascontiguousarray(features, np.float32).tobytes()

    def read(self, payload: bytes) -> FloatArray:
        return np.frombuffer(payload, np.float32).reshape(self.feature_shape)


def _alone(calibration: Calibration, index: int) -> TensorCalibration:
    """Return the calibration of one tensor, the others exact."""
    features = calibration.features
    exact = [_Exact(one.shape[1:]) for one in features]
    rest = sum(4 * one[0].size for place, one in enumerate(features) if place != index)

    def together(own: T, others: Sequence[T]) -> tuple[T, ...]:
        return tuple(own if place == index else other for place, other in enumerate(others))

    def measure(codecs: Sequence[FeatureBaseline]) -> list[tuple[float, float]]:
        measured = calibration.measure([Framed(together(codec, exact)) for codec in codecs])
        return [(num_bytes - rest, distortion) for num_bytes, distortion in measured]

    def distortion(features_hat: FloatArray) -> float:
        return calibration.distortion(together(features_hat, features))

    return TensorCalibration(features[index], distortion, measure)
