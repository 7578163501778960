"""Coding in other processes: the same results in the same order, and errors that arrive."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from bottlenecks.baselines.base import Baseline
from bottlenecks.baselines.codec import Codec
from bottlenecks.errors import UsageError
from bottlenecks.evaluation.workers import Workers
from bottlenecks.splitting.features import Arrays, Features
from tests.conftest import REPOSITORY


class Doubling(Baseline):
    """Sends raw bytes; adds the number of its setting, and doubles when it decodes."""

    name = "doubling"

    def __init__(self, offset: int, sends: str = "features") -> None:
        self.setting, self.offset, self.sends = str(offset), offset, sends
        self.shape: tuple[int, ...] = (2, 3, 3)

    def encode(self, arrays: Arrays) -> bytes:
        (array,) = arrays
        return (array + self.offset).tobytes()

    def decode(self, stream: bytes) -> Arrays:
        return (2 * np.frombuffer(stream, np.float32).reshape(self.shape),)


class Failing(Doubling):
    """Refuses what it is given."""

    def encode(self, arrays: Arrays) -> bytes:
        raise ValueError("no such features")


class Killed(Doubling):
    """Dies."""

    def encode(self, arrays: Arrays) -> bytes:
        os.kill(os.getpid(), signal.SIGKILL)
        return b""


class Here(Codec):
    """Is no baseline: it has to run in the process that holds its weights."""

    name, setting = "here", ""

    def compress(self, batch: Features) -> list[bytes]:
        self.process = os.getpid()
        return [b"x"] * len(batch[0])

    def decompress(self, streams: Sequence[bytes]) -> Features:
        return (torch.full((len(streams), 2, 3, 3), 7.0),)


@pytest.mark.parametrize("count", [0, 2])
def test_results_come_in_the_order_of_the_codecs(count: int) -> None:
    features, images = torch.rand(4, 2, 3, 3), torch.rand(4, 2, 3, 3)
    here = Here()
    codecs = [Doubling(0), Doubling(1, "images"), here, *(Doubling(offset) for offset in range(2, 12))]
    with Workers(count) as workers:
        trips = list(workers.round_trips(codecs, (features,), images))
    assert here.process == os.getpid()
    for codec, (streams, (decoded,)) in zip(codecs, trips, strict=True):
        assert len(streams) == 4
        if codec is not here:
            sent = images if codec.sends == "images" else features
            assert torch.equal(decoded, 2 * (sent + codec.offset))


def test_errors_of_a_codec_arrive() -> None:
    batch = torch.rand(1, 2, 3, 3)
    with Workers(1) as workers, pytest.raises(ValueError, match="no such features"):
        list(workers.round_trips([Doubling(0), Failing(0)], (batch,), batch))


def test_a_killed_process_is_an_error_with_a_way_out() -> None:
    batch = torch.rand(1, 2, 3, 3)
    with Workers(1) as workers, pytest.raises(UsageError, match=r"workers=1: a coding process was killed"):
        list(workers.round_trips([Killed(0)], (batch,), batch))


def test_a_process_killed_between_two_batches_is_told_too() -> None:
    batch = torch.rand(1, 2, 3, 3)
    with Workers(1) as workers:
        list(workers.round_trips([Doubling(0)], (batch,), batch))
        (child,) = multiprocessing.active_children()
        child.kill()
        child.join()
        time.sleep(0.5)  # until the pool has seen it
        with pytest.raises(UsageError, match="a coding process was killed"):
            list(workers.round_trips([Doubling(0)], (batch,), batch))


@pytest.mark.slow
def test_workers_end_with_the_process_that_started_them() -> None:
    program = (
        "import multiprocessing, os, signal\n"
        "from bottlenecks.evaluation.workers import Workers\n"
        "Workers(2).__enter__()\n"
        "print(*(child.pid for child in multiprocessing.active_children()), flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=REPOSITORY)
    children = [int(number) for number in done.stdout.split()]
    assert len(children) == 2, done.stderr
    deadline = time.monotonic() + 60
    while any(map(is_alive, children)):
        assert time.monotonic() < deadline, "they live on"
        time.sleep(0.1)


def is_alive(process: int) -> bool:
    """Return whether a process runs; one that only waits to be collected does not."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except OSError:
        return False
