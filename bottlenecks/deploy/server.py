"""A small reference server: python -m bottlenecks.deploy.server dist/resnet50-layer3-digits --port 8080.

    POST /predict   one frame of any rate -> the most probable classes, a mask or boxes, as JSON
    POST /probe     bytes that are counted and thrown away: how fast is the uplink?
    GET  /health    what is served
    WS   /session   many frames of a byte or two beside their payload -> an answer to each

What waits while the tail runs goes through it together, as one batch. Should the task that runs it ever end, what waits
is answered with 500, /health with 503, and the process ends.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute

from bottlenecks.coding.bitstream import BitstreamError
from bottlenecks.deploy.answers import ANSWERS
from bottlenecks.deploy.bundle import MAX_THREADS, Bundle, BundleError
from bottlenecks.deploy.protocol import TimedProtocol
from bottlenecks.deploy.receiver import Received, Receiver
from bottlenecks.deploy.sessions import Sessions
from bottlenecks.errors import check_number, fail, reason, run

PROBE_BYTES = 2**18
GRACE_SECONDS = 10  # that requests under way are given when the server is told to stop


@dataclass(frozen=True)
class ServerLimits:
    """What a server takes on.

    Attributes:
        max_batch: frames that go through the tail together.
        max_waiting: requests under way; more are told to come again.
        body_seconds: that a request may take to arrive.
        max_sessions: open at once.
        idle_seconds: that a session may say nothing.
    """

    max_batch: int = 16
    max_waiting: int = 128
    body_seconds: float = 10.0
    max_sessions: int = 256
    idle_seconds: float = 60.0


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


class Service:
    """The endpoints over one bundle.

    Args:
        receiver: of the bundle.
        limits: what is taken on.
        end: called where the tail is not run any more; nothing can be answered then.

    Attributes:
        failure: why it is not, None while all is well.

    Raises:
        BundleError: there are no answers for the bundle's task.
    """

    def __init__(self, receiver: Receiver, limits: ServerLimits, end: Callable[[], None] = lambda: None) -> None:
        manifest = receiver.bundle.manifest
        if manifest.task not in ANSWERS:
            raise BundleError(f"{receiver.bundle.folder}: task {manifest.task}, this server knows {', '.join(ANSWERS)}")
        self.receiver, self.limits = receiver, limits
        self.batcher = Batcher(receiver, limits.max_batch)
        prints = [bytes.fromhex(rate.fingerprint) for rate in manifest.rates]
        self.sessions = Sessions(self.answer, prints, limits.max_sessions, limits.idle_seconds)
        self.under_way = 0
        self.end = end
        self.failure: BaseException | None = None

    def app(self) -> Starlette:
        """Return the ASGI application."""
        routes = [
            Route("/predict", self.predict, methods=["POST"]),
            Route("/probe", self.probe, methods=["POST"]),
            Route("/health", self.health, methods=["GET"]),
            WebSocketRoute("/session", self.sessions.serve),
        ]
        handlers: Any = {HTTPException: _explain}
        return Starlette(routes=routes, lifespan=self._lifespan, exception_handlers=handlers)

    async def predict(self, request: Request) -> JSONResponse:
        """Decode one frame and answer with what the network makes of it."""
        with self._admitted():
            return JSONResponse(await self._infer(await self._body(request, self.receiver.max_bytes)))

    async def answer(self, stream: bytes) -> dict[str, Any]:
        """Answer one frame.

        Raises:
            HTTPException: it is damaged, or the server is busy.
        """
        with self._admitted():
            return await self._infer(stream)

    async def _infer(self, stream: bytes) -> dict[str, Any]:
        start = time.perf_counter()
        try:
            received = await asyncio.to_thread(self.receiver.read, stream)
        except BitstreamError as error:
            raise HTTPException(400, str(error)) from None
        output = await self.batcher.infer(received)
        manifest = self.receiver.bundle.manifest
        return {
            "lambda": received.lmbda,
            "bytes": received.num_bytes,
            **ANSWERS[manifest.task](output, manifest.class_names),
            "server_ms": 1e3 * (time.perf_counter() - start),
        }

    async def probe(self, request: Request) -> JSONResponse:
        """Count the bytes of a request."""
        with self._admitted():
            return JSONResponse({"bytes": len(await self._body(request, PROBE_BYTES))})

    async def health(self, request: Request) -> JSONResponse:
        """Say what is served."""
        manifest = self.receiver.bundle.manifest
        rates = {rate.fingerprint: rate.stated for rate in manifest.rates}
        content = {name: getattr(manifest, name) for name in ("model", "split", "data", "backbone_fingerprint")}
        status, code = ("failed", 503) if self.batcher.ended else ("ok", 200)
        return JSONResponse({"status": status, **content, "rates": rates, "under_way": self.under_way}, code)

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
        worker.add_done_callback(self._notice_end)
        yield
        worker.cancel()

    def _notice_end(self, worker: asyncio.Task[None]) -> None:
        if not worker.cancelled():
            self.failure = worker.exception()
            self.end()


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
    serve(receiver, ServerLimits(options.max_batch, options.max_waiting), options.host, options.port)


def serve(receiver: Receiver, limits: ServerLimits, host: str, port: int) -> None:
    """Serve until SIGINT or SIGTERM; end the program where the tail is not run any more."""

    def end() -> None:
        server.should_exit = True

    service = Service(receiver, limits, end)
    server = uvicorn.Server(
        uvicorn.Config(
            service.app(),
            host=host,
            port=port,
            http=TimedProtocol,
            ws_max_size=receiver.max_bytes,
            log_level="info",
            access_log=False,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
    )
    with suppress(KeyboardInterrupt):
        server.run()
    if service.failure is not None:
        fail(f"the task that runs the tail has ended ({reason(service.failure)}); start the server anew", status=1)


if __name__ == "__main__":
    run(main)
