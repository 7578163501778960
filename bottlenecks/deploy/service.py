"""What a server answers, over one bundle or several.

    POST /predict   one frame of any rate -> the most probable classes, a mask or boxes, as JSON
    POST /probe     bytes that are counted and thrown away: how fast is the uplink?
    GET  /health    what is served
    GET  /live      whether the process answers, for whoever would start it anew
    GET  /ready     whether frames are taken right now, for whoever shares them out
    GET  /metrics   counts for Prometheus
    WS   /session   many frames of a byte or two beside their payload -> an answer to each

Where there are tokens, all but /live and /ready need one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute

from bottlenecks.coding.bitstream import BitstreamError, peek_fingerprint
from bottlenecks.deploy import metrics
from bottlenecks.deploy.allowances import Allowances
from bottlenecks.deploy.answers import ANSWERS
from bottlenecks.deploy.batcher import Batcher
from bottlenecks.deploy.bundle import BundleError
from bottlenecks.deploy.door import Door
from bottlenecks.deploy.front import GONE, Front, client_of
from bottlenecks.deploy.receiver import Receiver
from bottlenecks.deploy.sessions import Sessions

PROBE_BYTES = 2**18
STATED = ("model", "split", "data", "backbone_fingerprint")


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


class Service:
    """The endpoints over some bundles.

    Args:
        receivers: of the bundles.
        limits: what is taken on.
        door: who may ask.
        allowances: how much.
        end: called where a tail is not run any more; nothing can be answered then.

    Attributes:
        failure: why it is not, None while all is well.

    Raises:
        BundleError: there are no answers for a bundle's task, or two bundles have a unit in common.
    """

    def __init__(
        self,
        receivers: Sequence[Receiver],
        limits: ServerLimits,
        door: Door | None = None,
        allowances: Allowances | None = None,
        end: Callable[[], None] = lambda: None,
    ) -> None:
        self.receivers, self.limits, self.door, self.end = receivers, limits, door or Door(), end
        self.batchers = {id(one): Batcher(one, limits.max_batch) for one in receivers}
        self.of_unit = _by_unit(receivers)
        self.allowances = allowances or Allowances()
        self.sessions = Sessions(
            self.answer, self.of_unit, self.allowances.take, limits.max_sessions, limits.idle_seconds
        )
        self.max_bytes = max(one.max_bytes for one in receivers)
        self.under_way = 0
        self.failure: BaseException | None = None

    def warm_up(self) -> None:
        """Run every graph once: the first time takes longer."""
        for receiver in self.receivers:
            receiver.warm_up()

    def app(self) -> Front:
        """Return the ASGI application."""
        routes: list[Route | WebSocketRoute] = [
            Route("/predict", self.predict, methods=["POST"]),
            Route("/probe", self.probe, methods=["POST"]),
            Route("/health", self.health, methods=["GET"]),
            Route("/live", self.live, methods=["GET"]),
            Route("/ready", self.ready, methods=["GET"]),
            Route("/metrics", self.metrics, methods=["GET"]),
            WebSocketRoute("/session", self.sessions.serve),
        ]
        handlers: Any = {HTTPException: _explain, ClientDisconnect: _gone}
        app = Starlette(routes=routes, lifespan=self._lifespan, exception_handlers=handlers)
        return Front(app, self.door, {route.path for route in routes})

    async def predict(self, request: Request) -> JSONResponse:
        """Decode one frame and answer with what the network makes of it."""
        with self._admitted():
            body = await self._body(request, self.max_bytes)
            return JSONResponse(await self._infer(body))

    async def answer(self, stream: bytes) -> dict[str, Any]:
        """Answer one frame.

        Raises:
            HTTPException: it is damaged, or the server is busy.
        """
        with self._admitted():
            return await self._infer(stream)

    async def probe(self, request: Request) -> JSONResponse:
        """Count the bytes of a request."""
        with self._admitted():
            body = await self._body(request, PROBE_BYTES)
            return JSONResponse({"bytes": len(body)})

    async def health(self, request: Request) -> JSONResponse:
        """Say what is served."""
        bundles = [_state(receiver) for receiver in self.receivers]
        only = bundles[0] if len(bundles) == 1 else {}  # flat, as clients of before read it
        status, code = ("failed", 503) if self._ended() else ("ok", 200)
        return JSONResponse({"status": status, **only, "bundles": bundles, "under_way": self.under_way}, code)

    async def live(self, request: Request) -> JSONResponse:
        """Say that the process answers."""
        return JSONResponse({"status": "live"})

    async def ready(self, request: Request) -> JSONResponse:
        """Say whether frames are taken right now."""
        state = "failed" if self._ended() else "busy" if self.under_way >= self.limits.max_waiting else "ready"
        return JSONResponse({"status": state}, 200 if state == "ready" else 503)

    async def metrics(self, request: Request) -> Response:
        """Return the counts."""
        content, kind = metrics.render()
        return Response(content, media_type=kind)

    async def _infer(self, stream: bytes) -> dict[str, Any]:
        start = time.perf_counter()
        metrics.FRAME_BYTES.observe(len(stream))
        try:
            receiver = self._receiver_of(stream)
            received = await asyncio.to_thread(receiver.read, stream)
        except BitstreamError as error:
            raise HTTPException(400, str(error)) from None
        output = await self.batchers[id(receiver)].infer(received)
        manifest = receiver.bundle.manifest
        seconds = time.perf_counter() - start
        metrics.ANSWER_SECONDS.observe(seconds)
        return {
            "lambda": received.lmbda,
            "bytes": received.num_bytes,
            **ANSWERS[manifest.task](output, manifest.class_names),
            "server_ms": 1e3 * seconds,
        }

    def _receiver_of(self, stream: bytes) -> Receiver:
        """Find the bundle that a frame is for; one that is for none is refused by whichever reads it."""
        return self.of_unit.get(peek_fingerprint(stream), self.receivers[0])

    def _ended(self) -> bool:
        return any(batcher.ended for batcher in self.batchers.values())

    @contextmanager
    def _admitted(self) -> Iterator[None]:
        if self.under_way >= self.limits.max_waiting:
            raise HTTPException(503, "busy; try again", {"Retry-After": "1"})
        self.under_way += 1
        metrics.UNDER_WAY.inc()
        try:
            yield
        finally:
            self.under_way -= 1
            metrics.UNDER_WAY.dec()

    async def _body(self, request: Request, most: int) -> bytes:
        self.allowances.take(client_of(request))  # before it comes: who sends slowly asks as well
        try:
            body = await asyncio.wait_for(_read(request, most), self.limits.body_seconds)
        except (TimeoutError, asyncio.TimeoutError):
            raise HTTPException(408, f"the body took more than {self.limits.body_seconds:g} s") from None
        self.allowances.owe(client_of(request), len(body))
        return body

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(batcher.run()) for batcher in self.batchers.values()]
        for task in tasks:
            task.add_done_callback(self._notice_end)
        yield
        for task in tasks:
            task.cancel()
        metrics.leave()

    def _notice_end(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            self.failure = task.exception()
            self.end()


def _by_unit(receivers: Sequence[Receiver]) -> dict[bytes, Receiver]:
    """Find which bundle each unit is in, by its fingerprint."""
    found: dict[bytes, Receiver] = {}
    for receiver in receivers:
        manifest, folder = receiver.bundle.manifest, receiver.bundle.folder
        if manifest.task not in ANSWERS:
            raise BundleError(f"{folder}: task {manifest.task}, this server knows {', '.join(ANSWERS)}")
        for rate in manifest.rates:
            print_ = bytes.fromhex(rate.fingerprint)
            if (other := found.setdefault(print_, receiver)) is not receiver:
                raise BundleError(
                    f"{folder}: its unit {rate.fingerprint} is in {other.bundle.folder}, too, and frames would tell "
                    "neither; serve one of the bundles here, the other at another port"
                )
    return found


def _state(receiver: Receiver) -> dict[str, Any]:
    """State what a bundle is."""
    manifest = receiver.bundle.manifest
    return {**{name: getattr(manifest, name) for name in STATED}, "rates": manifest.stated_rates}


async def _read(request: Request, most: int) -> bytes:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            raise HTTPException(413, f"more than {most} bytes")
    return body


async def _explain(request: Request, error: HTTPException) -> JSONResponse:
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


async def _gone(request: Request, error: ClientDisconnect) -> JSONResponse:
    return JSONResponse({"error": "the client went away"}, GONE)
