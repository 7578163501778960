"""A reference server: bottlenecks serve dist/resnet50-layer3-digits [MORE…] --port 8080.

`bottlenecks.deploy.service` has the endpoints. What waits while a tail runs goes through it together, as one batch.
Should the task that runs it ever end, what waits is answered with 500, /health and /ready with 503, and the process
ends; of several workers another takes its place.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import ssl
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import uvicorn

from bottlenecks.deploy.allowances import Allowances
from bottlenecks.deploy.bundle import MAX_THREADS, Bundle
from bottlenecks.deploy.door import Door
from bottlenecks.deploy.logs import log_config
from bottlenecks.deploy.metrics import SHARED
from bottlenecks.deploy.protocol import TimedProtocol
from bottlenecks.deploy.receiver import Receiver
from bottlenecks.deploy.service import ServerLimits, Service
from bottlenecks.deploy.tokens import read_tokens
from bottlenecks.environment import is_loopback
from bottlenecks.errors import UsageError, check_number, fail, reason, run

GRACE_SECONDS = 10  # that requests under way are given when the server is told to stop
MAX_WORKERS = 256
LEAST_ALLOWANCE = 1e-4  # a second: one request in three hours
ARGUMENTS = "BOTTLENECKS_SERVER"  # variable in which workers find the command line
FAILED = "failed"  # file beside the counts of workers, where one could not start
NEVER_STARTED = 3  # status of a worker that is not started anew


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line.

    Raises:
        UsageError: an option has no meaning, or the door would be open to others than this machine.
    """
    limits = ServerLimits()
    parser = argparse.ArgumentParser(
        prog="bottlenecks serve",
        description="Serve the tails of bundles to devices.",
        epilog="Beyond this machine itself, give --token-file, and --tls-cert unless something in front has it.",
    )
    add = parser.add_argument
    add("bundle", type=Path, nargs="+", help="folders that export.py wrote, such as dist/resnet50-layer3-digits")
    add("--host", default="127.0.0.1", help="address to listen at, 0.0.0.0 for all; default: %(default)s")
    add("--port", type=int, default=8080, help="0 for any that is free; default: %(default)s")
    add("--workers", type=int, default=1, help="processes, each with the bundles in memory; default: %(default)s")
    add("--threads", type=int, help="of the tail, in each worker; all cores where not given")
    add("--max-batch", type=int, default=limits.max_batch, help="frames in the tail at once; default: %(default)s")
    add("--max-waiting", type=int, default=limits.max_waiting, help="requests under way; default: %(default)s")
    add("--token-file", type=Path, help="file of tokens, one a line; requests need one: Authorization: Bearer …")
    add("--allow-anyone", action="store_true", help="let others than this machine ask without a token")
    add("--tls-cert", type=Path, help="PEM certificate with its chain: https and wss")
    add("--tls-key", type=Path, help="its PEM key")
    add("--proxy", help="address of a proxy in front, whose word is taken on who asks (X-Forwarded-For)")
    add("--client-requests", type=float, help="a second, of each token or address; any by default")
    add("--client-bytes", type=float, help="the same for bytes")
    add("--log-format", choices=("text", "json"), default="text", help="json: an object a line; default: %(default)s")
    add("--access-log", action="store_true", help="write a line on each request")
    options = parser.parse_args(arguments)
    for name, most in (("max_batch", None), ("max_waiting", None), ("workers", MAX_WORKERS)):
        check_number(_shown(name), getattr(options, name), 1, most or float("inf"), whole=True)
    check_number("--port", options.port, 0, 2**16 - 1, whole=True)
    if options.threads is not None:
        check_number("--threads", options.threads, 1, MAX_THREADS, whole=True)
    for name in ("client_requests", "client_bytes"):
        value = getattr(options, name)
        if value is not None and not LEAST_ALLOWANCE <= value < float("inf"):
            raise UsageError(f"{_shown(name)}={value}: expected a number of at least {LEAST_ALLOWANCE}")
    if options.token_file is None and not options.allow_anyone and not is_loopback(options.host):
        raise UsageError(
            f"--host={options.host}: others than this machine could ask, and there is no --token-file; give one, or "
            "let everyone in with --allow-anyone"
        )
    return options


