"""The server's side: bytes of any rates to symbols, to features, to the network's output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bottlenecks.bitstream import BitstreamError, peek_fingerprint
from bottlenecks.deploy.bundle import DECODER, TAIL, Bundle
from bottlenecks.deploy.manifest import BundledRate


@dataclass(frozen=True)
class Received:
    """A frame that held what it promised.

    Attributes:
        rate: that coded it.
        symbols: (K, h, w).
        num_bytes: of the frame.
    """

    rate: BundledRate
    symbols: npt.NDArray[np.int32]
    num_bytes: int


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
        rates = list(bundle.rates.values())
        self._rates = {bytes.fromhex(rate.fingerprint): rate for rate in rates}
        self._framings = {rate.lmbda: bundle.framing(rate) for rate in rates}
        features = bundle.manifest.feature_shape
        self._decoders = {
            rate.lmbda: bundle.graph(f"{rate.folder}/{DECODER}", rate.latent_shape, 1, features) for rate in rates
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
        return Received(rate, self._framings[rate.lmbda].read(stream)[0], len(stream))

    def warm_up(self) -> None:
        """Run every graph once: the first time takes longer."""
        self.infer([Received(rate, np.zeros(rate.latent_shape, np.int32), 0) for rate in self.bundle.rates.values()])

    def infer(self, received: Sequence[Received]) -> npt.NDArray[np.float32]:
        """Decode what was received at any mix of rates, and run the tail once: output, a row each."""
        features: list[npt.NDArray[np.float32]] = [np.empty(0, np.float32)] * len(received)
        for lmbda in {one.rate.lmbda for one in received}:
            places = [place for place, one in enumerate(received) if one.rate.lmbda == lmbda]
            decoded = self._decoders[lmbda](np.stack([received[place].symbols for place in places]))
            for place, one in zip(places, decoded, strict=True):
                features[place] = one
        return self._tail(np.stack(features))


def rank(logits: npt.NDArray[np.float32], class_names: Sequence[str], most: int = 5) -> list[dict[str, object]]:
    """Give the most probable classes of one picture's logits: number, label and probability."""
    shares = np.exp(logits - logits.max())
    shares /= shares.sum()
    order = np.argsort(-shares, kind="stable")[:most]
    return [
        {
            "class": int(index),
            "label": class_names[index] if index < len(class_names) else str(index),
            "probability": float(shares[index]),
        }
        for index in order
    ]
