"""The device's command: python -m bottlenecks.deploy.client dist/resnet50-layer3-digits IMAGE… --server URL."""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from bottlenecks.coding.bitstream import may_be_cut
from bottlenecks.coding.session import MAX_RATES, Terms
from bottlenecks.deploy.bundle import HEAD_FILES, MAX_THREADS, Bundle
from bottlenecks.deploy.connection import Server
from bottlenecks.deploy.device import Device
from bottlenecks.deploy.rate_control import BudgetError, Coded, Deadline, RateControl
from bottlenecks.deploy.route import is_private
from bottlenecks.deploy.runtimes import ONNX
from bottlenecks.deploy.tokens import read_tokens
from bottlenecks.errors import UsageError, check_number, printable, run
from bottlenecks.images.reading import ImageError, allow_megapixels, load_image


class Sender:
    """Codes one image after the other as the command line asks for.

    Args:
        device: of the bundle.
        options: of the command line.
        server: to measure the uplink with.
    """

    def __init__(self, device: Device, options: argparse.Namespace, server: Server) -> None:
        self.device, self.lmbda, self.budget_bytes = device, options.lmbda, options.budget_bytes
        self.cuts = options.cut
        self.control = RateControl(device.bundle.mean_bytes())
        self.deadline = None
        if options.deadline_ms is not None:
            uplink = options.uplink_kbps or server.uplink_kbps()
            self.deadline = Deadline(options.deadline_ms, uplink, server.round_trip_ms())

    def code(self, image: Image.Image) -> Coded:
        """Turn an image into bytes.

        Raises:
            BudgetError: no rate fits.
        """
        start = time.perf_counter()
        features = self.device.features(image)
        budget = self.budget_bytes
        if self.deadline is not None:
            budget = min(budget, self.deadline.budget_bytes(1e3 * (time.perf_counter() - start)))
        if self.lmbda is not None:
            return Coded(self.lmbda, self.device.encode(features, self.lmbda))
        try:
            return self.control.code(lambda lmbda: self.device.encode(features, lmbda), budget)
        except BudgetError as error:
            if self.cuts:
                coarsest = min(self.device.bundle.mean_bytes())
                return Coded(coarsest, self.device.encode_within(features, coarsest, int(budget)))
            if self.deadline is None or budget == self.budget_bytes:
                raise
            deadline = self.deadline
            raise BudgetError(
                f"deadline of {deadline.deadline_ms:g} ms at {deadline.uplink_kbps:g} kbit/s leaves a {error}"
            ) from None


def open_server(options: argparse.Namespace, bundle: Bundle) -> Server:
    """Return the way to the server that the command line asks for."""
    token = None if options.token_file is None else read_tokens(options.token_file)[0]
    if token is not None and not is_private(options.server):
        print(f"warning: --server={options.server}: the token travels unencrypted; use https://", file=sys.stderr)
    if not options.session:
        return Server(options.server, token)
    from bottlenecks.deploy.session_connection import SessionServer  # needs a package that nothing else does

    rates = bundle.rate_names(bundle.mean_bytes() if options.lmbda is None else [options.lmbda])
    header = options.header_bytes or (1 if len(rates) <= MAX_RATES[0] else 2)
    if len(rates) > MAX_RATES[header - 1]:
        way_out = "give --header-bytes 2, or one of them with --lambda" if header == 1 else "name one with --lambda"
        raise UsageError(
            f"--session: {len(rates)} rates, of which a header of {header} bytes names {MAX_RATES[header - 1]} at the "
            f"most; {way_out}"
        )
    return SessionServer(options.server, Terms(rates, header), token)


def open_image(path: Path) -> Image.Image:
    """Read and decode an image, upright and in RGB.

    Raises:
        UsageError: there is no such file, or it is no image.
    """
    if not path.exists():
        raise UsageError(f"{path}: no such file")
    try:
        return load_image(path)
    except ImageError as error:
        raise UsageError(f"{path}: not a readable image ({error})") from None


def send(sender: Sender, server: Server, path: Path) -> dict[str, Any]:
    """Send an image; give what is to be printed.

    Raises:
        UsageError: it is no image, no rate fits, or the server does not answer.
    """
    image = open_image(path)
    start = time.perf_counter()
    try:
        coded = sender.code(image)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None
    sent = time.perf_counter()
    answer = server.predict(coded.stream)
    end = time.perf_counter()
    if sender.deadline is not None:
        sender.deadline.observe(len(coded.stream), 1e3 * (end - sent))
    return {
        "image": str(path),
        "answer": answer.text,
        **answer.fields,
        "lambda": coded.lmbda,
        "bytes": len(coded.stream),
        "cut": may_be_cut(coded.stream),
        "device_ms": round(1e3 * (sent - start), 2),
        "answer_ms": round(1e3 * (end - sent), 2),
        "in_time": sender.deadline is None or 1e3 * (end - start) <= sender.deadline.deadline_ms,
    }


