"""Who may ask a server, and how much."""

from __future__ import annotations

import hmac
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection

BEARER = "bearer "
MOST_CLIENTS = 4096  # that are remembered; of more, those who asked longest ago are forgotten


class Door:
    """Lets in who has a token; without tokens, everyone.

    Args:
        tokens: any of which is taken.
    """

    def __init__(self, tokens: Sequence[str] = ()) -> None:
        self._tokens = [token.encode() for token in tokens]

    def admit(self, connection: HTTPConnection) -> str:
        """Return who asks: a token's number, or without tokens an address.

        Raises:
            HTTPException: none of the tokens came along.
        """
        if not self._tokens:
            return connection.client.host if connection.client else "unknown"
        given = connection.headers.get("authorization", "")
        token = given[len(BEARER) :].strip() if given.lower().startswith(BEARER) else ""
        found = [hmac.compare_digest(token.encode(), own) for own in self._tokens]  # all, so that time tells nothing
        if not any(found):
            raise HTTPException(401, "a token is needed: Authorization: Bearer …", {"WWW-Authenticate": "Bearer"})
        return f"token {found.index(True) + 1}"


@dataclass
class _Account:
    requests: float
    num_bytes: float
    at: float


class Allowances:
    """Keeps each client within so many requests and bytes a second; as much as a second's worth may come at once.

    Args:
        requests: a second, of each client; None for any.
        num_bytes: the same.
    """

    def __init__(self, requests: float | None = None, num_bytes: float | None = None) -> None:
        self.requests, self.num_bytes = requests, num_bytes
        self._accounts: OrderedDict[str, _Account] = OrderedDict()

    def take(self, client: str, num_bytes: int = 0) -> None:
        """Charge a client for a request, and for so many bytes; what it owes counts against its next one.

        Raises:
            HTTPException: it has used up what it is given.
        """
        if self.requests is None and self.num_bytes is None:
            return
        account = self._account(client)
        if self.requests is not None and account.requests < 1:
            raise _too_much((1 - account.requests) / self.requests)
        if self.num_bytes is not None and account.num_bytes <= 0:
            raise _too_much(-account.num_bytes / self.num_bytes)
        account.requests -= 1
        account.num_bytes -= num_bytes

    def owe(self, client: str, num_bytes: int) -> None:
        """Charge a client for bytes of a request that is under way."""
        if self.num_bytes is not None:
            self._account(client).num_bytes -= num_bytes

    def _account(self, client: str) -> _Account:
        now = time.monotonic()
        most = max(self.requests or 0.0, 1.0), self.num_bytes or 0.0
        account = self._accounts.setdefault(client, _Account(*most, now))
        self._accounts.move_to_end(client)
        if len(self._accounts) > MOST_CLIENTS:
            self._accounts.popitem(last=False)
        passed, account.at = now - account.at, now
        account.requests = min(most[0], account.requests + passed * (self.requests or 0))
        account.num_bytes = min(most[1], account.num_bytes + passed * (self.num_bytes or 0))
        return account


def _too_much(seconds: float) -> HTTPException:
    return HTTPException(429, "more than this client is given; slow down", {"Retry-After": f"{seconds + 1:.0f}"})
