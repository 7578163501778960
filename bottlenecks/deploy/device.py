"""The device's side: images to features to bytes, at any rate of a bundle."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from bottlenecks.deploy.bundle import ENCODER, HEAD, Bundle
from bottlenecks.errors import UsageError

Features = npt.NDArray[np.float32] | tuple[npt.NDArray[np.float32], ...]
Symbols = Any  # (N, K, h, w) int32, or a tuple of such

NO_SYMBOL = -(2**31)  # what an encoder gives for an element that cannot be coded


class Device:
    """Head, encoders and coders of a bundle; threads may share one, each at a rate of its own.

    Args:
        bundle: needs the files of the device alone.
        threads: that ONNX Runtime uses; None for one a core.

    Raises:
        BundleError: a file is missing or damaged.
    """

    def __init__(self, bundle: Bundle, threads: int | None = None) -> None:
        self.bundle, manifest = bundle, bundle.manifest
        self._head = bundle.graph(HEAD, manifest.image_shape, threads, manifest.feature_shape)
        # One thread for each encoder: they are small, and ONNX Runtime's pools would outweigh them.
        self._encoders = {
            rate.folder: bundle.graph(
                f"{rate.folder}/{ENCODER}", rate.inputs(manifest.feature_shape), 1, rate.latent_shape
            )
            for rate in bundle.rates
        }
        self._framings = {rate.folder: bundle.framing(rate) for rate in bundle.rates}

    def features(self, image: Image.Image) -> Features:
        """Prepare an image and run the head: features (1, C, H, W), or a tuple of such.

        Raises:
            UsageError: the image is of a kind that cannot be prepared, or the head's output is not finite.
        """
        features: Features = self._head(self.bundle.preprocessing.to_array(image)[None])
        if not all(np.isfinite(one).all() for one in (features if isinstance(features, tuple) else (features,))):
            raise UsageError("the features are not finite; is this the bundle's own preprocessing?")
        return features

    def symbols(self, features: Features, lmbda: float) -> Symbols:
        """Run the encoder of a lambda on features (N, C, H, W): symbols (N, K, h, w).

        Raises:
            BundleError: there is no such rate.
            UsageError: the latent is not finite, or beyond what can be coded.
        """
        rate = self.bundle.rate_of(lmbda)
        arrays = features if isinstance(features, tuple) else (features,)
        multipliers = [np.full(len(arrays[0]), one) for one in rate.multipliers(lmbda)]
        symbols: Symbols = self._encoders[rate.folder]((*arrays, *multipliers))
        if any((one == NO_SYMBOL).any() for one in (symbols if isinstance(symbols, tuple) else (symbols,))):
            raise UsageError(
                f"lambda={lmbda!r}: the latent has elements that are not finite or too large to code; are the weights "
                "sound? send at another rate, or train this one anew"
            )
        return symbols

    def encode(self, features: Features, lmbda: float) -> bytes:
        """Code the features of one image at a lambda, header included.

        Raises:
            BundleError: there is no such rate.
        """
        symbols = self.symbols(features, lmbda)
        latent = tuple(one[0] for one in symbols) if isinstance(symbols, tuple) else symbols[0]
        return self.write(latent, lmbda)

    def write(self, latent: Symbols, lmbda: float) -> bytes:
        """Code the symbols (K, h, w) of one image, header included."""
        rate = self.bundle.rate_of(lmbda)
        framing = self._framings[rate.folder]
        return framing.write(latent, framing.size, *rate.multipliers(lmbda))