def line(result: dict[str, Any]) -> str:
    """Write a result for people."""
    cut, late = " (cut)" if result["cut"] else "", "" if result["in_time"] else ", too late"
    return (
        f"{result['image']}  {result['answer']}  lambda={result['lambda']!r}  {result['bytes']} bytes{cut}  "
        f"device {result['device_ms']:.1f} ms + answer {result['answer_ms']:.1f} ms{late}"
    )


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line.

    Raises:
        UsageError: options contradict each other, or have no meaning.
    """
    parser = argparse.ArgumentParser(
        prog="python -m bottlenecks.deploy.client",
        description="Send images through a bundle's head and encoder to a server, and print its answers.",
        epilog="Without --lambda, --budget-bytes or --deadline-ms, images are sent at the finest rate.",
    )
    parser.add_argument("bundle", type=Path, help="folder that export.py wrote, such as dist/resnet50-layer3-digits")
    parser.add_argument("images", type=Path, nargs="+", help="files of images")
    parser.add_argument("--server", default="http://localhost:8080", help="default: %(default)s")
    parser.add_argument(
        "--lambda",
        dest="lmbda",
        metavar="LAMBDA",
        type=float,
        help="send at this rate, or at any of a unit of any rate",
    )
    parser.add_argument("--budget-bytes", type=float, help="send at the finest rate that fits, header included")
    parser.add_argument("--deadline-ms", type=float, help="send at the finest rate that is answered in time")
    parser.add_argument("--uplink-kbps", type=float, help="of the deadline; measured where not given")
    parser.add_argument(
        "--cut",
        action="store_true",
        help="where no rate fits, send the beginning of the coarsest byte string",
    )
    parser.add_argument(
        "--session", action="store_true", help="agree once on what each frame says anew: ws:// or wss://"
    )
    parser.add_argument(
        "--header-bytes", type=int, help="of a session's frames, 1 or 2; default: as few as its rates take"
    )
    parser.add_argument("--token-file", type=Path, help="file whose first line is the token that the server asks for")
    parser.add_argument("--threads", type=int, help="of the head; all cores where not given")
    parser.add_argument("--runtime", choices=HEAD_FILES, default=ONNX, help="what runs the head; default: %(default)s")
    parser.add_argument("--max-megapixels", type=float, help="of the largest image that is opened, where above 179")
    parser.add_argument("--json", action="store_true", help="print one JSON object an image")
    options = parser.parse_args(arguments)
    if options.threads is not None:
        check_number("--threads", options.threads, 1, MAX_THREADS, whole=True)
    if options.header_bytes is not None:
        check_number("--header-bytes", options.header_bytes, 1, 2, whole=True)
    for name in ("lmbda", "budget_bytes", "deadline_ms", "uplink_kbps"):
        value = getattr(options, name)
        if value is not None and not 0 < value < math.inf:
            shown = "--" + {"lmbda": "lambda"}.get(name, name).replace("_", "-")
            raise UsageError(f"{shown}={value}: expected a number above 0")
    if options.lmbda is not None and (options.budget_bytes or options.deadline_ms):
        raise UsageError(f"--lambda={options.lmbda}: a fixed rate; give it, or a budget or deadline, not both")
    if options.uplink_kbps is not None and options.deadline_ms is None:
        raise UsageError(f"--uplink-kbps={options.uplink_kbps}: only means something with --deadline-ms")
    if options.header_bytes is not None and not options.session:
        raise UsageError(f"--header-bytes={options.header_bytes}: only means something with --session")
    if options.cut and options.session:
        raise UsageError("--cut: frames of a session are whole; leave --session out")
    if options.cut and options.budget_bytes is None and options.deadline_ms is None:
        raise UsageError("--cut: only means something with --budget-bytes or --deadline-ms")
    options.budget_bytes = options.budget_bytes or math.inf
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Send images from the command line; one that cannot be sent does not keep back the others."""
    options = parse(arguments)
    allow_megapixels("--max-megapixels", options.max_megapixels)
    device = Device(Bundle(options.bundle), options.threads, options.runtime)
    if options.lmbda is not None:
        device.bundle.rate_of(options.lmbda)
    server = open_server(options, device.bundle)
    server.check(device.bundle)
    sender = Sender(device, options, server)
    failed = 0
    for path in options.images:
        try:
            result = send(sender, server, path)
            print(json.dumps(result) if options.json else printable(line(result)), flush=True)
        except UsageError as error:
            print(f"error: {error}", file=sys.stderr)
            failed += 1
    if failed:
        raise UsageError(f"{failed} of {len(options.images)} images were not sent")


if __name__ == "__main__":
    run(main)
