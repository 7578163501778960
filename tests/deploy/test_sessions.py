"""Sessions over a real WebSocket: the same answers as by HTTP for fewer bytes, and nothing hostile ends the server."""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingTCPServer

import pytest
from PIL import Image
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.sync.server import ServerConnection, serve

from bottlenecks.coding.bitstream import pack
from bottlenecks.coding.session import RateName, SessionWriter, Terms, accept
from bottlenecks.deploy import session_connection
from bottlenecks.deploy.bundle import Bundle
from bottlenecks.deploy.client import open_server
from bottlenecks.deploy.connection import Server
from bottlenecks.deploy.device import Device
from bottlenecks.deploy.session_connection import SessionServer
from bottlenecks.errors import UsageError

Client = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def device(bundle_folder: Path) -> Device:
    return Device(Bundle(bundle_folder))


@pytest.fixture(scope="module")
def terms(device: Device) -> Terms:
    return Terms(device.bundle.rate_names(device.bundle.mean_bytes()), window=3)


@pytest.fixture(scope="module")
def streams(device: Device, image_paths: list[Path]) -> list[bytes]:
    """Frames of both rates in turns."""
    features = [device.features(Image.open(path)) for path in image_paths[:6]]
    return [device.encode(one, lmbda) for one in features for lmbda in device.bundle.mean_bytes()]


def socket_of(server: str) -> str:
    return server.replace("http", "ws", 1) + "/session"


def test_answers_are_those_by_http_for_fewer_bytes(server: str, terms: Terms, streams: list[bytes]) -> None:
    alone, session = Server(server), SessionServer(server, terms)
    assert [session.predict(one).text for one in streams] == [alone.predict(one).text for one in streams]
    checks = 4 * (len(streams) // 3)
    assert session.sent_bytes == len(terms.offer()) + sum(map(len, streams)) - 5 * len(streams) + checks
    session.close()
    alone.close()


def test_the_client_sends_in_a_session(client: Client, image_paths: list[Path]) -> None:
    paths = image_paths[:5]
    plain, session = client(*paths, "--json"), client(*paths, "--json", "--session")
    assert session.returncode == 0, session.stderr
    told = [[json.loads(line)["class"] for line in done.stdout.splitlines()] for done in (plain, session)]
    assert told[0] == told[1] and len(told[0]) == 5


def test_a_damaged_message_is_told_and_the_session_goes_on(server: str, terms: Terms, streams: list[bytes]) -> None:
    writer = SessionWriter(terms)
    (first, second, (third, running)) = ([*writer.write(one)] for one in streams[:3])
    with connect(socket_of(server)) as socket:
        socket.send(terms.offer())
        assert socket.recv() == accept(terms.offer())
        socket.send(bytes([first[0][0] ^ 1]) + first[0][1:])
        assert "damaged" in json.loads(socket.recv())["error"]
        for message in (*second, third):
            socket.send(message)
            assert "classes" in json.loads(socket.recv())
        socket.send(running)
        assert json.loads(socket.recv()) == {"session": {"refused": 1, "lost": 0, "doubtful": 0}}


@pytest.mark.parametrize(
    ("offer", "reason"),
    [
        (b"", "ends 1 bytes too early"),
        (b"\x30\x01\x01", "ends"),
        (Terms((RateName(b"zz"),)).offer(), "the unit 7a7a is not served here"),
    ],
)
def test_offers_that_are_not_taken(server: str, offer: bytes, reason: str) -> None:
    with connect(socket_of(server)) as socket:
        socket.send(offer)
        with pytest.raises(ConnectionClosed, match=reason):
            socket.recv()


def test_other_units_are_refused_by_name(server: str) -> None:
    with pytest.raises(UsageError, match=r"no session .*the unit 7a7a is not served here"):
        SessionServer(server, Terms((RateName(b"zz"),)))


def test_a_late_answer_is_never_taken_for_the_next_images(
    terms: Terms, streams: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_connection, "TIMEOUT_SECONDS", 0.5)
    sessions: list[str] = []

    def answer(socket: ServerConnection) -> None:
        sessions.append(socket.request.path)  # type: ignore[union-attr]
        socket.send(accept(socket.recv()))  # type: ignore[arg-type]
        for number, _ in enumerate(socket):
            if len(sessions) == 1 and number == 1:
                time.sleep(1)
            label = f"{len(sessions)}.{number}"
            socket.send(json.dumps({"classes": [{"class": 0, "label": label, "probability": 1.0}]}))

    with serve(answer, "127.0.0.1", 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        session = SessionServer(f"http://127.0.0.1:{server.socket.getsockname()[1]}/base/", terms)
        assert "1.0" in session.predict(streams[0]).text
        with pytest.raises(UsageError, match="no session"):
            session.predict(streams[1])
        assert "2.0" in session.predict(streams[0]).text
        assert "2.1" in session.predict(streams[1]).text
        session.close()
        server.shutdown()
    assert sessions == ["/base/session"] * 2


def test_more_rates_than_a_header_names_are_refused(monkeypatch: pytest.MonkeyPatch, device: Device) -> None:
    names = tuple(RateName(bytes([65 + index // 26, 65 + index % 26])) for index in range(255))
    monkeypatch.setattr(Bundle, "rate_names", lambda *_: names)
    options = argparse.Namespace(token_file=None, server="http://127.0.0.1:9", session=True, lmbda=None)
    for options.header_bytes, message in (
        (1, "255 rates, of which a header of 1 bytes names 14 at the most; give --header-bytes 2"),
        (None, "255 rates, of which a header of 2 bytes names 254 at the most; name one with --lambda"),
    ):
        with pytest.raises(UsageError, match=message):
            open_server(options, device.bundle)


def test_a_session_goes_by_the_proxy_that_the_environment_names(terms: Terms, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bytes] = []

    class Proxy(BaseRequestHandler):
        """Notes what it is asked, and hangs up."""

        def handle(self) -> None:
            """Answer nothing."""
            asked.append(self.request.recv(4096))

    with ThreadingTCPServer(("127.0.0.1", 0), Proxy) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        monkeypatch.setenv("HTTP_PROXY", f"http://user:word@127.0.0.1:{proxy.server_address[1]}")
        with pytest.raises(UsageError, match=r"no session \(.*the environment sets HTTP_PROXY="):
            SessionServer("http://server.example:8080", terms)
        proxy.shutdown()
    assert asked[0].startswith(b"CONNECT server.example:8080") and b"Proxy-Authorization: Basic" in asked[0]


def test_noise_is_refused_and_the_server_lives(server: str, terms: Terms, streams: list[bytes]) -> None:
    draw = random.Random(0)
    for _ in range(30):
        with connect(socket_of(server)) as socket:
            socket.send(terms.offer())
            socket.recv()
            try:
                for _ in range(5):
                    socket.send(draw.choice([draw.randbytes(draw.randint(0, 300)), "text", pack(b"x", b"zz")]))
                    assert json.loads(socket.recv())
            except ConnectionClosed:  # text is no message
                pass
    session = SessionServer(server, terms)
    assert session.predict(streams[0]).text
    session.close()
