"""Who may ask a server."""

from __future__ import annotations

import hmac
from collections.abc import Sequence

from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection

BEARER = "bearer "


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
