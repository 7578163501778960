"""What the codecs that need no training share: one image at a time, numpy arrays to bytes and back."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bottlenecks.baselines.codec import Codec
from bottlenecks.coding.bitstream import BitstreamError
from bottlenecks.images.preprocessing import Preprocessing
from bottlenecks.splitting.features import Arrays, Features, stack, to_arrays, to_tensors

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Calibration:
    """What a codec may look at before it is evaluated: training images at the cut, never those it is evaluated on.

    Attributes:
        features: of some training images, (N, C, H, W) of each tensor that crosses.
        distortion: of what a codec made of those features: the mean over the images of the task's
            label-free distortion against the unsplit network.
        measure: codes and decodes those features with each of some codecs, and gives mean bytes and distortion.
        preprocessing: how images became the network's input.
    """

    features: Arrays
    distortion: Callable[[Arrays], float]
    measure: Callable[[Sequence[Baseline]], list[tuple[float, float]]]
    preprocessing: Preprocessing


class Baseline(Codec):
    """A codec without trained weights, which codes one image at a time.

    Instances hold numbers and arrays alone: they are sent to other processes.
    """

    @abstractmethod
    def encode(self, arrays: Arrays) -> bytes:
        """Code one image's features, (C, H, W) of each tensor, or its network input, alone in a tuple.

        Raises:
            ValueError: it has another shape than this codec was made for, or elements that are not finite.
        """

    @abstractmethod
    def decode(self, stream: bytes) -> Arrays:
        """Decode one byte string to what was coded.

        Raises:
            BitstreamError: it is damaged, or not of this codec.
        """

    def compress(self, batch: Features) -> list[bytes]:
        """Code a batch into one byte string an image."""
        return [self.encode(arrays) for arrays in zip(*to_arrays(batch), strict=True)]

    def decompress(self, streams: Sequence[bytes]) -> Features:
        """Decode one byte string an image into a batch, on the CPU."""
        return to_tensors(stack(self.decode(stream) for stream in streams))


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

    def encode(self, arrays: Arrays) -> bytes:
        """Code one network input (3, H, W)."""
        (array,) = arrays
        if array.ndim != 3 or len(array) != 3 or not np.isfinite(array).all():
            raise ValueError(f"{self.name}: expected a finite image of shape (3, H, W), got {array.shape}")
        values = np.clip(np.rint((array * self.std + self.mean) * 255), 0, 255).astype(np.uint8)
        grey = (values[0] == values[1]).all() and (values[0] == values[2]).all()
        return self.write(values[0] if grey else np.ascontiguousarray(values.transpose(1, 2, 0)))

    def decode(self, stream: bytes) -> Arrays:
        """Decode one file into a network input (3, H, W)."""
        try:
            pixels = self.read(stream)
        except ValueError as error:
            raise BitstreamError(f"{self.name}: {error}") from None
        three = np.stack([pixels] * 3) if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
        return ((three.astype(np.float32, order="C") / np.float32(255) - self.mean) / self.std,)
