"""Frames that wait while the tail runs go through it together."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.exceptions import HTTPException

from bottlenecks.deploy.metrics import BATCH_FRAMES
from bottlenecks.deploy.receiver import Received, Receiver


class Batcher:
    """Runs the tail on all that has come in since it last began.

    Args:
        receiver: of the bundle.
        max_batch: frames at once.
    """

    def __init__(self, receiver: Receiver, max_batch: int) -> None:
        self.receiver, self.max_batch, self.ended = receiver, max_batch, False
        self._queue: asyncio.Queue[tuple[Received, asyncio.Future[Any]]] = asyncio.Queue()
        self._waiting: set[asyncio.Future[Any]] = set()

    async def infer(self, received: Received) -> Any:
        """Wait for the network's output for one frame.

        Raises:
            HTTPException: nothing runs the tail any more.
        """
        if self.ended:
            raise _no_tail()
        done = asyncio.get_running_loop().create_future()
        self._waiting.add(done)
        done.add_done_callback(self._waiting.discard)
        self._queue.put_nowait((received, done))
        return await done

    async def run(self) -> None:
        """Serve until cancelled; what then waits is told so."""
        try:
            while True:
                await self._serve_batch()
        finally:
            self.ended = True
            for done in [*self._waiting]:
                _settle(done, error=_no_tail())

    async def _serve_batch(self) -> None:
        batch = [await self._queue.get()]
        while len(batch) < self.max_batch and not self._queue.empty():
            batch.append(self._queue.get_nowait())
        waiting = [(received, done) for received, done in batch if not done.cancelled()]
        if not waiting:
            return
        BATCH_FRAMES.observe(len(waiting))
        try:
            outputs = await asyncio.to_thread(self.receiver.infer, [received for received, _ in waiting])
            pairs = [*zip(waiting, zip(*outputs, strict=True), strict=True)]
        except Exception as error:  # one batch's misfortune is not the next one's
            for _, done in waiting:
                _settle(done, error=error)
        else:
            for (_, done), output in pairs:
                _settle(done, output)


def _settle(done: asyncio.Future[Any], output: Any = None, error: Exception | None = None) -> None:
    """Give a request its output or its error, unless it has gone away meanwhile."""
    if done.done():
        return
    if error is None:
        done.set_result(output)
    else:
        done.set_exception(error)


def _no_tail() -> HTTPException:
    return HTTPException(500, "nothing runs the network's tail any more; the server ends")
