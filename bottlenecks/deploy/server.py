"""A small reference server: python -m bottlenecks.deploy.server dist/resnet50-layer3-digits --port 8080.

    POST /predict   one frame of any rate -> the most probable classes, a mask or boxes, as JSON
    POST /probe     bytes that are counted and thrown away: how fast is the uplink?
    GET  /health    what is served

What waits while the tail runs goes through it together, as one batch. It is made to stand behind a proxy, which limits
connections that send no request.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from bottlenecks.bitstream import BitstreamError
from bottlenecks.deploy.answers import ANSWERS
from bottlenecks.deploy.bundle import MAX_THREADS, Bundle, BundleError
from bottlenecks.deploy.receiver import Received, Receiver, rows
from bottlenecks.errors import check_number, run

PROBE_BYTES = 2**18
GRACE_SECONDS = 10  # that requests under way are given when the server is told to stop


@dataclass(frozen=True)
class ServerLimits:
    """What a server takes on.

    Attributes:
        max_batch: frames that go through the tail together.
        max_waiting: requests under way; more are told to come again.
        body_seconds: that a request may take to arrive.
    """

    max_batch: int = 16
    max_waiting: int = 128
    body_seconds: float = 10.0


class Batcher:
    """Runs the tail on all that has come in since it last began.

    Args:
        receiver: of the bundle.
        max_batch: frames at once.
    """

    def __init__(self, receiver: Receiver, max_batch: int) -> None:
        self.receiver, self.max_batch = receiver, max_batch
        self._queue: asyncio.Queue[tuple[Received, asyncio.Future[Any]]] = asyncio.Queue()

    async def infer(self, received: Received) -> Any:
        """Wait for the network's output for one frame."""
        done = asyncio.get_running_loop().create_future()
        self._queue.put_nowait((received, done))
        return await done

    async def run(self) -> None:
        """Serve until cancelled."""
        while True:
            batch = [await self._queue.get()]
            while len(batch) < self.max_batch and not self._queue.empty():
                batch.append(self._queue.get_nowait())
            waiting = [(received, done) for received, done in batch if not done.cancelled()]
            if not waiting:
                continue
            try:
                outputs = await asyncio.to_thread(self.receiver.infer, [received for received, _ in waiting])
            except Exception as error:  # one batch's misfortune is not the next one's
                for _, done in waiting:
                    if not done.done():
                        done.set_exception(error)
            else:
                for (_, done), output in zip(waiting, rows(outputs), strict=True):
                    if not done.done():
                        done.set_result(output)


class Service:
    """The endpoints over one bundle.

    Args:
        receiver: of the bundle.
        limits: what is taken on.

    Raises:
        BundleError: there are no answers for the bundle's task.
    """

    def __init__(self, receiver: Receiver, limits: ServerLimits) -> None:
        manifest = receiver.bundle.manifest
        if manifest.task not in ANSWERS:
            raise BundleError(f"{receiver.bundle.folder}: task {manifest.task}, this server knows {', '.join(ANSWERS)}")
        self.receiver, self.limits = receiver, limits
        self.batcher = Batcher(receiver, limits.max_batch)
        self.under_way = 0

    def app(self) -> Starlette:
        """Give the ASGI application."""
        routes = [
            Route("/predict", self.predict, methods=["POST"]),
            Route("/probe", self.probe, methods=["POST"]),
            Route("/health", self.health, methods=["GET"]),
        ]
        handlers: Any = {HTTPException: _explain}
        return Starlette(routes=routes, lifespan=self._lifespan, exception_handlers=handlers)

    async def predict(self, request: Request) -> JSONResponse:
        """Decode one frame and answer with what the network makes of it."""
        with self._admitted():
            stream = await self._body(request, self.receiver.max_bytes)
            start = time.perf_counter()
            try:
                received = await asyncio.to_thread(self.receiver.read, stream)
            except BitstreamError as error:
                raise HTTPException(400, str(error)) from None
            output = await self.batcher.infer(received)
        manifest = self.receiver.bundle.manifest
        return JSONResponse(
            {
                "lambda": received.lmbda,
                "bytes": received.num_bytes,
                **ANSWERS[manifest.task](output, manifest.class_names),
                "server_ms": 1e3 * (time.perf_counter() - start),
            }
        )

    async def probe(self, request: Request) -> JSONResponse:
        """Count the bytes of a request."""
        with self._admitted():
            return JSONResponse({"bytes": len(await self._body(request, PROBE_BYTES))})

    async def health(self, request: Request) -> JSONResponse:
        """Say what is served."""
        manifest = self.receiver.bundle.manifest
        rates = {rate.fingerprint: rate.stated for rate in manifest.rates}
        content = {name: getattr(manifest, name) for name in ("model", "split", "data", "backbone_fingerprint")}
        return JSONResponse({"status": "ok", **content, "rates": rates, "under_way": self.under_way})

    @contextmanager
    def _admitted(self) -> Iterator[None]:
        if self.under_way >= self.limits.max_waiting:
            raise HTTPException(503, "busy; try again", {"Retry-After": "1"})
        self.under_way += 1
        try:
            yield
        finally:
            self.under_way -= 1

    async def _body(self, request: Request, most: int) -> bytes:
        try:
            return await asyncio.wait_for(_read(request, most), self.limits.body_seconds)
        except (TimeoutError, asyncio.TimeoutError):
            raise HTTPException(408, f"the body took more than {self.limits.body_seconds:g} s") from None
        except ClientDisconnect:
            raise HTTPException(400, "the client went away") from None

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        worker = asyncio.create_task(self.batcher.run())
        yield
        worker.cancel()


async def _read(request: Request, most: int) -> bytes:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            raise HTTPException(413, f"more than {most} bytes")
    return body


async def _explain(request: Request, error: HTTPException) -> JSONResponse:
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    limits = ServerLimits()
    parser = argparse.ArgumentParser(
        prog="python -m bottlenecks.deploy.server",
        description="Serve the tail of a bundle to devices.",
    )
    parser.add_argument("bundle", type=Path, help="folder that export.py wrote, such as dist/resnet50-layer3-digits")
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen at, 0.0.0.0 for all; default: %(default)s"
    )
    parser.add_argument("--port", type=int, default=8080, help="0 for any that is free; default: %(default)s")
    parser.add_argument("--threads", type=int, help="of the tail; all cores where not given")
    parser.add_argument(
        "--max-batch", type=int, default=limits.max_batch, help="frames in the tail at once; default: %(default)s"
    )
    parser.add_argument(
        "--max-waiting", type=int, default=limits.max_waiting, help="requests under way; default: %(default)s"
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve from the command line, until SIGINT or SIGTERM."""
    options = parse(arguments)
    for name in ("max_batch", "max_waiting"):
        check_number(f"--{name.replace('_', '-')}", getattr(options, name), 1, whole=True)
    check_number("--port", options.port, 0, 2**16 - 1, whole=True)
    if options.threads is not None:
        check_number("--threads", options.threads, 1, MAX_THREADS, whole=True)
    receiver = Receiver(Bundle(options.bundle), options.threads)
    receiver.warm_up()
    app = Service(receiver, ServerLimits(options.max_batch, options.max_waiting)).app()
    uvicorn.run(
        app,
        host=options.host,
        port=options.port,
        log_level="info",
        access_log=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )


if __name__ == "__main__":
    run(main)
