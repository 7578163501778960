"""The oldest versions that pyproject.toml promises train and evaluate; torch and torchvision are those at hand."""

from __future__ import annotations

import re
import subprocess
import venv
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.conftest import QUICK, REPOSITORY, TINY, quiet

TORCH = ("torch", "torchvision")


def minimums() -> list[str]:
    """Read `name==version` of every requirement but torch's."""
    text = (REPOSITORY / "pyproject.toml").read_text()
    (listed,) = re.findall(r"^dependencies = \[(.*?)^\]", text, re.DOTALL | re.MULTILINE)
    found = dict(re.findall(r'"([\w-]+)>=([\d.]+)', listed))
    return [f"{name}=={oldest}" for name, oldest in found.items() if name not in TORCH]


def test_every_requirement_has_a_minimum() -> None:
    assert {"wandb", "pytorch-lightning", "compressai"} <= {one.partition("==")[0] for one in minimums()}


@pytest.mark.network
def test_the_declared_minimums_are_enough(tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv/bin/python"
    exactly = [f"{name}=={version(name).partition('+')[0]}" for name in TORCH]
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--prefer-binary", *exactly, *minimums()], check=True)
    paths = [f"paths.{name}={tmp_path / name}" for name in ("checkpoints", "results", "logs", "cache")]
    common, wandb = [*TINY, *paths], [one for one in QUICK if not one.startswith("logger")]
    for program, options in (
        ("train.py", [*quiet(wandb), "data.limit_train=128"]),
        ("evaluate.py", ["data.limit_test=20", "timed_images=1", "device=cpu"]),
    ):
        subprocess.run([python, program, *common, *options], cwd=REPOSITORY, check=True)
    assert len([*tmp_path.glob("checkpoints/tiny/body/digits/lambda=*.safetensors")]) == 1
    assert len([*tmp_path.glob("logs/wandb/offline-run-*")]) == 3 and [*tmp_path.glob("results/**/curve.json")]
