"""A real server and real clients, in processes without torch, on the loopback."""

from __future__ import annotations

import contextlib
import json
import random
import signal
import socket
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import httpx
import pytest
import torch
from PIL import Image

from bottlenecks.coding.bitstream import pack
from bottlenecks.deploy.bundle import Bundle
from bottlenecks.deploy.client import parse
from bottlenecks.deploy.connection import Server
from bottlenecks.deploy.device import Device
from bottlenecks.deploy.replies import Answer
from bottlenecks.deploy.server import main as serve
from bottlenecks.errors import UsageError
from bottlenecks.network import BottleneckNetwork
from tests.deploy.conftest import serving
from tests.fuzzing import mutate

Client = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def device(bundle_folder: Path) -> Device:
    return Device(Bundle(bundle_folder))


@pytest.fixture(scope="module")
def streams(device: Device, image_paths: list[Path]) -> list[bytes]:
    """Frames of both rates in turns."""
    features = [device.features(Image.open(path)) for path in image_paths[:8]]
    return [device.encode(one, lmbda) for one in features for lmbda in device.bundle.mean_bytes()]


def test_every_image_at_every_rate_is_what_the_network_in_process_says(
    client: Client, trained: Path, image_paths: list[Path]
) -> None:
    network = BottleneckNetwork.load(trained / "checkpoints/tiny/body/digits")
    transform = network.preprocessing.transform()
    images = torch.stack([transform(Image.open(path)) for path in image_paths])
    for lmbda in network.ladder:
        network.lmbda = lmbda
        expected = network.decode(network.encode(images)).softmax(1)
        done = client(*image_paths, "--lambda", str(lmbda), "--json")
        assert done.returncode == 0, done.stderr
        answers = [json.loads(line) for line in done.stdout.splitlines()]
        assert [answer["class"] for answer in answers] == expected.argmax(1).tolist()
        assert [answer["image"] for answer in answers] == list(map(str, image_paths))
        assert {answer["lambda"] for answer in answers} == {lmbda}
        probabilities = torch.tensor([answer["probability"] for answer in answers])
        assert torch.allclose(probabilities, expected.max(1).values, atol=1e-4)


