"""What every request meets first: the door, and the books."""

from __future__ import annotations

import time
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


def client_of(connection: HTTPConnection) -> str:
    """Return who asks, as the door found."""
    return str(connection.scope[CLIENT])


class Front:
    """Asks at the door for each request, counts it, and writes a line on it.

    Args:
        app: answers what is let in.
        door: who may ask.
    """

    def __init__(self, app: ASGIApp, door: Door) -> None:
        self.app, self.door = app, door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, as ASGI has it."""
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        start, seen = time.perf_counter(), dict[str, Any]()

        async def watch(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                seen["status"] = message["status"]
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
                note(scope["path"], status, scope.get(CLIENT, "nobody"), time.perf_counter() - start)


def note(path: str, status: int, client: str, seconds: float) -> None:
    """Count a request or a message of a session, and write a line on it."""
    if status < 400:
        metrics.REQUESTS.labels(path).inc()
    else:
        metrics.refuse(metrics.REASONS.get(status, "failed"))
    log_request(path=path, status=status, client=client, ms=round(1e3 * seconds, 2))
