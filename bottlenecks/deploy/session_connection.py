"""A device's session with its server: a byte or two beside each payload, over one WebSocket."""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import Any

import httpx
from websockets.exceptions import InvalidStatus, InvalidURI, WebSocketException
from websockets.sync.client import ClientConnection, connect

from bottlenecks.coding.bitstream import BitstreamError
from bottlenecks.coding.session import SessionWriter, Terms, check_accepted
from bottlenecks.deploy.connection import MAX_ANSWER_BYTES, TIMEOUT_SECONDS, Server
from bottlenecks.deploy.replies import Answer
from bottlenecks.deploy.route import proxy_to, trusted
from bottlenecks.environment import prescribed
from bottlenecks.errors import UsageError, reason

CLOSE_SECONDS = 1.0  # that a server is given to say farewell


class SessionServer(Server):
    """The server, as one session after the other has it; what is no frame goes by HTTP.

    A session in which something went wrong is given up, so that no late answer is taken for another frame's; the next
    frame begins a new one.

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
        self._terms = terms
        self._stack = ExitStack()
        self._socket: ClientConnection | None = None
        try:
            self._begin()
        except UsageError:
            self.close()
            raise

    def predict(self, stream: bytes) -> Answer:
        """Send a frame as a message; give the server's answer.

        Raises:
            UsageError: the server cannot be reached, refuses, or answers something else.
        """
        if self._socket is None:
            self._begin()
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
        self._give_up()
        super().close()

    def _give_up(self) -> None:
        self._socket = None
        self._stack.close()

    def _connect(self) -> ClientConnection:
        base = self._client.base_url
        scheme = "wss" if base.scheme == "https" else "ws"
        proxy, context = proxy_to(base), trusted() if scheme == "wss" else None
        try:
            opening = connect(
                str(base.copy_with(scheme=scheme, path=f"{base.path.rstrip('/')}/session")),
                ssl=context,
                additional_headers=self.headers,
                open_timeout=TIMEOUT_SECONDS,
                close_timeout=CLOSE_SECONDS,
                max_size=MAX_ANSWER_BYTES,
                proxy=None if proxy is None else _address_of(proxy),
            )
            return self._stack.enter_context(opening)
        except InvalidStatus as error:
            why = error.response.body.decode(errors="replace")[:200]
            raise UsageError(f"--server={self.url}: refused with {error.response.status_code} ({why})") from None
        except (ImportError, InvalidURI, WebSocketException, OSError, ValueError) as error:
            raise self._refused(error) from None

    def _begin(self) -> None:
        self._socket, self._writer = self._connect(), SessionWriter(self._terms)
        offer = self._terms.offer()
        try:
            check_accepted(offer, self._exchange(offer))
        except BitstreamError as error:
            self._give_up()
            raise self._refused(error) from None

    def _exchange(self, message: bytes) -> bytes:
        assert self._socket is not None
        try:
            self._socket.send(message)
            self.sent_bytes += len(message)
            answer = self._socket.recv(timeout=TIMEOUT_SECONDS)
        except (WebSocketException, OSError, TimeoutError) as error:
            self._give_up()
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
        why = f"{reason(error)}{prescribed()}"
        return UsageError(f"--server={self.url}: no session ({why}); is it running there?")


def _address_of(proxy: httpx.Proxy) -> str:
    user, password = proxy.auth or ("", "")
    return str(proxy.url.copy_with(username=user, password=password) if proxy.auth else proxy.url)
