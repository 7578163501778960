"""Damage and malice against a unit's decoder: an error or the promised shape, in bounded memory and time."""

from __future__ import annotations

import random
import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from bottlenecks.coding.bitstream import BitstreamError
from bottlenecks.coding.coder import INT32, Coder
from bottlenecks.network import BottleneckNetwork
from bottlenecks.units import FactorizedPart
from tests.fuzzing import mutate


@pytest.fixture(scope="module")
def network(trained: Path) -> BottleneckNetwork:
    return BottleneckNetwork.load(trained / "checkpoints/tiny/body/digits")


def attack(network: BottleneckNetwork, count: int, seed: int) -> Counter[str]:
    """Decode mutated streams of all rates; count what became of them."""
    random_, ends = random.Random(seed), Counter[str]()
    images = torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    streams = []
    for lmbda in network.ladder:
        network.lmbda = lmbda
        streams += network.encode(images)
    for _ in range(count):
        stream = mutate(streams, random_)
        try:
            (latent,), (size,), _ = network.rate_of(stream).unit.framing.read(stream)
        except BitstreamError as error:
            ends[str(error).split("(")[0].rstrip("0123456789, ")] += 1
            continue
        assert latent.shape[1:] == size and latent.dtype == np.int32
        assert size[0] * size[1] <= 16 * 16 * 64
        ends["decoded"] += 1
        (features,) = network.rate_of(stream).unit.decompress([stream])
        assert features.shape == (1, 16, *size)
    return ends


def test_mutated_streams_end_in_an_error_or_the_promised_shape(network: BottleneckNetwork) -> None:
    attack(network, 100, seed=1)  # what is allocated once is there
    tracemalloc.start()
    ends = attack(network, 3_000, seed=0)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 64 * 2**20
    assert ends["decoded"] > 100 and len(ends) > 15  # forgeries decode; damage ends in many ways


@pytest.mark.slow
def test_a_hundred_thousand_mutated_streams(network: BottleneckNetwork) -> None:
    assert sum(attack(network, 100_000, seed=2).values()) == 100_000


def test_random_latents_come_back() -> None:
    rng = np.random.default_rng(0)
    extremes = np.array([INT32.min, INT32.min + 1, -1, 0, 1, INT32.max - 1, INT32.max])
    parts = [FactorizedPart((16, 8, 8), 8, init_scale=width) for width in (2.0, 10.0)]
    coders = [Coder(part.build_tables()) for part in parts]
    for index in range(3_000):
        shape = (8, *rng.integers(1, 4, rng.integers(0, 3)).tolist())  # from a single position up
        symbols = rng.laplace(0, rng.choice([0.3, 3, 300, 1e6]), shape).clip(INT32.min, INT32.max).astype(np.int32)
        wild = rng.random(shape) < 0.1
        symbols[wild] = rng.choice(extremes, wild.sum())
        coder = coders[index % len(coders)]
        assert np.array_equal(coder.decode(coder.encode(symbols), shape), symbols)
