"""A device's way to its server."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any, TypeVar

import httpx

from bottlenecks.deploy.bundle import Bundle
from bottlenecks.deploy.replies import Answer
from bottlenecks.deploy.route import transport_to
from bottlenecks.environment import prescribed
from bottlenecks.errors import UsageError, reason

T = TypeVar("T")
SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}
MAX_ANSWER_BYTES = 2**24  # some thousand tokens are as much
PROBES = (2**10, 2**17)  # bytes of the two requests that measure an uplink
TIMEOUT_SECONDS = 30.0


class Server:
    """What a device needs of the server.

    Args:
        url: such as http://localhost:8080.
        token: that the server asks for.

    Attributes:
        headers: that say who asks.

    Raises:
        UsageError: the address is none, or the environment prescribes a way to it that there is not.
    """

    def __init__(self, url: str, token: str | None = None) -> None:
        self.url = url
        self.headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        try:
            place = httpx.URL(url)
            if place.scheme not in SCHEMES:
                raise httpx.InvalidURL(f"it begins with none of {', '.join(SCHEMES)}")
            place = place.copy_with(scheme=SCHEMES[place.scheme])  # what is no frame of a session goes by HTTP
            self._client = httpx.Client(
                base_url=place,
                timeout=TIMEOUT_SECONDS,
                headers={"Accept-Encoding": "identity", **self.headers},
                transport=transport_to(place),
                trust_env=False,
            )
        except httpx.InvalidURL as error:
            raise UsageError(f"--server={url}: no address ({error}); give it as http://HOST:PORT") from None

    def predict(self, stream: bytes) -> Answer:
        """Send a frame; give the server's answer.

        Raises:
            UsageError: the server cannot be reached, refuses, or answers something else.
        """
        return self._ask("POST", "/predict", stream, Answer.of)

    def close(self) -> None:
        """Hang up."""
        self._client.close()

    def check(self, bundle: Bundle) -> None:
        """Refuse a server that serves another bundle.

        Raises:
            UsageError: it does, or it cannot be reached.
        """
        manifest = bundle.manifest
        health = self._ask("GET", "/health", b"", lambda content: content)
        own: dict[str, Any] = {
            "backbone_fingerprint": manifest.backbone_fingerprint,
            "split": manifest.split,
            "rates": manifest.stated_rates,
        }
        served = health.get("bundles")
        if not isinstance(served, list) or not all(isinstance(one, dict) for one in served):
            served = [health]  # of a server of before
        unlike = [[name for name in own if one.get(name) != own[name]] for one in served]
        if [] in unlike:
            return
        name = unlike[0][0] if unlike else "split"
        theirs = [one.get(name) for one in served]
        what = f"another bundle: {name} {theirs[0]}" if len(theirs) == 1 else f"other bundles: {name} {theirs}"
        raise UsageError(f"--server={self.url}: serves {what}, {bundle.folder}: {own[name]}")

    def uplink_kbps(self) -> float:
        """Measure how many thousands of bits the uplink takes in a second, from requests of two sizes."""
        short, long = map(self._probe_ms, PROBES)
        return 8 * (PROBES[1] - PROBES[0]) / max(long - short, 1e-3)

    def round_trip_ms(self) -> float:
        """Measure how long a request takes that has nothing to carry and nothing to do."""
        return self._probe_ms(0)

    def _probe_ms(self, num_bytes: int) -> float:
        times = []
        for _ in range(3):
            start = time.perf_counter()
            self._ask("POST", "/probe", bytes(num_bytes), lambda content: content)
            times.append(time.perf_counter() - start)
        return 1e3 * min(times)

    def _ask(self, method: str, path: str, content: bytes, parse: Callable[[dict[str, Any]], T]) -> T:
        try:
            with self._client.stream(method, path, content=content) as response:
                body = _read(response)
            answer = json.loads(body)
            if response.status_code == httpx.codes.OK and isinstance(answer, dict):
                return parse(answer)
        except (httpx.HTTPError, httpx.StreamError, ValueError, RecursionError) as error:
            why = f"{reason(error)}{prescribed()}"
            raise UsageError(f"--server={self.url}: no answer ({why}); is it running there?") from None
        why = answer.get("error", answer) if isinstance(answer, dict) else answer
        raise UsageError(f"--server={self.url}: refused with {response.status_code} ({str(why)[:200]})")


def _read(response: httpx.Response) -> bytes:
    """Read a body, within bounds of size and time."""
    body, end = b"", time.monotonic() + TIMEOUT_SECONDS
    for chunk in response.iter_raw():
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            raise ValueError(f"more than {MAX_ANSWER_BYTES} bytes")
        if time.monotonic() > end:
            raise ValueError(f"not all of it within {TIMEOUT_SECONDS:g} s")
    return body
