"""One package on a user's machine, and one command."""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
from importlib.metadata import version
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from bottlenecks import __version__
from bottlenecks.__main__ import COMMANDS
from tests.conftest import REPOSITORY
from tests.test_minimums import TORCH

tomllib = pytest.importorskip("tomllib")
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())


def test_every_package_is_in_the_wheel() -> None:
    within = {".".join(path.parent.relative_to(REPOSITORY).parts) for path in REPOSITORY.glob("bottlenecks/**/*.py")}
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == within | {"bottlenecks.configs", "bottlenecks.datamodules"}


@pytest.mark.network
def test_the_example_runs_where_nothing_but_the_package_is(tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    install = [tmp_path / "venv/bin/python", "-m", "pip", "install", "--quiet"]
    subprocess.run([*install, *(f"{name}=={version(name).partition('+')[0]}" for name in TORCH)], check=True)
    subprocess.run([*install, str(REPOSITORY)], check=True)
    example = shutil.copy(REPOSITORY / "examples/own_network.py", tmp_path)
    done = subprocess.run([install[0], example], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "bytes an image" in done.stdout and (tmp_path / "curve.png").exists()


def test_what_is_cited_is_this_version() -> None:
    cited = OmegaConf.load(REPOSITORY / "CITATION.cff")
    assert (cited.version, cited.license) == (PROJECT["project"]["version"], PROJECT["project"]["license"])
    assert cited.version == __version__


def bottlenecks(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bottlenecks", *arguments]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)


def test_the_command_lists_all_others() -> None:
    told = bottlenecks().stdout
    assert all(f"  {name} " in told for name in COMMANDS)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in ("serve", "send")])
def test_each_command_helps_before_torch_is_imported(name: str) -> None:
    refusing = "import sys; sys.modules['torch'] = None; from bottlenecks.__main__ import main; main()"
    command = [sys.executable, "-c", refusing, name, "--help"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "usage" in done.stdout or "powered by Hydra" in done.stdout


def test_a_command_refuses_as_its_script_does() -> None:
    done = bottlenecks("train", "model=nonsense")
    assert done.returncode == 2 and done.stderr.startswith("error: model=nonsense: no such model")


def test_a_command_that_is_not_there_names_those_that_are() -> None:
    done = bottlenecks("trian")
    assert done.returncode == 2
    assert done.stderr.startswith("error: trian: no such command; there are train, evaluate, export")
