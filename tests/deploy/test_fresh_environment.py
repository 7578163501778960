"""Client and server in an environment that has what the bundle asks for, and nothing else."""

from __future__ import annotations

import json
import subprocess
import venv
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.deploy.conftest import serving


@pytest.mark.network
def test_the_bundles_requirements_are_enough(bundle_folder: Path, image_paths: list[Path], tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv/bin/python"
    for arguments in (
        ["-r", bundle_folder / "requirements-device.txt", "-r", bundle_folder / "requirements-server.txt"],
        ["--no-deps", REPOSITORY],
    ):
        subprocess.run([python, "-m", "pip", "install", "--quiet", *arguments], check=True)
    installed = subprocess.run([python, "-m", "pip", "list"], capture_output=True, text=True, check=True).stdout
    assert "onnxruntime" in installed and "torch" not in installed and "compressai" not in installed

    def command(module: str, *arguments: str | Path) -> list[str]:
        return [str(python), "-m", module, *map(str, arguments)]

    with serving(bundle_folder, command=command, cwd=tmp_path) as (url, _):
        arguments = command("bottlenecks.deploy.client", bundle_folder, *image_paths[:3], "--server", url, "--json")
        done = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, check=True)
        assert len([json.loads(line) for line in done.stdout.splitlines()]) == 3
