"""What every request meets first: the door, and the books."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bottlenecks.deploy import metrics
from bottlenecks.deploy.door import Door
from bottlenecks.deploy.logs import log_request

OPEN = ("/live", "/ready")  # what needs no token, and is asked too often to be noted
CLIENT = "bottlenecks.client"
GONE = 499  # where no answer was sent
NO_SESSION = 403  # what a WebSocket gets that is not taken
OTHER = "other"


def client_of(connection: HTTPConnection) -> str:
    """Return who asks, as the door found."""
    return str(connection.scope[CLIENT])


class Front:
    """Asks at the door for each request, counts it, and writes a line on it.

    Args:
        app: answers what is let in.
        door: who may ask.
        endpoints: that are counted each for itself; all others together, for anyone can make up names.
    """

    def __init__(self, app: ASGIApp, door: Door, endpoints: Collection[str]) -> None:
        self.app, self.door, self.endpoints = app, door, endpoints

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, as ASGI has it."""
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        start, seen = time.perf_counter(), dict[str, Any]()

        async def watch(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                seen["status"] = message["status"]
            if message["type"] == "websocket.accept":
                seen["accepted"] = True
            if message["type"] == "websocket.close" and "accepted" not in seen:
                seen["status"] = NO_SESSION
            await send(message)

        try:
            if scope["path"] not in OPEN:
                scope[CLIENT] = self.door.admit(HTTPConnection(scope))
            await self.app(scope, receive, watch)
        except HTTPException as error:
            content = {"error": error.detail}
            await JSONResponse(content, error.status_code, error.headers)(scope, receive, watch)
        except Exception:
            seen["status"] = 500
            raise
        finally:
            status = seen.get("status", None if scope["type"] == "websocket" else GONE)
            if status is not None and scope["path"] not in OPEN:  # a session notes each of its messages itself
                endpoint = scope["path"] if scope["path"] in self.endpoints else OTHER
                note(endpoint, status, scope.get(CLIENT, "nobody"), time.perf_counter() - start, scope["path"])


def note(endpoint: str, status: int, client: str, seconds: float, path: str | None = None) -> None:
    """Count a request or a message of a session, and write a line on it.

    Args:
        endpoint: by whose name it is counted.
        status: of the answer.
        client: who asked.
        seconds: that it took.
        path: that was asked for, where it is another.
    """
    if status < 400:
        metrics.REQUESTS.labels(endpoint).inc()
    else:
        metrics.refuse(metrics.REASONS.get(status, "failed"))
    log_request(path=path or endpoint, status=status, client=client, ms=round(1e3 * seconds, 2))