def test_a_budget_is_kept_image_by_image(client: Client, device: Device, image_paths: list[Path]) -> None:
    coarsest, finest = device.bundle.mean_bytes()
    sizes = [
        [len(device.encode(device.features(Image.open(path)), lmbda)) for lmbda in (coarsest, finest)]
        for path in image_paths[:60]
    ]
    budget = sorted(fine for _, fine in sizes)[len(sizes) // 2]
    done = client(*image_paths[:60], "--budget-bytes", str(budget), "--json")
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    expected = [finest if fine <= budget else coarsest for coarse, fine in sizes if min(coarse, fine) <= budget]
    assert [answer["lambda"] for answer in answers] == expected
    assert set(expected) == {finest, coarsest}  # mixed rates in one connection
    assert done.stderr.count("no rate fits") == len(sizes) - len(expected)
    done = client(image_paths[0], "--budget-bytes", "3")
    assert done.returncode == 2
    assert "budget of 3 bytes: no rate fits; lambda=" in done.stderr


def test_where_no_rate_fits_the_beginning_of_the_coarsest_may_be_sent(
    client: Client, device: Device, server: str, image_paths: list[Path]
) -> None:
    features, coarsest = device.features(Image.open(image_paths[0])), min(device.bundle.mean_bytes())
    whole = device.encode(features, coarsest)
    for most in range(7, len(whole)):
        cut = device.encode_within(features, coarsest, most)
        answer = httpx.post(f"{server}/predict", content=cut).json()
        assert answer["bytes"] == len(cut) == most and answer["lambda"] == coarsest
    done = client(image_paths[0], "--budget-bytes", "7", "--cut", "--json")
    answer = json.loads(done.stdout)
    assert answer["cut"] and answer["bytes"] == 7 and answer["lambda"] == coarsest
    done = client(image_paths[0], "--budget-bytes", "5", "--cut")
    assert done.returncode == 2 and "budget of 5 bytes: shorter than a frame's header" in done.stderr


@pytest.mark.slow
def test_a_deadline_is_a_budget_over_the_uplink(client: Client, image_paths: list[Path]) -> None:
    done = client(*image_paths[:5], "--deadline-ms", "20000", "--uplink-kbps", "250", "--json")
    assert {json.loads(line)["lambda"] for line in done.stdout.splitlines()} == {0.03}
    done = client(image_paths[0], "--deadline-ms", "20000", "--json")
    assert json.loads(done.stdout)["lambda"] == 0.03, done.stderr
    done = client(image_paths[0], "--deadline-ms", "0.001", "--uplink-kbps", "250")
    assert done.returncode == 2 and "deadline of 0.001 ms: the device took" in done.stderr


def test_people_get_a_line_an_image_and_one_bad_file_does_not_stop_the_rest(
    client: Client, image_paths: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "broken.png").write_bytes(b"P6\n")
    done = client(tmp_path / "broken.png", image_paths[0], tmp_path / "missing.png")
    assert done.returncode == 2
    assert done.stdout.startswith(f"{image_paths[0]}  ") and "lambda=0.03" in done.stdout
    errors = done.stderr.splitlines()
    assert "broken.png: not a readable image" in errors[0] and "missing.png" in errors[1]
    assert errors[2] == "error: 2 of 3 images were not sent"


def test_a_server_that_is_not_there_is_named(
    bundle_folder: Path, client: Client, image_paths: list[Path], server: str
) -> None:
    done = client(image_paths[0], "--server", "http://127.0.0.1:9", "--lambda", "0.5")
    assert "lambda=0.5: no such rate in" in done.stderr  # told before anything is sent
    command = [*done.args[:-1], "http://127.0.0.1:9"]
    command.remove("0.5"), command.remove("--lambda")
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert done.returncode == 2
    assert "error: --server=http://127.0.0.1:9: no answer (" in done.stderr and "Traceback" not in done.stderr


def test_health_says_what_is_served(server: str, device: Device) -> None:
    health = httpx.get(f"{server}/health").json()
    assert health["status"] == "ok" and (health["model"], health["split"]) == ("tiny", "body")
    assert health["rates"] == {rate.fingerprint: rate.lmbda for rate in device.bundle.rates}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda stream: b"", "the frame is empty"),
        (lambda stream: stream[:-1], "too early"),
        (lambda stream: b"\x20" + stream[1:], "version 2"),
        (lambda stream: stream[:-1] + bytes([stream[-1] ^ 1]), "the checksum does not match"),
        (lambda stream: stream[:1] + b"\0\0" + stream[3:], "none of this bundle's"),
        (lambda stream: pack(b"", stream[1:3], (4, 4)), "not one this unit's encoder writes"),
        (lambda stream: pack(b"", stream[1:3], (4000, 4000)), "positions are allowed"),
    ],
)
def test_bad_streams_are_refused_with_the_reason(
    server: str, streams: list[bytes], damage: Callable[[bytes], bytes], message: str
) -> None:
    answer = httpx.post(f"{server}/predict", content=damage(streams[0]))
    assert answer.status_code == 400
    assert message in answer.json()["error"]


def test_what_is_too_large_is_not_read(server: str) -> None:
    answer = httpx.post(f"{server}/predict", content=bytes(2**20))
    assert answer.status_code == 413
    answer = httpx.post(f"{server}/predict", content=(bytes(1000) for _ in range(1000)))  # chunked, no length
    assert answer.status_code == 413
    assert httpx.post(f"{server}/probe", content=bytes(1000)).json() == {"bytes": 1000}


def test_mutated_streams_do_not_shake_the_server(server: str, streams: list[bytes]) -> None:
    random_ = random.Random(0)
    with httpx.Client(base_url=server) as connection:
        expected = [connection.post("/predict", content=stream).json()["classes"] for stream in streams]
        statuses = {connection.post("/predict", content=mutate(streams, random_)).status_code for _ in range(300)}
        assert statuses <= {200, 400, 413} and 400 in statuses and 200 in statuses  # forged ones decode
        assert [connection.post("/predict", content=stream).json()["classes"] for stream in streams] == expected


@pytest.mark.slow
def test_a_flood_of_mutated_streams_does_not_shake_the_server(server: str, streams: list[bytes]) -> None:
    random_ = random.Random(1)
    with httpx.Client(base_url=server) as connection:
        expected = [connection.post("/predict", content=stream).json()["classes"] for stream in streams]
        for _ in range(20_000):
            assert connection.post("/predict", content=mutate(streams, random_)).status_code in (200, 400, 413)
        assert [connection.post("/predict", content=stream).json()["classes"] for stream in streams] == expected


