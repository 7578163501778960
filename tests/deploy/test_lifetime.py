"""A server that cannot answer says so and ends; a connection that asks nothing is closed."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from starlette.testclient import TestClient
from uvicorn import Server

from bottlenecks.coding.session import Terms
from bottlenecks.deploy.batcher import Batcher
from bottlenecks.deploy.bundle import Bundle
from bottlenecks.deploy.device import Device
from bottlenecks.deploy.protocol import TimedProtocol
from bottlenecks.deploy.receiver import Receiver
from bottlenecks.deploy.server import main as serve
from bottlenecks.deploy.service import ServerLimits, Service
from bottlenecks.deploy.session_connection import SessionServer


class Served:
    """A server in a thread of its own.

    Attributes:
        url: where it listens.
        status: with which it ended, None while it serves or where it ended well.
    """

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.status: Any = None
        self.thread = threading.Thread(target=self._serve, args=[folder])
        self.thread.start()
        while self.thread.is_alive():
            try:
                httpx.get(f"{self.url}/health")
                break
            except httpx.TransportError:
                time.sleep(0.02)

    def _serve(self, folder: Path) -> None:
        try:
            serve([str(folder), "--port", str(self.port), "--threads", "1"])
        except SystemExit as stop:
            self.status = stop.code


@pytest.fixture
def receiver(bundle_folder: Path) -> Receiver:
    return Receiver(Bundle(bundle_folder), 1)


@pytest.fixture
def stream(bundle_folder: Path) -> bytes:
    device = Device(Bundle(bundle_folder), 1)
    features = tuple(np.ones((1, *shape), np.float32) for shape in device.bundle.manifest.feature_shape)
    return device.encode(features, device.bundle.rates[0].lmbda)


@pytest.fixture
def served(bundle_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """A server with a short patience, which is ended if it has not ended itself."""
    servers: list[Server] = []
    start = Server.run
    monkeypatch.setattr(Server, "run", lambda self, *rest: (servers.append(self), start(self, *rest))[1])
    monkeypatch.setattr(TimedProtocol, "head_seconds", 0.3)
    one = Served(bundle_folder)
    yield one
    servers[0].should_exit = True
    one.thread.join(60)
    assert not one.thread.is_alive()


def test_outputs_that_do_not_belong_to_the_frames_are_an_error_of_their_batch_alone(
    served: Served, stream: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Receiver, "infer", lambda self, received: (np.zeros((0, 10), np.float32),))
        assert httpx.post(f"{served.url}/predict", content=stream, timeout=60).status_code == 500
    assert httpx.post(f"{served.url}/predict", content=stream, timeout=60).status_code == 200
    assert httpx.get(f"{served.url}/health").json()["status"] == "ok"


def test_where_the_tail_is_not_run_any_more_all_that_waits_is_told_and_the_process_ends(
    served: Served, stream: bytes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    release = threading.Event()

    async def die(self: Batcher) -> None:
        while not release.is_set():
            await asyncio.sleep(0.01)
        raise MemoryError("no room for the batch")

    monkeypatch.setattr(Batcher, "_serve_batch", die)
    with ThreadPoolExecutor(3) as pool:
        # The first is served by the call that waited for it before the method was replaced.
        assert httpx.post(f"{served.url}/predict", content=stream, timeout=60).status_code == 200
        waiting = [pool.submit(httpx.post, f"{served.url}/predict", content=stream, timeout=60) for _ in range(3)]
        while httpx.get(f"{served.url}/health").json()["under_way"] < len(waiting):
            time.sleep(0.02)
        release.set()
        assert [one.result().status_code for one in waiting] == [500] * 3
    served.thread.join(60)
    assert served.status == 1
    assert "the task that runs the tail has ended (no room for the batch)" in capsys.readouterr().err


def test_health_is_bad_once_the_tail_is_not_run_any_more(
    receiver: Receiver, stream: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def die(self: Batcher) -> None:
        raise MemoryError("no room for the batch")

    monkeypatch.setattr(Batcher, "_serve_batch", die)
    ended: list[bool] = []
    service = Service([receiver], ServerLimits(), end=lambda: ended.append(True))
    with TestClient(service.app()) as client:
        assert client.post("/predict", content=stream).status_code == 500
        health = client.get("/health")
    assert (health.status_code, health.json()["status"]) == (503, "failed")
    assert ended == [True] and str(service.failure) == "no room for the batch"


@pytest.mark.parametrize("sent", [b"", b"POST /predict HTT", b"POST /predict HTTP/1.1\r\nHost: x\r\nX-Slow: "])
def test_a_connection_that_sends_no_head_is_closed(served: Served, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", served.port), timeout=60) as connection:
        connection.sendall(sent)
        assert connection.recv(1) == b""


def test_a_head_that_comes_a_byte_at_a_time_does_not_buy_time(served: Served) -> None:
    with socket.create_connection(("127.0.0.1", served.port), timeout=60) as connection:
        with pytest.raises(OSError, match=r"reset|pipe|abort"):
            for _ in range(2000):
                connection.sendall(b"G")
                time.sleep(0.02)


def test_a_second_head_must_come_in_time_too(served: Served) -> None:
    with socket.create_connection(("127.0.0.1", served.port), timeout=60) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\nGET /he")
        received = b""
        while chunk := connection.recv(4096):
            received += chunk
    assert received.startswith(b"HTTP/1.1 200") and received.count(b"HTTP/1.1") == 1


def test_a_session_outlives_the_time_for_a_head(served: Served, stream: bytes, receiver: Receiver) -> None:
    session = SessionServer(served.url, Terms(receiver.bundle.rate_names(receiver.bundle.mean_bytes())))
    first = session._socket
    for _ in range(3):
        time.sleep(0.3)
        session.predict(stream)
    assert session._socket is first
    session.close()


def test_a_request_under_way_is_not_cut_off(served: Served, stream: bytes) -> None:
    with socket.create_connection(("127.0.0.1", served.port), timeout=60) as connection:
        connection.sendall(b"POST /probe HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n")
        time.sleep(1)
        connection.sendall(b"abc")
        assert connection.recv(4096).startswith(b"HTTP/1.1 200")
