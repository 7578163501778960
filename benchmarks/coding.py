"""Our coders against CompressAI's on the same latents and tables: python -m benchmarks.coding.

One image at a time, one thread, the two in turns, a hundred images each: from a float latent to the bytes on the wire,
and back to a float latent. Ours includes rounding, header, checksum and every check; CompressAI's is `compress` and
`decompress` of `EntropyBottleneck` against a table a channel, of `GaussianConditional` against scale tables. The last
line is JSON, for each case: how many times as fast, our bytes over theirs without headers on either side, our mean
bytes above the estimate, and our nanoseconds a symbol.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bottlenecks.coding.bitstream import unpack
from bottlenecks.coding.coder import ideal_bits
from bottlenecks.shapes import Size
from bottlenecks.units import Bottleneck, ChannelUnit, FactorizedPart, TransformUnit
from bottlenecks.units.entropy import EntropyBottleneck
from bottlenecks.units.laplacian import LaplacianConditional, family, scale_of
from bottlenecks.units.part import Multiplier
from bottlenecks.units.transform_part import TransformPart

Shape = tuple[int, int, int]
Widths = tuple[float, float]  # standard deviations of the channels, in quantiser steps, evenly on a log scale

EVEN: Widths = (0.3, 3.0)
SPREAD: Widths = (0.02, 3.0)  # as coefficients of a transform are: many are not coded at all


class CodedByChannel(FactorizedPart):
    """A part whose encoder and decoder do nothing: what is left is the way from a latent to bytes."""

    def encode(self, features: Tensor) -> Tensor:
        """Take the features for the latent."""
        return features

    def decode(self, y_hat: Tensor, size: Size, multiplier: Multiplier = 0) -> Tensor:
        """Take the latent for the features."""
        return y_hat


class CodedByScale(TransformPart):
    """The same with a scale a coefficient."""

    def encode(self, features: Tensor) -> Tensor:
        """Take the features for the coefficients."""
        return features

    def decode(self, y_hat: Tensor, size: Size, multiplier: Multiplier = 0) -> Tensor:
        """Take the coefficients for the features."""
        return y_hat


@dataclass(frozen=True)
class Contest:
    """Our unit and CompressAI's model, with tables for the same latents.

    Attributes:
        name: of the case.
        unit: ours.
        compress: an image's latent (1, K, h, w) to strings, by theirs.
        decompress: back.
        rounded: what theirs must decode to.
        table_bits: of the symbols (K, h, w), by our tables.
        latents: of the images, (N, K, h, w).
    """

    name: str
    unit: Bottleneck
    compress: Callable[[Tensor], list[bytes]]
    decompress: Callable[[list[bytes]], Tensor]
    rounded: Callable[[Tensor], Tensor]
    table_bits: Callable[[Any], float]
    latents: Tensor


def draw(shape: Shape, widths: Widths, count: int) -> tuple[Tensor, Tensor]:
    """Return the channels' standard deviations (K, 1, 1), and latents (count, K, h, w)."""
    torch.manual_seed(0)
    low, high = torch.tensor(widths).log10()
    deviations = torch.logspace(float(low), float(high), shape[0])[:, None, None]
    latents = torch.distributions.Laplace(0.0, (deviations / 2**0.5).expand(shape)).sample((count,))
    latents[latents.abs() % 1 == 0.5] += 0.1  # these are rounded either way
    return deviations, latents


def by_channel(shape: Shape, widths: Widths, count: int) -> Contest:
    """Put a table a channel against `EntropyBottleneck`."""
    _, latents = draw(shape, widths, count)
    part = CodedByChannel(shape, latent_channels=shape[0], stride=1)
    part.entropy.start_from(latents)
    unit = ChannelUnit([part])
    unit.finalise()
    theirs = EntropyBottleneck(shape[0])
    theirs.load_state_dict(part.entropy.state_dict())
    theirs.eval().update(force=True)
    return Contest(
        "a table a channel",
        unit,
        theirs.compress,
        lambda strings: theirs.decompress(strings, shape[1:]),
        lambda image: theirs.quantize(image, "dequantize", theirs._get_medians()),
        lambda symbols: ideal_bits(symbols, *unit.tables),
        latents,
    )


