"""Sessions over a real WebSocket: the same answers as by HTTP for fewer bytes, and nothing hostile ends the server."""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from bottlenecks.coding.bitstream import pack
from bottlenecks.coding.session import RateName, SessionWriter, Terms, accept
from bottlenecks.deploy.bundle import Bundle
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
