"""How much each client of a server may ask."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import numpy as np
from starlette.exceptions import HTTPException

ROWS = 1 << 16  # of the table; clients whose names fall on one row share what they are given
ROUNDING = 1e-6  # seconds: those since a machine's start are not kept to the last digit


class Allowances:
    """Keeps each client within so many requests and bytes a second; as much as a second's worth may come at once.

    A client has a row of a table of one size: for requests and for bytes the time at which all that it took so far is
    earned. Workers have the table in common through a file. They do not wait for each other, so that of two requests
    in the same microseconds one may count for nothing.

    Args:
        requests: a second, of each client; None for any.
        num_bytes: the same.
        path: of the file; None where there is one process alone.
    """

    def __init__(self, requests: float | None = None, num_bytes: float | None = None, path: Path | None = None) -> None:
        self._seconds = np.array([1 / requests if requests else 0, 1 / num_bytes if num_bytes else 0])  # of one
        self._earned = np.zeros((ROWS, 2)) if path is None else _in_common(path)
        self._secret = os.urandom(16) if path is None else str(path).encode()  # that nobody finds a name for a row

    def take(self, client: str, num_bytes: int = 0) -> None:
        """Charge a client for a request, and for so many bytes; what it owes counts against its next one.

        Raises:
            HTTPException: it has used up what it is given.
        """
        row, now = self._row(client), time.monotonic()
        owed = np.maximum(self._earned[row] - now, 0)  # seconds
        one = self._seconds[0]
        wait = max(owed[0] + one - max(1, one), owed[1] - 1)
        if wait > ROUNDING:
            raise HTTPException(429, "more than this client is given; slow down", {"Retry-After": f"{wait + 1:.0f}"})
        self._earned[row] = now + owed + self._seconds * (1, num_bytes)

    def owe(self, client: str, num_bytes: int) -> None:
        """Charge a client for bytes of a request that is under way."""
        row = self._row(client)
        self._earned[row, 1] = max(self._earned[row, 1], time.monotonic()) + self._seconds[1] * num_bytes

    def _row(self, client: str) -> int:
        digest = hashlib.blake2b(self._secret + client.encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") % ROWS


def _in_common(path: Path) -> np.ndarray:
    """Return the table in a file, which the first worker to come makes."""
    with path.open("ab") as file:
        file.truncate(ROWS * 2 * np.dtype(float).itemsize)
    return np.memmap(path, float, "r+", shape=(ROWS, 2))