def test_many_at_once_get_their_own_answers(server: str, streams: list[bytes]) -> None:
    expected = [httpx.post(f"{server}/predict", content=stream).json() for stream in streams]
    with httpx.Client(base_url=server) as connection, ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda stream: connection.post("/predict", content=stream).json(), streams * 8))
    for answer, alone in zip(answers, expected * 8, strict=True):
        assert answer["lambda"] == alone["lambda"]
        assert answer["classes"][0]["label"] == alone["classes"][0]["label"]


def test_a_full_server_says_so_and_a_told_one_finishes(bundle_folder: Path, streams: list[bytes]) -> None:
    with serving(bundle_folder, "--max-waiting", "1") as (url, process):
        address = ("127.0.0.1", int(url.rpartition(":")[2]))
        with socket.create_connection(address) as slow:
            slow.sendall(f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(streams[0])}\r\n\r\n".encode())
            while not (health := httpx.get(f"{url}/health").json())["under_way"]:
                pass
            assert health["under_way"] == 1
            busy = httpx.post(f"{url}/predict", content=streams[0])
            assert busy.status_code == 503 and busy.headers["Retry-After"] == "1"
            process.send_signal(signal.SIGTERM)
            slow.sendall(streams[0])  # what is under way is still answered
            assert b"200 OK" in slow.recv(4096)
        assert process.wait(timeout=30) in (0, -signal.SIGTERM)


class Foreign(BaseHTTPRequestHandler):
    """A server that knows the rates and answers as it likes."""

    answer: ClassVar[bytes] = b""
    health: ClassVar[bytes] = b""

    def do_GET(self) -> None:
        self.reply(self.health)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.reply(self.answer)

    def reply(self, body: bytes) -> None:
        self.send_response(200)
        self.end_headers()
        with contextlib.suppress(OSError):  # the client has had enough
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize(
    "answer",
    [
        b"{}",
        b'{"classes": []}',
        b'{"classes": [[1]]}',
        b'{"classes": [{"class": 1, "label": "x", "probability": "high"}]}',
        b"[" * 100_000,
        b"not JSON",
        b" " * 2**21,
    ],
)
def test_foreign_answers_are_an_error(bundle_folder: Path, server: str, streams: list[bytes], answer: bytes) -> None:
    Foreign.answer, Foreign.health = answer, httpx.get(f"{server}/health").content
    with ThreadingHTTPServer(("127.0.0.1", 0), Foreign) as foreign:
        threading.Thread(target=foreign.serve_forever, daemon=True).start()
        client = Server(f"http://127.0.0.1:{foreign.server_address[1]}")
        client.check(Bundle(bundle_folder))
        with pytest.raises(UsageError, match="no answer"):
            client.predict(streams[0])
        served = json.loads(Foreign.health)
        served["bundles"][0]["backbone_fingerprint"] = "0"
        Foreign.health = json.dumps(served).encode()
        with pytest.raises(UsageError, match="serves another bundle: backbone_fingerprint 0"):
            client.check(Bundle(bundle_folder))
        foreign.shutdown()


def test_labels_cannot_steer_a_terminal() -> None:
    answer = Answer.of({"classes": [{"class": 1, "label": "\x1b[2J", "probability": 0.5}]})
    assert answer.fields["label"] == repr("\x1b[2J")


@pytest.mark.parametrize("url", ["http://[::1", "localhost:1"])
def test_addresses_that_are_none_are_named(url: str) -> None:
    with pytest.raises(UsageError, match="--server="):
        Server(url).predict(b"x")


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--port", "99999", "--port=99999: expected a whole number from 0 to 65535"),
        ("--threads", "0", "--threads=0: expected a whole number from 1 to 1024"),
        ("--max-batch", "0", "--max-batch=0: expected a whole number of at least 1"),
    ],
)
def test_options_out_of_bounds_are_refused(bundle_folder: Path, option: str, value: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        serve([str(bundle_folder), option, value])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--lambda", "nan"], r"--lambda=nan: expected a number above 0"),
        (["--budget-bytes", "-3"], r"--budget-bytes=-3.0: expected a number above 0"),
        (["--lambda", "0.01", "--budget-bytes", "9"], r"--lambda=0.01: a fixed rate; give it, or a budget"),
        (["--cut"], r"--cut: only means something with --budget-bytes or --deadline-ms"),
        (["--cut", "--session", "--budget-bytes", "9"], r"--cut: frames of a session are whole"),
        (["--header-bytes", "2"], r"--header-bytes=2: only means something with --session"),
        (["--uplink-kbps", "9"], r"--uplink-kbps=9.0: only means something with --deadline-ms"),
    ],
)
def test_options_that_make_no_sense_are_refused(arguments: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse(["bundle", "image.png", *arguments])
