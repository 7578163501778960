"""The oldest versions that pyproject.toml promises are enough; torch and torchvision are those at hand."""

from __future__ import annotations

import re
import subprocess
import venv
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from PIL import Image

from bottlenecks.deploy.requirements import DEVICE, SERVER
from tests.conftest import QUICK, REPOSITORY, TINY, quiet
from tests.deploy.conftest import serving

TORCH = ("torch", "torchvision")
OF_DEVELOPMENT = ("docs", "dev")
NUMPY = "numpy"  # the oldest ONNX Runtime wants a newer one than the base does
ALONE = ("transformers", "openvino")  # the one not beside the oldest client of the hub; large


def project() -> dict[str, Any]:
    """Read what pyproject.toml says of the package; what is installed may be older."""
    toml = pytest.importorskip("tomllib", reason="Python 3.11 reads TOML")
    declared: dict[str, Any] = toml.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    return declared


def oldest_of(listed: Iterable[str]) -> dict[str, str]:
    """Return the oldest version of each requirement but torch's."""
    asked = [Requirement(line) for line in listed]
    bounds = [(one.name, bound) for one in asked if one.name not in TORCH for bound in one.specifier]
    return {name: bound.version for name, bound in bounds if bound.operator == ">="}


def minimums() -> dict[str, str]:
    """Return what is always installed."""
    return oldest_of(project()["dependencies"])


def extras() -> dict[str, str]:
    """Return what all extras of users bring together, but for `ALONE`; of two minimums the later one."""
    lists: dict[str, list[str]] = project()["optional-dependencies"]
    return oldest_of(line for name, lines in lists.items() if name not in (*OF_DEVELOPMENT, *ALONE) for line in lines)


def environment(folder: Path, oldest: Mapping[str, str]) -> Path:
    """Install the oldest versions into an environment of their own; return its Python."""
    venv.create(folder, with_pip=True)
    python = folder / "bin/python"
    exactly = [f"{name}=={metadata.version(name).partition('+')[0]}" for name in TORCH]
    pinned = [f"{name}=={number}" for name, number in oldest.items()]
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--prefer-binary", *exactly, *pinned], check=True)
    return python


def run(python: Path, *arguments: str | Path) -> None:
    subprocess.run([python, *arguments], cwd=REPOSITORY, check=True)


def in_folder(folder: Path) -> list[str]:
    return [f"paths.{name}={folder / name}" for name in ("checkpoints", "results", "logs", "cache")]


def test_every_requirement_has_a_minimum() -> None:
    assert {"wandb", "pytorch-lightning", "compressai"} <= minimums().keys()
    assert {"onnxruntime", "websockets", "timm", "imageio-ffmpeg"} <= extras().keys()


def test_what_a_bundle_asks_for_is_what_the_project_declares() -> None:
    declared = minimums() | extras()
    asked = dict(re.findall(r"^([\w-]+)>=([\d.]+)", DEVICE + SERVER, re.MULTILINE))
    assert len(asked) == 9 and asked.items() <= declared.items()


@pytest.mark.network
def test_the_declared_minimums_are_enough(tmp_path: Path) -> None:
    python = environment(tmp_path / "venv", minimums())
    common, wandb = [*TINY, *in_folder(tmp_path)], [one for one in QUICK if not one.startswith("logger")]
    run(python, "train.py", *common, *quiet(wandb), "data.limit_train=128")
    run(python, "evaluate.py", *common, "data.limit_test=20", "timed_images=1", "device=cpu")
    assert len([*tmp_path.glob("checkpoints/tiny/body/digits/lambda=*.safetensors")]) == 1
    assert len([*tmp_path.glob("logs/wandb/offline-run-*")]) == 3 and [*tmp_path.glob("results/**/curve.json")]


@pytest.mark.network
def test_the_declared_minimums_of_extras_are_enough(tmp_path: Path) -> None:
    oldest = {name: number for name, number in (minimums() | extras()).items() if name != NUMPY}
    python, image = environment(tmp_path / "venv", oldest), tmp_path / "image.png"
    Image.effect_noise((8, 8), 64).convert("RGB").save(image)
    common, codecs = [*TINY, *in_folder(tmp_path)], "codecs=[unit,hevc,vvc,webp]"
    run(python, "train.py", *common, *quiet(QUICK), "logger=tensorboard", "data.limit_train=128")
    run(python, "evaluate.py", *common, codecs, "data.limit_test=4", "timed_images=1", "device=cpu", "logger=none")
    for head in ("float", "int8"):
        run(python, "export.py", *common, f"out={tmp_path / head}", f"head={head}", "logger=none")
    run(python, "-m", "bottlenecks", "push", tmp_path / "checkpoints/tiny/body/digits", tmp_path / "shared")
    run(python, "-m", "bottlenecks", "split", "model=timm", "model.name=vit_tiny_patch16_224")

    def command(module: str, *arguments: str | Path) -> list[str]:
        return [str(python), "-m", module, *map(str, arguments)]

    with serving(tmp_path / "float", command=command) as (url, _):
        client = ("-m", "bottlenecks.deploy.client", tmp_path / "float", image, "--server")
        run(python, *client, url)
        run(python, *client, url.replace("http", "ws"), "--session")
    run(python, "-m", "bottlenecks.deploy.benchmark", tmp_path / "int8", image)
