"""A door with a lock: tokens, TLS, limits of a client, workers, counts and logs."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from PIL import Image
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from bottlenecks.coding.session import SessionWriter, Terms
from bottlenecks.deploy import metrics
from bottlenecks.deploy.bundle import Bundle, BundleError
from bottlenecks.deploy.connection import Server
from bottlenecks.deploy.device import Device
from bottlenecks.deploy.logs import ACCESS, log_request
from bottlenecks.deploy.route import is_private
from bottlenecks.deploy.server import main as serve
from bottlenecks.deploy.server import parse
from bottlenecks.deploy.session_connection import SessionServer
from bottlenecks.errors import UsageError
from tests.conftest import REPOSITORY
from tests.deploy.conftest import serving, without_torch

TOKENS = ("0123456789abcdef", "fedcba9876543210")
BEARER = {"Authorization": f"Bearer {TOKENS[1]}"}


@pytest.fixture(scope="module")
def device(bundle_folder: Path) -> Device:
    return Device(Bundle(bundle_folder))


@pytest.fixture(scope="module")
def stream(device: Device, image_paths: list[Path]) -> bytes:
    return device.encode(device.features(Image.open(image_paths[0])), 0.03)


@pytest.fixture(scope="module")
def token_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokens") / "tokens"
    path.write_text("# who may ask\n" + "\n".join(TOKENS) + "\n")
    return path


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a certificate, its key, and whom it is known by."""
    folder, own = tmp_path_factory.mktemp("tls"), trustme.CA()
    issued = own.issue_cert("127.0.0.1")
    own.cert_pem.write_to_path(str(folder / "ca.pem"))
    issued.private_key_pem.write_to_path(str(folder / "key.pem"))
    for blob in issued.cert_chain_pems:
        blob.write_to_path(str(folder / "cert.pem"), append=True)
    return folder


@pytest.fixture(scope="module")
def locked(bundle_folder: Path, token_file: Path, authority: Path) -> Iterator[str]:
    """A server that asks for a token, over TLS."""
    tls = ("--tls-cert", authority / "cert.pem", "--tls-key", authority / "key.pem")
    with serving(bundle_folder, "--token-file", token_file, *tls, authority=authority / "ca.pem") as (url, _):
        yield url


@pytest.fixture
def trusted(authority: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority / "ca.pem"))
    return ssl.create_default_context(cafile=str(authority / "ca.pem"))


def refusals(url: str, **options: object) -> dict[str, int]:
    """Read what a server has refused, by reason."""
    text = httpx.get(f"{url}/metrics", **options).text  # type: ignore[arg-type]
    found = re.findall(r'^bottlenecks_refusals_total\{reason="(\w+)"\} ([\d.]+)$', text, re.MULTILINE)
    return {reason: int(float(count)) for reason, count in found}


def test_who_has_no_token_learns_nothing(locked: str, trusted: ssl.SSLContext, stream: bytes) -> None:
    with httpx.Client(base_url=locked, verify=trusted) as client:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKENS[0]}"}):
            for method, path in (("POST", "/predict"), ("GET", "/health"), ("GET", "/metrics"), ("GET", "/none")):
                answer = client.request(method, path, headers=headers)
                assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer"), path
        assert client.get("/live").json() == {"status": "live"}
        assert client.get("/ready").json() == {"status": "ready"}
        assert client.post("/predict", headers=BEARER, content=stream).json()["classes"]
    with pytest.raises(InvalidStatus, match="401"):
        connect(locked.replace("http", "ws", 1) + "/session", ssl=trusted)
    assert refusals(locked, verify=trusted, headers=BEARER)["token"] >= 13


@pytest.mark.parametrize("session", [(), ("--session",)])
def test_a_client_with_the_token_is_answered(
    locked: str,
    trusted: ssl.SSLContext,
    token_file: Path,
    bundle_folder: Path,
    image_paths: list[Path],
    session: tuple[str, ...],
) -> None:
    address = locked.replace("http", "ws", 1) if session else locked
    arguments = (bundle_folder, *image_paths[:2], "--server", address, *session, "--json")
    for given, status in (((), 2), (("--token-file", token_file), 0)):
        command = without_torch("bottlenecks.deploy.client", *arguments, *given)
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == status, done.stderr
        assert "Traceback" not in done.stderr and (status == 0 or "401" in done.stderr)
    assert len(done.stdout.splitlines()) == 2 and not done.stderr


