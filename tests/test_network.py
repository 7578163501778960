"""The rate changes, the network stays: swapping under load, mixed rates, one copy of everything."""

from __future__ import annotations

import shutil
import threading
from collections import Counter
from pathlib import Path

import pytest
import torch

from bottlenecks.coding.bitstream import BitstreamError
from bottlenecks.errors import UsageError
from bottlenecks.network import BottleneckNetwork
from bottlenecks.rates.places import CheckpointError
from datamodules.digits import Digits
from tests.conftest import QUICK, TINY, configure, quiet
from train import train


@pytest.fixture
def network(trained: Path) -> BottleneckNetwork:
    return BottleneckNetwork.load(trained / "checkpoints/tiny/body/digits")


def images(count: int = 3, size: int = 32) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def test_the_rate_may_change_while_other_threads_encode(network: BottleneckNetwork) -> None:
    expected = {}
    for lmbda in network.ladder:
        network.lmbda = lmbda
        expected[tuple(network.encode(images()))] = lmbda
    assert len(expected) == 2
    seen, wrong, done = Counter[float](), list[object](), threading.Event()

    def encode() -> None:
        while not done.is_set():
            streams = tuple(network.encode(images()))
            if streams in expected:
                seen[expected[streams]] += 1
            else:
                wrong.append(streams)

    threads = [threading.Thread(target=encode) for _ in range(4)]
    for thread in threads:
        thread.start()
    swaps = 0
    while min(seen.get(lmbda, 0) for lmbda in network.ladder) < 20 and swaps < 10**6 and not wrong:
        network.lmbda = (0.003, 0.03)[swaps % 2]
        swaps += 1
        done.wait(0.001)
    done.set()
    for thread in threads:
        thread.join()
    assert not wrong
    assert min(seen.values()) >= 20 and set(seen) == {0.003, 0.03}


def test_any_mix_of_rates_decodes(network: BottleneckNetwork) -> None:
    alone, mixed = [], []
    for image, lmbda in zip(images(4).split(1), (0.03, 0.003, 0.003, 0.03), strict=True):
        network.lmbda = lmbda
        mixed += network.encode(image)
        alone.append(network.decode(mixed[-1:]))
    assert torch.allclose(network.decode(mixed), torch.cat(alone), atol=1e-5)


def test_one_batch_has_one_size(network: BottleneckNetwork) -> None:
    with pytest.raises(BitstreamError, match=r"one batch must have one size; .*\[\(8, 8\), \(10, 10\)\]"):
        network.decode(network.encode(images(1)) + network.encode(images(1, size=40)))
    with pytest.raises(UsageError, match="streams: there are none"):
        network.decode([])


def test_an_unknown_rate_leaves_the_old_one(network: BottleneckNetwork) -> None:
    before = network.lmbda
    with pytest.raises(CheckpointError, match=r"lambda=0\.5: no such rate; there are 0\.003, 0\.03"):
        network.lmbda = 0.5
    assert network.lmbda == before


def test_head_and_tail_are_there_once_however_many_rates(network: BottleneckNetwork) -> None:
    def storages(module: torch.nn.Module) -> set[int]:
        return {tensor.untyped_storage().data_ptr() for tensor in module.state_dict().values()}

    head, tail = storages(network.network.head), storages(network.network.tail)
    assert not head & tail
    for rate in network.ladder.values():
        assert not storages(rate.unit) & (head | tail)
        assert all("unit" not in name for name, _ in network.network.named_modules())
        own = [tensor for name, tensor in rate.unit.stored_state().items() if "restorer" not in name]
        assert sum(t.numel() * t.element_size() for t in own) < 2**16  # what a unit may take beside a tiny network


@pytest.fixture
def fine(trained: Path, tmp_path: Path) -> BottleneckNetwork:
    """A rate whose streams are long for so small a network."""
    shutil.copytree(trained / "checkpoints/tiny/backbone", tmp_path / "checkpoints/tiny/backbone")
    closed = [*QUICK, "unit=transform", "unit.name=closed", "training.epochs=0", "lambda=1.0", "data.limit_train=64"]
    train(configure("train", tmp_path, *quiet([*TINY, *closed])))
    return BottleneckNetwork.load(tmp_path / "checkpoints/tiny/body/digits", unit="closed")


def test_byte_strings_that_may_be_cut_decode_without_their_end(fine: BottleneckNetwork) -> None:
    (whole,) = fine.encode(images(1), cuttable=True)
    expected = fine.decode(fine.encode(images(1)))
    assert torch.equal(fine.decode([whole]), expected)
    errors = []
    for end in range(7, len(whole)):  # behind the header
        output = fine.decode([whole[:end]])
        assert output.isfinite().all()
        errors.append(float((output - expected).square().sum()))
    assert errors[-1] < 0.1 * errors[0]


@pytest.mark.slow
def test_every_beginning_of_a_thousand_streams_decodes(network: BottleneckNetwork) -> None:
    """Images of digits and noise, at every length behind the header."""
    data = Digits(name="digits", batch_size=500, num_workers=0)
    data.preprocessing = network.preprocessing
    data.setup("fit")
    digits, _ = next(iter(data.calibration_dataloader()))
    network.lmbda = 0.03
    streams = network.encode(torch.cat([digits, images(500)]), cuttable=True)
    lengths = []
    for whole in streams:
        cuts = [whole[:end] for end in range(7, len(whole) + 1)]
        lengths.append(len(cuts))
        features = network.ladder[0.03].unit.decompress(cuts)
        assert all(tensor.shape[0] == len(cuts) and tensor.isfinite().all() for tensor in features)
    assert len(lengths) == 1000 and min(lengths) > 5
