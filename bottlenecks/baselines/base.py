"""What the codecs that need no training share: one image at a time, numpy arrays to bytes and back."""

from __future__ import annotations

import hashlib
import pickle
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bottlenecks.baselines.codec import Codec
from bottlenecks.coding.bitstream import BitstreamError, Limits, pack, unpack
from bottlenecks.images.preprocessing import Preprocessing
from bottlenecks.splitting.features import Features, stack, to_arrays, to_tensors, unbind

FloatArray = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Calibration:
    """What a codec may look at before it is evaluated: training images at the cut, never those it is evaluated on.

    Attributes:
        features: of some training images, (N, C, H, W), or one such a tensor that crosses.
        distortion: of what a codec made of those features: the mean over the images of the task's
            label-free distortion against the unsplit network.
        measure: codes and decodes those features with each of some codecs, and gives mean bytes and distortion.
        preprocessing: how images became the network's input.
    """

    features: Any
    distortion: Callable[[Any], float]
    measure: Callable[[Sequence[Baseline]], list[tuple[float, float]]]
    preprocessing: Preprocessing


class Baseline(Codec):
    """A codec without trained weights, which codes one image at a time.

    Instances hold numbers and arrays alone: they are sent to other processes.
    """

    @abstractmethod
    def encode(self, array: Any) -> bytes:
        """Code one image's features, or its network input, (C, H, W); of several tensors, a tuple.

        Raises:
            ValueError: it has another shape than this codec was made for, or elements that are not finite.
        """

    @abstractmethod
    def decode(self, stream: bytes) -> Any:
        """Decode one byte string, (C, H, W); of several tensors, a tuple.

        Raises:
            BitstreamError: it is damaged, or not of this codec.
        """

    def compress(self, batch: Features) -> list[bytes]:
        """Code a batch into one byte string an image."""
        return [self.encode(array) for array in unbind(to_arrays(batch))]

    def decompress(self, streams: Sequence[bytes]) -> Features:
        """Decode one byte string an image into a batch, on the CPU."""
        return to_tensors(stack([self.decode(stream) for stream in streams]))


class FeatureBaseline(Baseline):
    """A baseline of features of one shape, in the frame that units use too: version, fingerprint, checksum.

    What sender and receiver agree on beforehand (levels, ranges, tables) is not sent; its fingerprint is, in two
    bytes, and names it to the receiver.

    Args:
        feature_shape: (C, H, W).
        agreed: all that both sides agree on; numbers, strings and arrays.
    """

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

    def encode(self, array: FloatArray) -> bytes:
        """Code one image's features (C, H, W), header included."""
        return pack(self.checked(array), self.fingerprint)

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

    def decode(self, stream: bytes) -> FloatArray:
        """Check one byte string and decode it into features (C, H, W)."""
        frame = unpack(stream, self.limits)
        if frame.fingerprint != self.fingerprint or frame.shape is not None:
            raise BitstreamError(f"this stream is not of {self.name}, {self.setting}")
        try:
            return self.read(frame.payload)
        except ValueError as error:
            raise BitstreamError(f"{self.name}: {error}") from None


class ImageBaseline(Baseline):
    """An image codec on the network's input, as 8-bit pixels; a file as any viewer opens it, nothing around it.

    An image whose three channels are equal is coded as grey where the format has grey.

    Args:
        preprocessing: its mean and standard deviation are undone before coding, and done again after.
    """

    sends = "images"

    def __init__(self, preprocessing: Preprocessing) -> None:
        self.mean, self.std = (
            np.array(three, dtype=np.float32)[:, None, None] for three in (preprocessing.mean, preprocessing.std)
        )

    @abstractmethod
    def write(self, pixels: Pixels) -> bytes:
        """Code pixels, (H, W) where grey, else (H, W, 3) in red, green, blue."""

    @abstractmethod
    def read(self, stream: bytes) -> Pixels:
        """Decode pixels, (H, W) or (H, W, 3).

        Raises:
            ValueError: it is no such image.
        """

    def encode(self, array: FloatArray) -> bytes:
        """Code one network input (3, H, W)."""
        if array.ndim != 3 or len(array) != 3 or not np.isfinite(array).all():
            raise ValueError(f"{self.name}: expected a finite image of shape (3, H, W), got {array.shape}")
        values = np.clip(np.rint((array * self.std + self.mean) * 255), 0, 255).astype(np.uint8)
        grey = (values[0] == values[1]).all() and (values[0] == values[2]).all()
        return self.write(values[0] if grey else np.ascontiguousarray(values.transpose(1, 2, 0)))

    def decode(self, stream: bytes) -> FloatArray:
        """Decode one file into a network input (3, H, W)."""
        try:
            pixels = self.read(stream)
        except ValueError as error:
            raise BitstreamError(f"{self.name}: {error}") from None
        three = np.stack([pixels] * 3) if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
        return (three.astype(np.float32, order="C") / np.float32(255) - self.mean) / self.std
