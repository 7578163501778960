"""Two hundred clients at once, a quarter of them hostile, for a minute: no wrong answer, and every refusal counted."""

from __future__ import annotations

import http.client
import json
import random
import re
import socket
import threading
import time
from collections import Counter
from pathlib import Path

import httpx
import pytest
from PIL import Image

from bottlenecks.deploy.bundle import Bundle
from bottlenecks.deploy.device import Device
from bottlenecks.deploy.receiver import Receiver
from tests.deploy.conftest import serving

pytestmark = pytest.mark.slow
CLIENTS, SECONDS = 200, 60.0
TOKEN = "0123456789abcdef"
HOSTILE = ("noise", "cut", "flipped", "huge", "slow", "stranger", "hangs up")
REASONS = {400: "damaged", 401: "token", 413: "large", 503: "busy"}


class Crowd:
    """The clients, and what they saw.

    Args:
        port: of the server.
        streams: frames, and the class that each is answered with.
    """

    def __init__(self, port: int, streams: list[tuple[bytes, int]]) -> None:
        self.port, self.streams, self.end = port, streams, time.monotonic() + SECONDS
        self.statuses: Counter[int] = Counter()
        self.wrong: list[str] = []
        self.lock = threading.Lock()

    def run(self) -> None:
        """Let all ask until the time is over."""
        threads = [threading.Thread(target=self.ask, args=[number]) for number in range(CLIENTS)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()

    def ask(self, number: int) -> None:
        """Ask as one client: every fourth is hostile."""
        draw = random.Random(number)
        while time.monotonic() < self.end:
            stream, expected = draw.choice(self.streams)
            kind = HOSTILE[number // 4 % len(HOSTILE)] if number % 4 == 0 else ""
            try:
                if kind in ("slow", "hangs up"):
                    self.tease(stream, draw, kind)
                    continue
                status, content = self.post(spoilt(stream, kind, draw), "" if kind == "stranger" else TOKEN)
            except OSError:  # a connection that was not taken: ask again
                continue
            with self.lock:
                self.statuses[status] += 1
                if status == 200 and json.loads(content)["classes"][0]["class"] != expected:
                    self.wrong.append(f"{kind or 'honest'} {expected}: {content!r}")
                if kind == "" and status not in (200, 503):
                    self.wrong.append(f"honest: {status} {content!r}")

    def post(self, content: bytes, token: str) -> tuple[int, bytes]:
        """Send a frame."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("POST", "/predict", content, {"Authorization": f"Bearer {token}"})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def tease(self, stream: bytes, draw: random.Random, kind: str) -> None:
        """Send half of a request and wait, or hang up."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as connection:
            head = (
                f"POST /predict HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: {len(stream)}"
            )
            content = f"{head}\r\nContent-Length: {len(stream)}\r\n\r\n".encode() + stream[:-1]
            connection.sendall(content[: draw.randrange(len(content))])
            time.sleep(draw.random() * (3 if kind == "slow" else 0.1))


def spoilt(stream: bytes, kind: str, draw: random.Random) -> bytes:
    """Do to a frame what a hostile client does."""
    if kind == "noise":
        return draw.randbytes(draw.randrange(1, 300))
    if kind == "cut":
        return stream[: draw.randrange(len(stream))]
    if kind == "flipped":
        at = draw.randrange(len(stream))
        return stream[:at] + bytes([stream[at] ^ 1 << draw.randrange(8)]) + stream[at + 1 :]
    return bytes(2**20) if kind == "huge" else stream


def resident_kib(process: int) -> int:
    """Return the memory that a process holds."""
    return int(re.findall(r"VmRSS:\s+(\d+)", Path(f"/proc/{process}/status").read_text())[0])


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_a_crowd_gets_no_wrong_answer_and_every_refusal_is_counted(
    bundle_folder: Path, image_paths: list[Path], tmp_path: Path
) -> None:
    device, receiver = Device(Bundle(bundle_folder)), Receiver(Bundle(bundle_folder))
    frames = [device.encode(device.features(Image.open(path)), 0.03) for path in image_paths[:20]]
    (logits,) = receiver.infer([receiver.read(one) for one in frames])
    streams = [*zip(frames, logits.argmax(1).tolist(), strict=True)]
    (tmp_path / "token").write_text(TOKEN)
    with serving(bundle_folder, "--token-file", tmp_path / "token") as (url, process):
        crowd, memory = Crowd(int(url.rpartition(":")[2]), streams), list[int]()

        def watch() -> None:
            while time.monotonic() < crowd.end:
                memory.append(resident_kib(process.pid))
                time.sleep(1)

        watcher = threading.Thread(target=watch)
        watcher.start()
        crowd.run()
        watcher.join()
        text = httpx.get(f"{url}/metrics", headers={"Authorization": f"Bearer {TOKEN}"}).text
    counted = {
        reason: int(float(count)) for reason, count in re.findall(r'refusals_total\{reason="(\w+)"\} ([\d.]+)', text)
    }
    assert not crowd.wrong, crowd.wrong[:5]
    assert crowd.statuses[200] > 100 and set(crowd.statuses) <= {200, *REASONS}
    for status, reason in REASONS.items():
        assert counted.get(reason, 0) >= crowd.statuses[status], reason  # some hung up before they read it
    assert counted["gone"] > 0
    third = len(memory) // 3
    assert max(memory[-third:]) < 1.1 * max(memory[:third])