def by_scale(shape: Shape, widths: Widths, count: int) -> Contest:
    """Put scale tables against `GaussianConditional`, which is given the same tables, and codes every element."""
    deviations, latents = draw(shape, widths, count)
    part = CodedByScale(shape, "separable", shape[0], (1, 1), restorer=0, nonnegative=False, rounding=0.5)
    unit = TransformUnit([part.config()])
    unit.tensors[0] = part
    part.scales.data = scale_of(deviations / 2**0.5).view_as(part.scales)
    unit.finalise()
    tables, theirs = family().tables, LaplacianConditional()
    cumulative = np.cumsum(np.pad(tables.frequencies, ((0, 0), (1, 0))), axis=1)
    theirs._quantized_cdf = torch.from_numpy(cumulative.astype(np.int32))
    theirs._cdf_length = torch.from_numpy(tables.lengths.astype(np.int32) + 1)
    theirs._offset = torch.from_numpy(tables.offsets.astype(np.int32))
    numbers, framing = part.indices(part.own_size)[None], unit.framing
    indices, coded = (numbers - 1).clamp_min(0).int(), numbers > 0
    return Contest(
        "scale tables",
        unit,
        lambda image: theirs.compress(image, indices),
        lambda strings: theirs.decompress(strings, indices) * coded,
        lambda image: image.round() * coded,
        lambda symbols: framing.coder.ideal_bits([symbols], framing.order(framing.size)),
        latents,
    )


CASES: dict[str, tuple[Callable[[Shape, Widths, int], Contest], Shape, Widths]] = {
    "channels 48x7x7": (by_channel, (48, 7, 7), EVEN),
    "channels 64x14x14": (by_channel, (64, 14, 14), EVEN),
    "channels 128x28x28": (by_channel, (128, 28, 28), EVEN),
    "scales 16x1x1": (by_scale, (16, 1, 1), EVEN),
    "scales 64x14x14": (by_scale, (64, 14, 14), EVEN),
    "scales 112x14x14, spread": (by_scale, (112, 14, 14), SPREAD),
    "scales 128x28x28, spread": (by_scale, (128, 28, 28), SPREAD),
}


def in_turns(functions: Sequence[Callable[[int], Any]], count: int, rounds: int = 7) -> list[float]:
    """Return each function's median seconds a call over rounds, in each of which it codes all images in a row."""
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(rounds + 1):
        for function, taken in zip(functions, times, strict=True):
            start = time.perf_counter()
            for index in range(count):
                function(index)
            taken.append((time.perf_counter() - start) / count)
    return [statistics.median(taken[1:]) for taken in times]  # the first round warms up


@torch.no_grad()
def compare(contest: Contest) -> dict[str, float]:
    """Measure one case; the keys are those of the last line."""
    unit, latents = contest.unit, contest.latents
    images, count, num_symbols = latents.split(1), len(latents), latents[0].numel()
    ours = [unit.compress((image,))[0] for image in images]
    theirs = [contest.compress(image) for image in images]
    for image, stream, strings in zip(images, ours, theirs, strict=True):  # both decode, and to the same
        assert torch.equal(*unit.decompress([stream]), contest.decompress(strings))
        assert torch.equal(*unit.decompress([stream]), contest.rounded(image))
    encode, their_encode = in_turns(
        [lambda i: unit.compress((images[i],)), lambda i: contest.compress(images[i])], count
    )
    decode, their_decode = in_turns(
        [lambda i: unit.decompress([ours[i]]), lambda i: contest.decompress(theirs[i])], count
    )
    our_bytes = sum(len(unpack(stream, unit.framing.limits).payload) for stream in ours) / count
    their_bytes = sum(len(strings[0]) for strings in theirs) / count
    estimated = float(unit.quantise((latents,))[1].sum()) / 8 / count
    by_tables = sum(map(contest.table_bits, unit.symbols((latents,))[0])) / 8 / count
    print(
        f"{contest.name}, {'x'.join(map(str, latents.shape[1:]))}: encode {1e3 * encode:.3f} ms against "
        f"{1e3 * their_encode:.3f}, decode {1e3 * decode:.3f} against {1e3 * their_decode:.3f}; {our_bytes:.1f} bytes "
        f"against {their_bytes:.1f}, estimated {estimated:.1f}, by the tables {by_tables:.1f}",
        flush=True,
    )
    return {
        "encode_ratio": their_encode / encode,
        "decode_ratio": their_decode / decode,
        "bytes_ratio": our_bytes / their_bytes,
        "overhead_bytes": our_bytes - estimated,
        "encode_ns": 1e9 * encode / num_symbols,
        "decode_ns": 1e9 * decode / num_symbols,
    }


def main() -> None:
    """Compare all shapes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.coding", description=__doc__)
    parser.add_argument("--images", type=int, default=100, help="a shape; default: %(default)s")
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = {}
    for name, (make, shape, widths) in CASES.items():
        results[name] = {key: round(value, 4) for key, value in compare(make(shape, widths, options.images)).items()}
    print(json.dumps(results))


if __name__ == "__main__":
    main()
