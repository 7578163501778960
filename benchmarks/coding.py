"""Our coder against CompressAI's on the same latents and tables: python -m benchmarks.coding.

One image at a time, one thread, the two in turns, a hundred images each: from a float latent to the bytes on the wire,
and back to a float latent. Ours includes rounding, header, checksum and every check; CompressAI's is
`EntropyBottleneck.compress` and `decompress`. The last line is JSON, at 64x14x14: how many times as fast, our bytes
over theirs without headers on either side, and our mean bytes above the estimate.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from bottlenecks.coder import ideal_bits
from bottlenecks.entropy import EntropyBottleneck
from bottlenecks.units import FactorizedUnit

SHAPES = ((48, 7, 7), (64, 14, 14), (128, 28, 28))
MAIN = (64, 14, 14)
WIDTHS = (0.3, 3.0)  # standard deviations of the channels, in quantiser steps, evenly on a log scale


class Coded(FactorizedUnit):
    """A unit whose encoder and decoder do nothing: what is left is the way from a latent to bytes."""

    def encode(self, features: Tensor) -> Tensor:
        """Take the features for the latent."""
        return features

    def decode(self, y_hat: Tensor, size: Sequence[int]) -> Tensor:
        """Take the latent for the features."""
        return y_hat


def prepare(shape: tuple[int, int, int], count: int) -> tuple[Coded, EntropyBottleneck, Tensor]:
    """Give our unit and CompressAI's model of one density, and latents (count, K, h, w) that it suits."""
    torch.manual_seed(0)
    unit = Coded(shape, latent_channels=shape[0], stride=1)
    low, high = torch.tensor(WIDTHS).log10()
    widths = torch.logspace(float(low), float(high), shape[0])[:, None, None]
    latents = torch.distributions.Laplace(0.0, (widths / 2**0.5).expand(shape)).sample((count,))
    unit.entropy.start_from(latents)
    unit.finalise()
    theirs = EntropyBottleneck(shape[0])
    theirs.load_state_dict(unit.entropy.state_dict())
    theirs.eval().update(force=True)
    return unit, theirs, latents


def in_turns(functions: Sequence[Callable[[int], Any]], count: int, rounds: int = 7) -> list[float]:
    """Give each function's median seconds a call over rounds, in each of which it codes all images in a row."""
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(rounds + 1):
        for function, taken in zip(functions, times, strict=True):
            start = time.perf_counter()
            for index in range(count):
                function(index)
            taken.append((time.perf_counter() - start) / count)
    return [statistics.median(taken[1:]) for taken in times]  # the first round warms up


@torch.no_grad()
def compare(shape: tuple[int, int, int], count: int) -> dict[str, float]:
    """Measure one shape; the keys are those of the last line."""
    unit, theirs, latents = prepare(shape, count)
    images = latents.split(1)
    ours = [unit.compress(image)[0] for image in images]
    compressai = [theirs.compress(image) for image in images]
    for image, stream, strings in zip(images, ours, compressai, strict=True):  # both decode, and to the same
        assert torch.equal(unit.decompress([stream]), theirs.decompress(strings, shape[1:]))
        assert torch.equal(unit.decompress([stream]), theirs.quantize(image, "dequantize", theirs._get_medians()))
    encode, their_encode = in_turns([lambda i: unit.compress(images[i]), lambda i: theirs.compress(images[i])], count)
    decode, their_decode = in_turns(
        [lambda i: unit.decompress([ours[i]]), lambda i: theirs.decompress(compressai[i], shape[1:])], count
    )
    payloads = [len(unit.coder.encode(symbols)) for symbols in unit.symbols(latents)]
    estimated = float(unit.quantise(latents)[1].sum()) / 8
    by_tables = sum(ideal_bits(symbols, unit.coder.tables) for symbols in unit.symbols(latents)) / 8
    print(
        f"{'x'.join(map(str, shape))}: encode {1e3 * encode:.3f} ms against {1e3 * their_encode:.3f}, decode "
        f"{1e3 * decode:.3f} against {1e3 * their_decode:.3f}; {sum(payloads) / count:.1f} bytes against "
        f"{sum(len(strings[0]) for strings in compressai) / count:.1f}, estimated {estimated / count:.1f}, "
        f"by the tables {by_tables / count:.1f}",
        flush=True,
    )
    return {
        "encode_ratio": their_encode / encode,
        "decode_ratio": their_decode / decode,
        "bytes_ratio": sum(payloads) / sum(len(strings[0]) for strings in compressai),
        "overhead_bytes": (sum(payloads) - estimated) / count,
    }


def main() -> None:
    """Compare all shapes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.coding", description=__doc__)
    parser.add_argument("--images", type=int, default=100, help="a shape; default: %(default)s")
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = {shape: compare(shape, options.images) for shape in SHAPES}
    print(json.dumps({name: round(value, 4) for name, value in results[MAIN].items()}))


if __name__ == "__main__":
    main()
