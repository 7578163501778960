"""The client's way to a server, whatever the environment prescribes."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import httpx
import pytest

from bottlenecks.deploy.connection import Server
from bottlenecks.deploy.route import is_excepted
from bottlenecks.errors import UsageError

NAMES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")


class Counting(BaseHTTPRequestHandler):
    """Answers what a server's `/probe` does, for itself or as a proxy."""

    asked: ClassVar[list[str]] = []

    def do_POST(self) -> None:
        """Answer."""
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.asked.append(self.path)
        content = json.dumps({"bytes": 0}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment that prescribes nothing."""
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    Counting.asked.clear()


@pytest.fixture
def port() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Counting) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HTTP_PROXY", "http://127.0.0.1:9"),
        ("http_proxy", "127.0.0.1:9"),
        ("ALL_PROXY", "socks5://127.0.0.1:9"),
        ("all_proxy", "ftp://x"),
        ("HTTP_PROXY", "http://[::1"),
        ("NO_PROXY", "[::1]"),
        ("NO_PROXY", "http://a b,;*?"),
        ("SSL_CERT_FILE", "/nowhere.pem"),
        ("SSL_CERT_DIR", "/nowhere"),
    ],
)
def test_this_machine_is_reached_directly(
    host: str, name: str, value: str, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    assert Server(f"http://{host}:{port}").round_trip_ms() > 0
    assert set(Counting.asked) == {"/probe"}


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
@pytest.mark.parametrize("scheme", ["http://", ""])
def test_another_machine_is_reached_through_the_proxy(
    name: str, scheme: str, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, f"{scheme}127.0.0.1:{port}")
    assert Server("http://far.invalid:8080").round_trip_ms() > 0
    assert set(Counting.asked) == {"http://far.invalid:8080/probe"}


def test_networks_can_be_excepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "10.0.0.0/8,[fd00::]/8,192.0.2.7")
    excepted = ("http://10.1.2.3", "http://192.0.2.7:81")
    assert all(is_excepted(httpx.URL(url)) for url in excepted)
    monkeypatch.setenv("NO_PROXY", "far.invalid:80,near.invalid:443")
    assert all(is_excepted(httpx.URL(url)) for url in ("http://far.invalid", "https://near.invalid"))
    monkeypatch.setenv("NO_PROXY", "10.0.0.0/8,[fd00::]/8,192.0.2.7")
    assert not any(is_excepted(httpx.URL(url)) for url in ("http://11.1.2.3", "http://192.0.2.8", "http://far.invalid"))


@pytest.mark.parametrize(
    "value",
    ["far.invalid", ".invalid", "*.invalid", "*", "near.invalid, far.invalid", "near far.invalid", "far.invalid:8080"],
)
def test_what_the_environment_excepts_is_not_asked_of_the_proxy(
    value: str, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("NO_PROXY", value)
    with pytest.raises(UsageError, match=r"no answer .*the environment sets HTTP_PROXY=.*, NO_PROXY="):
        Server("http://far.invalid:8080").round_trip_ms()
    assert not Counting.asked


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("HTTPS_PROXY", "ftp://x:1", "HTTPS_PROXY=ftp://x:1: cannot be used as a proxy"),
        ("https_proxy", "http://[::1", "https_proxy=http://.*: cannot be used as a proxy"),
        ("ALL_PROXY", "http://x:port", "ALL_PROXY=http://x:port: cannot be used as a proxy"),
        ("ALL_PROXY", "http://", "ALL_PROXY=http://: cannot be used as a proxy"),
        ("SSL_CERT_FILE", "/nowhere.pem", "SSL_CERT_FILE=/nowhere.pem: no readable certificates"),
        ("SSL_CERT_FILE", __file__, "SSL_CERT_FILE=.*: no readable certificates"),
        ("SSL_CERT_DIR", "/nowhere", "SSL_CERT_DIR=/nowhere: no readable certificates"),
    ],
)
def test_a_variable_that_cannot_be_used_is_named(
    name: str, value: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=message) as error:
        Server("https://far.invalid:8080")
    assert "\n" not in str(error.value) and "unset it" in str(error.value)


def test_certificates_are_not_waited_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    with pytest.raises(UsageError, match=r"SSL_CERT_FILE=.*: no readable certificates \(a pipe or device, no file\)"):
        Server("https://far.invalid")


def test_a_socks_proxy_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    monkeypatch.setattr("bottlenecks.deploy.route.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"ALL_PROXY=socks5://127.0.0.1:9: .*pip install 'httpx\[socks\]'"):
        Server("http://far.invalid")


def test_certificates_that_the_environment_names_are_trusted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    certifi = pytest.importorskip("certifi")
    monkeypatch.setenv("SSL_CERT_FILE", certifi.where())
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    Server("https://far.invalid")
