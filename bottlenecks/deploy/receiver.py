"""The server's side: bytes of any rates to symbols, to features, to the network's output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bottlenecks.coding.bitstream import BitstreamError, peek_fingerprint
from bottlenecks.deploy.bundle import DECODER, TAIL, Bundle
from bottlenecks.deploy.bundled_rate import BundledRate
from bottlenecks.deploy.fields import shapes_of


@dataclass(frozen=True)
class Received:
    """A frame that held what it promised.

    Attributes:
        rate: that coded it.
        symbols: (K, h, w), or a tuple of such.
        num_bytes: of the frame.
        multiplier: of the steps of a unit of any rate.
    """

    rate: BundledRate
    symbols: Any
    num_bytes: int
    multiplier: int = 0

    @property
    def lmbda(self) -> float:
        """The lambda that it was sent at."""
        return self.rate.lmbda_of(self.multiplier)


class Receiver:
    """Coders, decoders and tail of a bundle; threads may share one.

    Args:
        bundle: needs the files of the server alone.
        threads: that ONNX Runtime uses; None for one a core.

    Raises:
        BundleError: a file is missing or damaged.
    """

    def __init__(self, bundle: Bundle, threads: int | None = None) -> None:
        self.bundle = bundle
        self._rates = {bytes.fromhex(rate.fingerprint): rate for rate in bundle.rates}
        self._framings = {rate.folder: bundle.framing(rate) for rate in bundle.rates}
        features = bundle.manifest.feature_shape
        self._decoders = {
            rate.folder: bundle.graph(f"{rate.folder}/{DECODER}", rate.inputs(rate.latent_shape), 1, features)
            for rate in bundle.rates
        }
        self._tail = bundle.graph(TAIL, features, threads)
        self.max_bytes = max(framing.limits.max_payload_bytes for framing in self._framings.values()) + 64

    def read(self, stream: bytes) -> Received:
        """Decode a frame to symbols; cheap, and bounded whatever the bytes are.

        Raises:
            BitstreamError: it is damaged, or of none of these rates.
        """
        fingerprint = peek_fingerprint(stream)
        rate = self._rates.get(fingerprint)
        if rate is None:
            raise BitstreamError(f"this stream is for the unit {fingerprint.hex()}, which is none of this bundle's")
        decoded = self._framings[rate.folder].read(stream)
        return Received(rate, decoded.symbols, len(stream), decoded.multiplier)

    def warm_up(self) -> None:
        """Run every graph once: the first time takes longer."""
        zeros = [[np.zeros(shape, np.int32) for shape in shapes_of(rate.latent_shape)] for rate in self.bundle.rates]
        self.infer([Received(rate, _together(own), 0) for rate, own in zip(self.bundle.rates, zeros, strict=True)])

    def infer(self, received: Sequence[Received]) -> Any:
        """Decode what was received at any mix of rates, and run the tail once: its arrays, a row each."""
        features: list[Any] = [None] * len(received)
        for rate in self.bundle.rates:
            places = [place for place, one in enumerate(received) if one.rate is rate]
            if places:
                for place, one in zip(places, self._decode(rate, [received[at] for at in places]), strict=True):
                    features[place] = one
        return self._tail(_stack(features))

    def _decode(self, rate: BundledRate, received: Sequence[Received]) -> list[Any]:
        symbols = _stack([one.symbols for one in received])
        arrays = symbols if isinstance(symbols, tuple) else (symbols,)
        multipliers = [] if rate.range is None else [np.array([one.multiplier for one in received])]
        return rows(self._decoders[rate.folder]((*arrays, *multipliers)))


def rows(batch: Any) -> list[Any]:
    """Take a batch, one array or a tuple of several, apart into its images."""
    return list(zip(*batch, strict=True)) if isinstance(batch, tuple) else list(batch)


def _stack(images: Sequence[Any]) -> Any:
    if isinstance(images[0], tuple):
        return tuple(np.stack(arrays) for arrays in zip(*images, strict=True))
    return np.stack(images)


def _together(arrays: Sequence[Any]) -> Any:
    return tuple(arrays) if len(arrays) > 1 else arrays[0]