def _shown(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _check_certificate(options: argparse.Namespace) -> None:
    cert, key = options.tls_cert, options.tls_key
    if (cert is None) != (key is None):
        given, other = ("--tls-cert", "--tls-key") if key is None else ("--tls-key", "--tls-cert")
        raise UsageError(f"{given}={cert or key}: {other} belongs to it; give both")
    if cert is not None:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, _no_password)
        except OSError as error:  # ssl's errors are such
            why = error.strerror or reason(error)
            raise UsageError(
                f"--tls-cert={cert}, --tls-key={key}: no usable certificate and key in PEM ({why})"
            ) from None


def _no_password() -> str:
    """Refuse to ask for a password on a terminal that a server may not have."""
    raise OSError("the key asks for a password; give it without one: openssl pkey -in KEY -out NEW")


def _check_address(host: str, port: int) -> None:
    """Refuse an address that cannot be listened at, before anything is loaded."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except (OSError, UnicodeError) as error:  # of names, of addresses, of ports
        raise UsageError(
            f"--host={host} --port={port}: cannot listen there ({getattr(error, 'strerror', None) or reason(error)}); "
            "give another, such as --port 0 for any that is free"
        ) from None


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve from the command line, until SIGINT or SIGTERM."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    options = parse(given)
    _check_certificate(options)
    _check_address(options.host, options.port)
    settings = {
        "host": options.host,
        "port": options.port,
        "http": TimedProtocol,
        "log_config": log_config(options.log_format, options.access_log),
        "access_log": False,
        "proxy_headers": options.proxy is not None,
        "forwarded_allow_ips": options.proxy,
        "timeout_graceful_shutdown": GRACE_SECONDS,
        "ssl_certfile": options.tls_cert,
        "ssl_keyfile": options.tls_key,
    }
    if options.workers == 1:
        return _serve_alone(options, settings)
    with tempfile.TemporaryDirectory() as counts:
        os.environ.update({ARGUMENTS: json.dumps(given), SHARED: counts})
        most = make_service(options).max_bytes
        uvicorn.run(f"{__spec__.name}:application", factory=True, workers=options.workers, ws_max_size=most, **settings)
        if Path(counts, FAILED).exists():
            sys.exit(1)  # a worker has said why


def make_service(options: argparse.Namespace, end: Callable[[], None] = lambda: None) -> Service:
    """Load what is served.

    Args:
        options: of the command line.
        end: called where a tail is not run any more.

    Raises:
        UsageError: a bundle or the tokens cannot be read, or bundles do not go together.
    """
    door = Door(read_tokens(options.token_file) if options.token_file else ())
    shared = Path(os.environ[SHARED]) / "allowances" if options.workers > 1 else None
    allowances = Allowances(options.client_requests, options.client_bytes, shared)
    receivers = [Receiver(Bundle(folder), options.threads) for folder in options.bundle]
    return Service(receivers, ServerLimits(options.max_batch, options.max_waiting), door, allowances, end)


def application() -> Any:
    """Make what one of several workers serves; it ends where the process that started it has ended."""

    def end() -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=_when_orphaned, args=[os.getppid(), end], daemon=True).start()
    try:
        service = make_service(parse(json.loads(os.environ[ARGUMENTS])), end)
    except UsageError as error:
        Path(os.environ[SHARED], FAILED).touch()
        fail(str(error), status=NEVER_STARTED)
    service.warm_up()
    return service.app()


def _when_orphaned(parent: int, end: Callable[[], None]) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    end()


def _serve_alone(options: argparse.Namespace, settings: dict[str, Any]) -> None:
    """Serve in this process; end the program where the tail is not run any more."""

    def end() -> None:
        server.should_exit = True

    service = make_service(options, end)
    service.warm_up()
    server = uvicorn.Server(uvicorn.Config(service.app(), ws_max_size=service.max_bytes, **settings))
    with suppress(KeyboardInterrupt):
        server.run()
    if service.failure is not None:
        fail(f"the task that runs the tail has ended ({reason(service.failure)}); start the server anew", status=1)


if __name__ == "__main__":
    run(main)
