"""What the tests share: the real commands around a stand-in backbone, in folders of their own."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig

import bottlenecks
from bottlenecks.console.cli import CONFIGS
from bottlenecks.settings.composed import composed
from evaluate import evaluate
from train import train

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED_DATA = REPOSITORY.parent / "shared" / "data"
TINY = ("model=custom", "model.name=tiny", "model.factory._target_=tests.networks.Tiny", "split=body")
TINY_SEGMENTER = (
    "model=custom",
    "model.name=tiny_segmenter",
    "model.task=segmentation",
    "model.factory._target_=tests.networks.TinySegmenter",
)
QUICK = (
    "training.epochs=2",
    "training.fit_images=64",
    "data.augment=false",
    "unit.structure=separable",
    "unit.block=4",
    "unit.restorer=8",
    "backbone.epochs=2",
    "backbone.lr=2e-2",
    "logger=none",
)


@pytest.fixture(autouse=True, scope="session")
def _few_threads() -> None:
    import torch  # in fixtures alone: the process that shares out the tests needs none

    torch.set_num_threads(min(2, torch.get_num_threads()))


@pytest.fixture(autouse=True, scope="session")
def _one_search_for_accelerators() -> None:
    """Let torch look for accelerators as it is used to: Lightning has it look for a library at each operation."""
    import pytorch_lightning  # noqa: F401
    import torch

    if not torch.cuda.is_available():
        os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "0"


@pytest.fixture(autouse=True, scope="session")
def _one_table_of_operators() -> Iterator[None]:
    """Let torch's ONNX exporter keep the table of operators that it makes anew, in a second, for every graph."""
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    make = ONNXRegistry.from_torchlib
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ONNXRegistry, "from_torchlib", staticmethod(lru_cache(make)))
        yield


def configure(command: str, root: Path, *overrides: str) -> DictConfig:
    """Compose a shipped configuration with every output under `root`; files that go together are composed once."""
    paths = [f"paths.{name}={root / name}" for name in ("checkpoints", "results", "logs")]
    given = OverridesParser.create().parse_overrides([*paths, *overrides])
    files = [one for one in given if (CONFIGS / one.key_or_group).is_dir()]
    cfg = deepcopy(_compose(command, tuple(str(one.input_line) for one in files)))
    ConfigLoaderImpl._apply_overrides_to_config([one for one in given if one not in files], cfg)
    return cfg


@lru_cache
def _compose(command: str, files: tuple[str, ...]) -> DictConfig:
    return composed(command, [*files])


def quiet(overrides: Sequence[str]) -> list[str]:
    """Add what keeps a test's terminal quiet."""
    return [*overrides, "trainer.enable_progress_bar=false", "trainer.accelerator=cpu"]


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Make a folder once, however many processes run tests, and give each a copy of its own."""
    own = factory.mktemp(name)
    if "PYTEST_XDIST_WORKER" not in os.environ:
        make(own)
        return own
    first = factory.getbasetemp().parent / name
    with FileLock(first.with_suffix(".lock")):
        if not first.exists():
            make(partial := factory.mktemp(name))
            partial.rename(first)
    return Path(shutil.copytree(first, own, dirs_exist_ok=True))


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with a tiny backbone on digits, a ladder of two rates at `body`, and its curve."""

    def make(root: Path) -> None:
        train(configure("train", root, *quiet([*TINY, *QUICK, "lambda=[0.003,0.03]"])))
        evaluate(configure("evaluate", root, *TINY, "logger=none"))

    return made_once(tmp_path_factory, "trained", make)


@pytest.fixture
def empty_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let bundles have empty graphs: real ones, which take seconds each, are held elsewhere."""
    monkeypatch.setattr("bottlenecks.deploy.export.to_onnx", lambda *_: b"")
    monkeypatch.setattr("bottlenecks.deploy.export.refuse_mixing", lambda _: None)


@pytest.fixture
def brief_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `bottlenecks.fit` train small units for an epoch, whatever a page or an example asks for."""
    fit = bottlenecks.fit
    brief = {"training.epochs": 1, "training.fit_images": 64}
    brief |= {"unit.structure": "separable", "unit.block": 2, "unit.restorer": 8}

    def briefly(*given: Any, settings: Mapping[str, Any] | None = None, **named: Any) -> Any:
        return fit(*given, settings={**(settings or {}), **brief}, **named)

    monkeypatch.setattr(bottlenecks, "fit", briefly)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Run an entry point's `main` on arguments; give its exit status and what it wrote on stderr."""

    def run(main: Callable[[], object], *arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["command", *arguments])
        capsys.readouterr()
        try:
            main()
        except SystemExit as stop:
            return int(stop.code or 0), capsys.readouterr().err
        return 0, capsys.readouterr().err

    return run
