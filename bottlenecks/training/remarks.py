"""Which rates of a ladder are of no use, in plain words and with the ways out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from bottlenecks.rates.info import RateInfo

NOTHING = 1 / 8  # bytes of an image's payload that are next to nothing
HARDLY_MORE = 1.02  # bytes over a neighbour's, up to which a rate is no finer


def remarks(rates: Iterable[RateInfo]) -> Iterator[str]:
    """Yield a line for each trained rate that sends nothing, or takes no more bytes than a smaller lambda's.

    Args:
        rates: as they were written, with figures of the held-back images; units of any rate are passed over.
    """
    coarser: RateInfo | None = None
    for rate in sorted((one for one in rates if isinstance(one.lmbda, float)), key=lambda one: one.lmbda):
        num_bytes = _bytes(rate)
        if num_bytes < NOTHING:
            yield f"lambda={rate.lmbda!r}: sends next to nothing; a larger lambda buys fidelity, or give target.bytes"
            continue
        if coarser and num_bytes < HARDLY_MORE * _bytes(coarser):
            yield (
                f"lambda={rate.lmbda!r}: {num_bytes:.3g} bytes an image, no more than the {_bytes(coarser):.3g} of "
                f"lambda={coarser.lmbda!r}; leave it out, or train longer, on more images or with another split"
            )
        coarser = rate


def _bytes(rate: RateInfo) -> float:
    """Return the held-back mean of an image's payload, as estimated."""
    return rate.metrics["val/bpp"] * math.prod(rate.image_shape[1:]) / 8