def test_a_token_that_travels_in_the_open_is_told() -> None:
    assert is_private("https://server") and is_private("wss://server:1") and is_private("http://[::1]:8080/x")
    assert is_private("ws://localhost:8080") and not is_private("http://10.0.0.1:8080")
    assert not is_private("http://localhost.example.org") and not is_private("ws://server")


def _send(url: str, content: bytes) -> None:
    """Send bytes that need not be HTTP, and hang up once something is answered."""
    host, port = url.rpartition("/")[2].split(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(content)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(4096):
            pass


def test_every_refusal_is_counted_by_its_reason(bundle_folder: Path, device: Device, stream: bytes) -> None:
    arguments = ("--log-format", "json", "--access-log", "--max-waiting", "1")
    with serving(bundle_folder, *arguments) as (url, process):
        terms = Terms(device.bundle.rate_names(device.bundle.mean_bytes()), window=3)
        httpx.post(f"{url}/predict", content=stream[:-1])
        httpx.post(f"{url}/predict", content=bytes(2**20))
        httpx.get(f"{url}/nothing")
        httpx.get(f"{url}/predict")
        for slashes in ("//", "///"):  # which are answered, by a redirection
            httpx.get(f"{url}/live{slashes}")
        for path in ("/nothing", "/predict"):
            with pytest.raises(InvalidStatus, match="403"):
                connect(url.replace("http", "ws", 1) + path)
        _send(url, b"\x00\x01 nonsense\r\n\r\n")
        _send(url, b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nab")
        with connect(url.replace("http", "ws", 1) + "/session") as session:
            session.send(terms.offer())
            session.recv()
            (message,) = SessionWriter(terms).write(stream)
            session.send(bytes([message[0] ^ 1]) + message[1:])
            assert "error" in json.loads(session.recv())
        with connect(url.replace("http", "ws", 1) + "/session") as session:
            session.send(b"nonsense")
            with pytest.raises(Exception, match="1008"):
                session.recv()
        with connect(url.replace("http", "ws", 1) + "/session") as session:
            session.send(terms.offer())
            session.recv()
            session.send(bytes(2**20))
            with pytest.raises(Exception, match="1009"):
                session.recv()
        host, port = url.rpartition("/")[2].split(":")
        with socket.create_connection((host, int(port)), timeout=60) as slow:
            slow.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")
            while not httpx.get(f"{url}/health").json()["under_way"]:
                time.sleep(0.02)
            assert httpx.get(f"{url}/ready").json() == {"status": "busy"}
            assert httpx.post(f"{url}/predict", content=stream).status_code == 503
        expected = {"damaged": 3, "large": 2, "path": 3, "method": 1, "malformed": 1, "gone": 2, "busy": 1}
        for _ in range(100):  # who hangs up is noticed a little later
            if (found := refusals(url)) == expected:
                break
            time.sleep(0.05)
        assert found == expected
        assert httpx.post(f"{url}/predict", content=stream).status_code == 200
        text = httpx.get(f"{url}/metrics").text
        assert 'bottlenecks_requests_total{endpoint="/predict"} 1.0' in text
        assert 'endpoint="other"} 2.0' in text and "live/" not in text
        assert "bottlenecks_batch_frames_bucket" in text and "bottlenecks_answer_seconds_count 1.0" in text
        process.terminate()
        lines = [json.loads(line) for line in process.communicate(timeout=30)[1].splitlines()]
    requests = [line for line in lines if line["logger"] == "bottlenecks.access"]
    assert {line["status"] for line in requests} == {200, 307, 400, 403, 404, 405, 413, 499, 503}
    (nothing, _) = (line for line in requests if line["path"] == "/nothing")
    assert (nothing["status"], nothing["client"], nothing["level"]) == (404, "127.0.0.1", "info")


def test_a_line_on_a_request_is_one_line_whatever_was_asked_for() -> None:
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    ACCESS.addHandler(handler)
    ACCESS.setLevel("INFO")
    try:
        log_request(path="/x\nINFO: path=/predict status=200\x1b[31m", status=404, client="127.0.0.1")
    finally:
        ACCESS.removeHandler(handler)
    assert lines == ["path=/x%0AINFO:%20path%3D/predict%20status%3D200%1B[31m status=404 client=127.0.0.1"]


def test_what_a_killed_worker_had_under_way_is_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(metrics.SHARED, str(tmp_path))
    with subprocess.Popen(["true"]) as dead:
        pass
    for process in (dead.pid, os.getpid()):
        (tmp_path / f"gauge_livesum_{process}.db").touch()
    metrics._forget_the_killed(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [f"gauge_livesum_{os.getpid()}.db"]


def test_only_a_proxy_that_is_named_is_believed(bundle_folder: Path, stream: bytes) -> None:
    forwarded = [{"X-Forwarded-For": f"10.0.0.{index}"} for index in range(3)]
    for options, expected in (((), [200, 429, 429]), (("--proxy", "127.0.0.1"), [200, 200, 200])):
        with serving(bundle_folder, "--client-requests", "0.01", *options) as (url, _):
            answers = [httpx.post(f"{url}/predict", content=stream, headers=one) for one in forwarded]
            assert [answer.status_code for answer in answers] == expected


def test_a_client_is_kept_within_its_allowance_by_all_workers(
    bundle_folder: Path, stream: bytes, token_file: Path
) -> None:
    arguments = ("--client-requests", "0.01", "--token-file", token_file, "--workers", "2")
    with serving(bundle_folder, *arguments) as (url, _):
        first, second = ({"Authorization": f"Bearer {token}"} for token in TOKENS)
        assert httpx.post(f"{url}/predict", content=stream, headers=first).status_code == 200
        for _ in range(10):  # each a connection of its own, which either may take
            refused = httpx.post(f"{url}/predict", content=stream, headers=first)
            assert refused.status_code == 429 and 1 <= int(refused.headers["Retry-After"]) <= 101
        assert httpx.post(f"{url}/predict", content=stream, headers=second).status_code == 200
        assert refusals(url, headers=first) == {"rate": 10}


def test_what_a_session_sends_counts_whether_it_is_a_frame_or_not(bundle_folder: Path, device: Device) -> None:
    terms = Terms(device.bundle.rate_names(device.bundle.mean_bytes()), window=3)
    with serving(bundle_folder, "--client-requests", "2") as (url, _):
        with connect(url.replace("http", "ws", 1) + "/session") as session:
            session.send(terms.offer())
            session.recv()
            answers = []
            for _ in range(10):
                session.send(bytes(20))
                answers.append(json.loads(session.recv())["error"])
            assert sum("slow down" in answer for answer in answers) >= 8
            session.send("text")
            with pytest.raises(ConnectionClosed, match="1003"):
                session.recv()
        with pytest.raises(UsageError, match=r"refused with 429 \(.*slow down"):
            SessionServer(url, terms)


def test_an_address_that_is_taken_is_refused_before_anything_is_loaded(server: str) -> None:
    port = server.rpartition(":")[2]
    with pytest.raises(UsageError, match=rf"--port={port}: cannot listen there .*--port 0 for any that is free"):
        serve(["nowhere", "--port", port])
    with pytest.raises(UsageError, match=r"--host=nosuch.invalid --port=8080: cannot listen there"):
        serve(["nowhere", "--host", "nosuch.invalid", "--allow-anyone"])


def test_what_is_asked_of_a_secure_address_is_asked_over_tls_with_its_certificate_checked(locked: str) -> None:
    for scheme in ("wss", "WSS", "https"):
        with pytest.raises(UsageError, match=r"CERTIFICATE_VERIFY_FAILED"):
            Server(locked.replace("https", scheme), TOKENS[0]).round_trip_ms()
    with pytest.raises(UsageError, match=r"--server=ftp://here: no address .*http://HOST:PORT"):
        Server("ftp://here")


def test_workers_share_the_work_and_one_that_dies_is_replaced(bundle_folder: Path, stream: bytes) -> None:
    with serving(bundle_folder, "--workers", "2") as (url, process):
        expected = httpx.post(f"{url}/predict", content=stream).json()["classes"]
        for _ in range(20):  # each a connection of its own, which either may take
            assert httpx.post(f"{url}/predict", content=stream).json()["classes"] == expected
        assert 'bottlenecks_requests_total{endpoint="/predict"} 21.0' in httpx.get(f"{url}/metrics").text
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        if children.exists():
            workers = [int(one) for one in children.read_text().split() if b"spawn_main" in _command(int(one))]
            assert len(workers) == 2
            os.kill(workers[0], signal.SIGKILL)
            for _ in range(20):
                assert _ask(lambda: httpx.post(f"{url}/predict", content=stream)).json()["classes"] == expected
        process.terminate()
        process.communicate(timeout=60)
        assert process.returncode in (0, -signal.SIGTERM)


@pytest.mark.slow
def test_workers_end_with_the_process_that_started_them(bundle_folder: Path) -> None:
    with serving(bundle_folder, "--workers", "2") as (url, process):
        process.kill()
        for _ in range(200):
            try:
                httpx.get(f"{url}/live")
            except httpx.ConnectError:
                return
            except httpx.TransportError:
                pass
            time.sleep(0.1)
    raise AssertionError("workers still answer")


def _command(number: int) -> bytes:
    return Path(f"/proc/{number}/cmdline").read_bytes()


def _ask(ask: Callable[[], httpx.Response]) -> httpx.Response:
    """Ask again where the connection was the dead worker's."""
    for _ in range(100):
        try:
            return ask()
        except httpx.TransportError:
            time.sleep(0.05)
    raise AssertionError("no worker answers")


def test_a_key_with_a_password_is_refused_and_nobody_asked(authority: Path, tmp_path: Path) -> None:
    key = load_pem_private_key((authority / "key.pem").read_bytes(), None)
    secret = BestAvailableEncryption(b"secret")
    (tmp_path / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, secret))
    tls = ("--tls-cert", str(authority / "cert.pem"), "--tls-key", str(tmp_path / "key.pem"))
    with pytest.raises(UsageError, match=r"no usable certificate and key in PEM \(the key asks for a password; give"):
        serve(["bundle", *tls])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--host", "0.0.0.0"], r"--host=0.0.0.0: others than this machine could ask.*--token-file.*--allow-anyone"),
        (["--tls-cert", "c.pem"], r"--tls-cert=c.pem: --tls-key belongs to it; give both"),
        (
            ["--tls-cert", "none", "--tls-key", "none"],
            r"--tls-cert=none, --tls-key=none: no usable certificate and key",
        ),
        (["--workers", "0"], r"--workers=0: expected a whole number from 1 to 256"),
        (["--client-bytes", "-1"], r"--client-bytes=-1.0: expected a number of at least 0.0001"),
        (["--client-requests", "5e-324"], r"--client-requests=5e-324: expected a number of at least 0.0001"),
    ],
)
def test_options_that_would_open_the_door_or_mean_nothing_are_refused(arguments: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        serve(["bundle", *arguments])
    assert parse(["bundle", "--host", "0.0.0.0", "--allow-anyone"]).host == "0.0.0.0"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no token in it"),
        (b"# nothing\n", "no token in it"),
        (b"short\n", "tokens of 16 or more"),
        ("schlüssel-schlüssel\n".encode(), "tokens of 16 or more"),
        (b"two words that are long\n", "tokens of 16 or more"),
        (b"\xff" * 20, "cannot be read"),
        (None, "cannot be read"),
    ],
)
def test_files_without_a_usable_token_are_refused(
    bundle_folder: Path, tmp_path: Path, content: bytes | None, message: str
) -> None:
    path = tmp_path / "tokens"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=rf"--token-file={path}: .*{message}"):
        serve([str(bundle_folder), "--token-file", str(path)])


def test_tokens_are_not_waited_for(bundle_folder: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "tokens")
    with pytest.raises(UsageError, match=r"--token-file=.*: cannot be read \(a pipe or device, no file\)"):
        serve([str(bundle_folder), "--token-file", str(tmp_path / "tokens")])


def test_one_bundle_given_twice_is_refused(bundle_folder: Path) -> None:
    with pytest.raises(BundleError, match=r"its unit .* is in .*, too, .*at another port"):
        serve([str(bundle_folder), str(bundle_folder)])


def test_a_server_of_before_is_known_by_its_one_bundle(
    bundle_folder: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, health = Bundle(bundle_folder), httpx.get(f"{server}/health").json()
    del health["bundles"]
    monkeypatch.setattr(Server, "_ask", lambda *_: health)
    Server("http://127.0.0.1:1").check(own)
    with pytest.raises(UsageError, match=r"serves other bundles: split \['a', 'b'\]"):
        health["bundles"] = [{**health, "split": name} for name in "ab"]
        Server("http://127.0.0.1:1").check(own)
