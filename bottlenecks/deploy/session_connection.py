"""A device's session with its server: a byte or two beside each payload, over one WebSocket."""

from __future__ import annotations

import json
import ssl
from contextlib import ExitStack
from typing import Any

import httpx
from websockets.exceptions import InvalidURI, WebSocketException
from websockets.sync.client import ClientConnection, connect

from bottlenecks.coding.bitstream import BitstreamError
from bottlenecks.coding.session import SessionWriter, Terms, check_accepted
from bottlenecks.deploy.connection import MAX_ANSWER_BYTES, TIMEOUT_SECONDS, Server
from bottlenecks.deploy.replies import Answer
from bottlenecks.deploy.route import trusted
from bottlenecks.errors import UsageError, reason


class SessionServer(Server):
    """The server, as one session has it; what is no frame goes by HTTP.

    Args:
        url: such as http://localhost:8080 or ws://localhost:8080.
        terms: that are offered.
        token: that the server asks for.

    Attributes:
        sent_bytes: of all messages so far, the offer included.

    Raises:
        UsageError: the address is none, or the server does not take the session.
    """

    def __init__(self, url: str, terms: Terms, token: str | None = None) -> None:
        super().__init__(url, token)
        self.sent_bytes = 0
        self._writer = SessionWriter(terms)
        self._stack = ExitStack()
        self._socket = self._connect()
        try:
            self._begin(terms.offer())
        except UsageError:
            self.close()
            raise

    def predict(self, stream: bytes) -> Answer:
        """Send a frame as a message; give the server's answer.

        Raises:
            UsageError: the server cannot be reached, refuses, or answers something else.
        """
        answer, *checks = [self._read(self._exchange(message)) for message in self._writer.write(stream)]
        for one in checks:
            if any(one.get("session", {"": 1}).values()):
                raise UsageError(f"--server={self.url}: messages did not come as they were sent ({one})")
        if "error" in answer:
            raise UsageError(f"--server={self.url}: refused ({str(answer['error'])[:200]})")
        try:
            return Answer.of(answer)
        except ValueError as error:
            raise self._refused(error) from None

    def close(self) -> None:
        """Hang up."""
        self._stack.close()
        super().close()

    def _connect(self) -> ClientConnection:
        place = httpx.URL(self.url).join("/session")
        place = place.copy_with(scheme="wss" if place.scheme in ("https", "wss") else "ws")
        context: ssl.SSLContext | None = trusted() if place.scheme == "wss" else None
        try:
            opening = connect(
                str(place),
                ssl=context,
                additional_headers=self.headers,
                open_timeout=TIMEOUT_SECONDS,
                max_size=MAX_ANSWER_BYTES,
                proxy=None,
            )
            return self._stack.enter_context(opening)
        except (InvalidURI, WebSocketException, OSError, ValueError) as error:
            raise self._refused(error) from None

    def _begin(self, offer: bytes) -> None:
        try:
            check_accepted(offer, self._exchange(offer))
        except BitstreamError as error:
            raise self._refused(error) from None

    def _exchange(self, message: bytes) -> bytes:
        try:
            self._socket.send(message)
            self.sent_bytes += len(message)
            answer = self._socket.recv(timeout=TIMEOUT_SECONDS)
        except (WebSocketException, OSError, TimeoutError) as error:
            raise self._refused(error) from None
        return answer.encode() if isinstance(answer, str) else answer

    def _read(self, content: bytes) -> dict[str, Any]:
        try:
            answer = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise self._refused(error) from None
        if not isinstance(answer, dict):
            raise UsageError(f"--server={self.url}: answered {str(answer)[:80]!r}")
        return answer

    def _refused(self, error: Exception) -> UsageError:
        return UsageError(f"--server={self.url}: no session ({reason(error)}); is it running there?")
