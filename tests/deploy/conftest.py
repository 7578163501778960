"""A bundle of the tiny ladder, and programs that run from it where there is no torch."""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from datamodules.digits import Digits
from export import export
from tests.conftest import REPOSITORY, TINY, configure, made_once

REFUSING = """
import runpy, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "torchvision", "compressai", "lightning", "pytorch_lightning", "hydra"}:
            raise ImportError(f"{name} is refused here")
sys.meta_path.insert(0, Refuse())
name, sys.argv = sys.argv[1], sys.argv[1:]
runpy.run_module(name, run_name="__main__", alter_sys=True)
"""


@pytest.fixture(scope="session")
def bundle_folder(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle that export.py writes of the tiny ladder."""

    def make(root: Path) -> None:
        export(configure("export", trained, *TINY, "logger=none", f"out={root / 'dist'}"))

    return made_once(tmp_path_factory, "bundle", make) / "dist"


@pytest.fixture(scope="session")
def image_paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A hundred of digits' evaluation images as files."""
    folder, paths = tmp_path_factory.mktemp("images"), []
    for index, image in enumerate(Digits(name="digits", batch_size=100, num_workers=0, limit_test=100).images("test")):
        paths.append(folder / f"{index:03}.png")
        image.save(paths[-1])
    return paths


Command = Callable[..., list[str]]


def without_torch(module: str, *arguments: str | Path) -> list[str]:
    """Return the command that runs a module in a process which refuses what a device does not have."""
    return [sys.executable, "-c", REFUSING, module, *map(str, arguments)]


@pytest.fixture(scope="session")
def server(bundle_folder: Path) -> Iterator[str]:
    """The address of a server in a process of its own."""
    with serving(bundle_folder) as (url, _):
        yield url


class serving:
    """Runs a server on a free port; gives its address and its process, and ends it.

    Args:
        bundle_folder: that it serves.
        arguments: others of the command line.
        command: writes a command line.
        cwd: where it runs.
        authority: file of the certificate by which its own is known; http without one.
    """

    def __init__(
        self,
        bundle_folder: Path,
        *arguments: str | Path,
        command: Command = without_torch,
        cwd: Path = REPOSITORY,
        authority: Path | None = None,
    ) -> None:
        self.cwd, self.authority = cwd, authority
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.command = command(
            "bottlenecks.deploy.server", bundle_folder, *arguments, "--port", str(self.port), "--threads", "1"
        )

    def __enter__(self) -> tuple[str, subprocess.Popen[bytes]]:
        self.process = subprocess.Popen(self.command, cwd=self.cwd, stderr=subprocess.PIPE)
        scheme = "http" if self.authority is None else "https"
        url = f"{scheme}://127.0.0.1:{self.port}"
        verify = True if self.authority is None else ssl.create_default_context(cafile=self.authority)
        for _ in range(600):
            try:
                httpx.get(f"{url}/ready", verify=verify).raise_for_status()
                return url, self.process
            except httpx.TransportError:
                if self.process.poll() is not None:
                    break
                time.sleep(0.1)
        self.process.kill()
        raise RuntimeError(self.process.communicate()[1].decode())

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        try:
            self.process.communicate(timeout=30)
        finally:
            self.process.kill()


@pytest.fixture
def client(bundle_folder: Path, server: str) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the client against the server in a process without torch."""

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        command = without_torch("bottlenecks.deploy.client", bundle_folder, *arguments, "--server", server)
        return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=300)

    return run
