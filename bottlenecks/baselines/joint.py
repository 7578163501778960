"""A codec of one tensor made one of several: each has its own settings, and one frame holds them all."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from bottlenecks.baselines.base import Baseline, Calibration, FeatureBaseline, FloatArray
from bottlenecks.coding.bitstream import BitstreamError, Limits, divide, join, pack, unpack


class Joint(Baseline):
    """Codes every tensor that crosses with a codec of its own, into one frame.

    Args:
        parts: in the order of the tensors.
    """

    def __init__(self, parts: Sequence[FeatureBaseline]) -> None:
        self.parts = tuple(parts)
        self.name, self.setting = parts[0].name, " + ".join(part.setting for part in parts)
        self.fingerprint = hashlib.sha256(b"".join(part.fingerprint for part in parts)).digest()[:2]
        self.limits = Limits(max_payload_bytes=sum(part.limits.max_payload_bytes + 5 for part in parts))

    def encode(self, array: tuple[FloatArray, ...]) -> bytes:
        """Code one image's features, (C, H, W) each."""
        return pack(
            join([part.checked(one) for part, one in zip(self.parts, array, strict=True)]),
            self.fingerprint,
        )

    def decode(self, stream: bytes) -> tuple[FloatArray, ...]:
        """Decode one byte string, (C, H, W) each."""
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


class _Exact(FeatureBaseline):
    """Sends a tensor as it is; takes the place of the others while one of them is calibrated."""

    name, setting = "exact", ""

    def write(self, features: FloatArray) -> bytes:
        return np.ascontiguousarray(features, np.float32).tobytes()

    def read(self, payload: bytes) -> FloatArray:
        return np.frombuffer(payload, np.float32).reshape(self.feature_shape)


def make_joint(make: Callable[[Calibration], Sequence[Any]], calibration: Calibration) -> list[Baseline]:
    """Make a codec's operating points for several tensors.

    Each tensor's settings are found while the others are left as they are, and paired from coarse to fine.

    Args:
        make: gives the operating points for one tensor.
        calibration: of several tensors.
    """
    found = [make(_alone(calibration, index)) for index in range(len(calibration.features))]
    count = max(map(len, found))
    shares = np.linspace(0, 1, count) if count > 1 else [1.0]
    return [Joint([points[round(share * (len(points) - 1))] for points in found]) for share in shares]


def _alone(calibration: Calibration, index: int) -> Calibration:
    """Return the calibration of one tensor, the others exact."""
    features = calibration.features
    exact = [_Exact(one.shape[1:]) for one in features]
    rest = sum(4 * one[0].size for place, one in enumerate(features) if place != index)

    def together(own: Any, others: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(own if place == index else other for place, other in enumerate(others))

    def measure(codecs: Sequence[FeatureBaseline]) -> list[tuple[float, float]]:
        measured = calibration.measure([Joint(together(codec, exact)) for codec in codecs])
        return [(num_bytes - rest, distortion) for num_bytes, distortion in measured]

    def distortion(features_hat: FloatArray) -> float:
        return calibration.distortion(together(features_hat, features))

    return replace(calibration, features=features[index], distortion=distortion, measure=measure)  # type: ignore[arg-type]
