"""Coding in other processes, while this one runs the network."""

from __future__ import annotations

import multiprocessing
import os
import threading
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from types import TracebackType

import torch
from torch import Tensor

from bottlenecks.baselines.base import Baseline
from bottlenecks.baselines.codec import Codec
from bottlenecks.errors import UsageError
from bottlenecks.splitting.features import Arrays, Features, stack, to_arrays, to_tensors

AHEAD = 2  # tasks that wait for each process; more would only hold memory

RoundTrip = tuple[list[bytes], Features]
Coded = tuple[list[bytes], Arrays]
Job = tuple[Baseline, Arrays]


class Workers:
    """Processes that code and decode for baselines; units are coded where their weights are, in this one.

    Args:
        count: processes; 0 codes everything in this one, None starts as many as torch uses threads.
    """

    def __init__(self, count: int | None = None) -> None:
        self.count = torch.get_num_threads() if count is None else count
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Workers:
        if self.count > 0:
            self._pool = ProcessPoolExecutor(self.count, initializer=_begin)
            with warnings.catch_warnings():
                # Python 3.12 warns of forking beside threads; as a DataLoader's, these processes use none of theirs.
                warnings.filterwarnings("ignore", message=".*multi-threaded.*", category=DeprecationWarning)
                self._pool.submit(int).result()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def round_trips(self, codecs: Sequence[Codec], features: Features, images: Tensor) -> Iterator[RoundTrip]:
        """Code and decode a batch with each codec.

        Args:
            codecs: any number of them.
            features: (N, C, H, W) of each tensor that crosses, for those that send features.
            images: (N, 3, H, W), for those that send images.

        Yields:
            For each codec in turn the byte strings, and what was decoded from them, on the device of `images`.

        Raises:
            UsageError: a process was killed.
        """
        sent: dict[str, Features] = {"features": features, "images": (images,)}
        arrays = {name: to_arrays(batch) for name, batch in sent.items()}
        jobs = [(codec, arrays[codec.sends]) for codec in codecs if isinstance(codec, Baseline)]
        coded = self._run(jobs)
        for codec in codecs:
            if isinstance(codec, Baseline):
                streams, decoded = next(coded)
                yield streams, to_tensors(decoded, images.device)
            else:
                streams = codec.compress(sent[codec.sends])
                yield streams, codec.decompress(streams)

    def _run(self, jobs: Iterable[Job]) -> Iterator[Coded]:
        """Start on the first jobs at once; give all results in order."""
        if self._pool is None:
            return (_round_trip(*job) for job in jobs)
        pool, rest = self._pool, iter(jobs)
        with self._may_be_killed():
            waiting = deque(pool.submit(_round_trip, *job) for job in islice(rest, AHEAD * self.count))
        return self._collect(pool, waiting, rest)

    def _collect(
        self, pool: ProcessPoolExecutor, waiting: deque[Future[Coded]], rest: Iterator[Job]
    ) -> Iterator[Coded]:
        while waiting:
            with self._may_be_killed():
                result = waiting.popleft().result()
                waiting.extend(pool.submit(_round_trip, *job) for job in islice(rest, 1))
            yield result

    @contextmanager
    def _may_be_killed(self) -> Iterator[None]:
        try:
            yield
        except BrokenProcessPool:
            raise UsageError(
                f"workers={self.count}: a coding process was killed (out of memory? fewer of them, or a smaller "
                "data.batch_size, need less)"
            ) from None


def _begin() -> None:
    """Use one thread, and end when the process that started this one does, however it ends."""
    torch.set_num_threads(1)
    parent = multiprocessing.parent_process()
    assert parent is not None, "workers are started by another process"

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _round_trip(codec: Baseline, batch: Arrays) -> Coded:
    streams = [codec.encode(arrays) for arrays in zip(*batch, strict=True)]
    return streams, stack([codec.decode(stream) for stream in streams])
