"""The server's side: bytes of any rates to symbols, to features, to the network's output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bottlenecks.coding.bitstream import BitstreamError, peek_fingerprint
from bottlenecks.coding.framing import Symbols
from bottlenecks.deploy.bundle import DECODER, TAIL, Bundle
from bottlenecks.deploy.bundled_rate import BundledRate
from bottlenecks.deploy.runtimes import Arrays


@dataclass(frozen=True)
class Received:
    """A frame that held what it promised.

    Attributes:
        rate: that coded it.
        symbols: (K, h, w) of each tensor.
        num_bytes: of the frame.
        multiplier: of the steps of a unit of any rate.
    """

    rate: BundledRate
    symbols: Symbols
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
        rates = self.bundle.rates
        zeros = [tuple(np.zeros(shape, np.int32) for shape in rate.latent_shape) for rate in rates]
        self.infer([Received(rate, own, 0) for rate, own in zip(rates, zeros, strict=True)])

    def infer(self, received: Sequence[Received]) -> Arrays:
        """Decode what was received at any mix of rates, and run the tail once: its arrays, a row each."""
        features: dict[int, Arrays] = {}
        for rate in self.bundle.rates:
            places = [place for place, one in enumerate(received) if one.rate is rate]
            if places:
                decoded = self._decode(rate, [received[at] for at in places])
                features |= zip(places, zip(*decoded, strict=True), strict=True)
        return self._tail(_stack([features[place] for place in range(len(received))]))

    def _decode(self, rate: BundledRate, received: Sequence[Received]) -> Arrays:
        symbols = _stack([one.symbols for one in received])
        multipliers = [] if rate.range is None else [np.array([one.multiplier for one in received])]
        return self._decoders[rate.folder]((*symbols, *multipliers))


def _stack(images: Sequence[Arrays]) -> Arrays:
    return tuple(np.stack(own) for own in zip(*images, strict=True))
