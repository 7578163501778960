"""The server's side of sessions: over one WebSocket come an offer, then frames of a byte or two beside their payload.

To the offer the server answers its acceptance, to a frame what `/predict` answers, as JSON, and to a running check how
the session goes: `{"session": {"refused": 0, "lost": 0, "doubtful": 0}}`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from typing import Any

from starlette.exceptions import HTTPException
from starlette.websockets import WebSocket, WebSocketDisconnect

from bottlenecks.coding.bitstream import BitstreamError
from bottlenecks.coding.session import SessionReader, Terms, accept
from bottlenecks.deploy import metrics
from bottlenecks.deploy.front import client_of, note

REFUSED, BUSY, GONE, LARGE, NO_BYTES = 1008, 1013, 1001, 1009, 1003  # codes of RFC 6455 and its registry
CLOSE_SECONDS = 5.0
Answering = Callable[[bytes], Awaitable[dict[str, Any]]]
WELL = (1000, 1001, 1005, 1006)  # with which a client ends a session, or is lost


class Sessions:
    """Answers what comes in sessions, of each one frame after the other.

    Args:
        answer: of one frame; raises HTTPException.
        fingerprints: of the units that are served.
        charge: takes who asks and the bytes of a message; raises HTTPException.
        most: sessions at once.
        idle_seconds: after which a session that says nothing is ended.
    """

    def __init__(
        self,
        answer: Answering,
        fingerprints: Collection[bytes],
        charge: Callable[[str, int], None],
        most: int,
        idle_seconds: float,
    ) -> None:
        self.answer, self.fingerprints, self.charge = answer, fingerprints, charge
        self.most, self.idle_seconds = most, idle_seconds
        self.open = 0

    async def serve(self, socket: WebSocket) -> None:
        """Serve one session until it ends.

        Raises:
            HTTPException: the client is given no more.
        """
        self.charge(client_of(socket), 0)
        await socket.accept()
        if self.open >= self.most:
            metrics.refuse("busy")
            return await socket.close(BUSY, "busy; try again")
        self.open += 1
        metrics.SESSIONS.inc()
        try:
            reader = await self._begin(socket)
            while True:
                answer = await self._answer(reader, await self._receive(socket), client_of(socket))
                await asyncio.wait_for(socket.send_json(answer), self.idle_seconds)
        except HTTPException as error:
            metrics.refuse(metrics.REASONS.get(error.status_code, "failed"))
            await socket.close(BUSY, error.detail)
        except BitstreamError as error:
            metrics.refuse("damaged")
            await socket.close(REFUSED, str(error)[:120])
        except asyncio.TimeoutError:
            metrics.refuse("slow")
            with suppress(asyncio.TimeoutError):  # of one that takes no answers either
                await asyncio.wait_for(socket.close(GONE, f"nothing came for {self.idle_seconds:g} s"), CLOSE_SECONDS)
        except KeyError:  # a text in the place of bytes
            metrics.refuse("malformed")
            await socket.close(NO_BYTES, "messages are bytes")
        except WebSocketDisconnect as end:
            if end.code not in WELL:
                metrics.refuse("large" if end.code == LARGE else "malformed")
        finally:
            self.open -= 1
            metrics.SESSIONS.dec()

    async def _begin(self, socket: WebSocket) -> SessionReader:
        offer = await self._receive(socket)
        terms = Terms.of(offer)
        for rate in terms.rates:
            if rate.fingerprint not in self.fingerprints:
                raise BitstreamError(f"the unit {rate.fingerprint.hex()} is not served here")
        await socket.send_bytes(accept(offer))
        return SessionReader(terms)

    async def _receive(self, socket: WebSocket) -> bytes:
        return await asyncio.wait_for(socket.receive_bytes(), self.idle_seconds)

    async def _answer(self, reader: SessionReader, message: bytes, client: str) -> dict[str, Any]:
        start, status = time.perf_counter(), 200
        answer: dict[str, Any]
        try:
            try:
                frame = reader.read(message)
            finally:  # also for what is no frame; read in any case, that the session goes on
                self.charge(client, len(message))
            if frame is None:
                answer = {"session": {"refused": reader.refused, "lost": reader.lost, "doubtful": reader.doubtful}}
            else:
                answer = {**await self.answer(frame), "bytes": len(message)}
        except BitstreamError as error:
            status, answer = 400, {"error": str(error)}
        except HTTPException as error:
            status, answer = error.status_code, {"error": error.detail}
        note("/session", status, client, time.perf_counter() - start)
        return answer
