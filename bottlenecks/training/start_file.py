"""Keeps where units began beside the state of their run, so that an interrupted one goes on from there."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from bottlenecks.errors import UsageError, reason
from bottlenecks.files import one_at_a_time, write_atomically
from bottlenecks.processes import is_main
from bottlenecks.rates.places import Lmbda
from bottlenecks.training.any_rate import Measured
from bottlenecks.training.relevant import relevant
from bottlenecks.training.start import Start

BEGAN = time.time()  # of this process


class StartFile:
    """The file of a run's starts; of several processes one makes it, and the others read it.

    Args:
        state: path of the run's resume state.
        settings: what bears on the outcome.
        identity: of the training images.
        resuming: whether the run goes on from its state.
    """

    def __init__(self, state: Path, settings: Mapping[str, Any], identity: Mapping[str, Any], resuming: bool) -> None:
        self.path, self.resuming = state.with_suffix(".start"), resuming
        self.key = {"settings": relevant(settings), "identity": dict(identity)}

    def obtain(self, make: Callable[[], dict[Lmbda, Start]]) -> dict[Lmbda, Start]:
        """Read the starts where they are of this run, else make and keep them.

        Raises:
            UsageError: a run is to go on and they are damaged.
        """
        with one_at_a_time(self.path):
            stale = is_main() and not self.resuming and self.path.exists() and self.path.stat().st_mtime < BEGAN
            if self.path.exists() and not stale and (starts := self._read()):
                return starts
            starts = make()
            buffer = io.BytesIO()
            torch.save({"key": self.key, "starts": {lmbda: _plain(own) for lmbda, own in starts.items()}}, buffer)
            write_atomically(self.path, buffer.getvalue())
            return starts

    def _read(self) -> dict[Lmbda, Start] | None:
        try:
            content = torch.load(self.path, map_location="cpu", weights_only=True)
            if content["key"] == self.key:
                return {lmbda: _start_of(own) for lmbda, own in content["starts"].items()}
        except Exception as error:  # damaged files end in errors of many kinds
            if self.resuming:
                raise UsageError(
                    f"resume=true: {self.path} is damaged ({reason(error)}); start anew with overwrite=true"
                ) from None
        return None


def _plain(start: Start) -> dict[str, Any]:
    """Turn a start into what a file without pickled classes holds."""
    return {**vars(start), "measured": [tuple(point) for point in start.measured]}


def _start_of(content: Mapping[str, Any]) -> Start:
    return Start(**{**content, "measured": [Measured(*point) for point in content["measured"]]})
