"""The device's side: images to features to bytes, at any rate of a bundle."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from bottlenecks.coding.bitstream import BitstreamError, unpack
from bottlenecks.coding.framing import Symbols
from bottlenecks.deploy.bundle import ENCODER, Bundle
from bottlenecks.deploy.runtimes import ONNX, Arrays
from bottlenecks.errors import UsageError

NO_SYMBOL = -(2**31)  # what an encoder gives for an element that cannot be coded


class Device:
    """Head, encoders and coders of a bundle; threads may share one, each at a rate of its own.

    Args:
        bundle: needs the files of the device alone.
        threads: that the head takes; None for one a core.
        runtime: what runs the head, `onnx` or `openvino`.

    Raises:
        BundleError: a file is missing or damaged, or there is no head for the runtime.
    """

    def __init__(self, bundle: Bundle, threads: int | None = None, runtime: str = ONNX) -> None:
        self.bundle, manifest = bundle, bundle.manifest
        self._head = bundle.head(threads, runtime)
        # One thread for each encoder: they are small, and ONNX Runtime's pools would outweigh them.
        self._encoders = {
            rate.folder: bundle.graph(
                f"{rate.folder}/{ENCODER}", rate.inputs(manifest.feature_shape), 1, rate.latent_shape
            )
            for rate in bundle.rates
        }
        self._framings = {rate.folder: bundle.framing(rate) for rate in bundle.rates}

    def features(self, image: Image.Image) -> Arrays:
        """Prepare an image and run the head: features (1, C, H, W) of each tensor that crosses.

        Raises:
            UsageError: the image is of a kind that cannot be prepared, or the head's output is not finite.
        """
        return self.features_of(self.bundle.input_of(image))

    def features_of(self, images: npt.NDArray[Any]) -> Arrays:
        """Run the head on what it takes, (N, 3, H, W) float32 or (N, H, W, 3) uint8: features of each tensor.

        Raises:
            UsageError: the head's output is not finite.
        """
        features = self._head((images,))
        if not all(np.isfinite(one).all() for one in features):
            raise UsageError("the features are not finite; is this the bundle's own preprocessing?")
        return features

    def symbols(self, features: Arrays, lmbda: float) -> Symbols:
        """Run the encoder of a lambda on features (N, C, H, W): symbols (N, K, h, w), of each tensor that crosses.

        Raises:
            BundleError: there is no such rate.
            UsageError: the latent is not finite, or beyond what can be coded.
        """
        rate = self.bundle.rate_of(lmbda)
        multipliers = [np.full(len(features[0]), one) for one in rate.multipliers(lmbda)]
        symbols = self._encoders[rate.folder]((*features, *multipliers))
        if any((one == NO_SYMBOL).any() for one in symbols):
            raise UsageError(
                f"lambda={lmbda!r}: the latent has elements that are not finite or too large to code; are the weights "
                "sound? send at another rate, or train this one anew"
            )
        return symbols

    def encode(self, features: Arrays, lmbda: float) -> bytes:
        """Code the features of one image at a lambda, header included.

        Raises:
            BundleError: there is no such rate.
        """
        return self.write(tuple(one[0] for one in self.symbols(features, lmbda)), lmbda)

    def encode_within(self, features: Arrays, lmbda: float, budget_bytes: int) -> bytes:
        """Code the features of one image at a lambda, and leave away the end: what is worth most comes first.

        Raises:
            BundleError: there is no such rate.
            UsageError: byte strings of this unit cannot be cut, or no beginning is as short.
        """
        framing = self._framings[self.bundle.rate_of(lmbda).folder]
        if not framing.limits.cuts:
            raise UsageError(
                f"lambda={lmbda!r}: byte strings of this unit are worth nothing without their end; those of the "
                "default one are"
            )
        stream = self.write(tuple(one[0] for one in self.symbols(features, lmbda)), lmbda, cuttable=True)
        cut = stream[:budget_bytes]
        try:
            unpack(cut, framing.limits)
        except BitstreamError:
            raise UsageError(f"budget of {budget_bytes} bytes: shorter than a frame's header; give it more") from None
        return cut

    def write(self, latents: Symbols, lmbda: float, *, cuttable: bool = False) -> bytes:
        """Code the symbols of one image, (K, h, w) of each tensor, header included."""
        rate = self.bundle.rate_of(lmbda)
        framing = self._framings[rate.folder]
        return framing.write(latents, framing.size, *rate.multipliers(lmbda), cuttable=cuttable)
