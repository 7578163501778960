"""What the tests share: the real commands around a stand-in backbone, in folders of their own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import lru_cache
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from bottlenecks.console.cli import CONFIGS
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
    torch.set_num_threads(min(2, torch.get_num_threads()))


def configure(command: str, root: Path, *overrides: str) -> DictConfig:
    """Compose a shipped configuration with every output under `root`."""
    cfg = deepcopy(_compose(command, overrides))
    for name in ("checkpoints", "results", "logs"):
        if not any(override.startswith(f"paths.{name}=") for override in overrides):
            cfg.paths[name] = str(root / name)
    return cfg


@lru_cache
def _compose(command: str, overrides: tuple[str, ...]) -> DictConfig:
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose(command, [*overrides])


def quiet(overrides: Sequence[str]) -> list[str]:
    """Add what keeps a test's terminal quiet."""
    return [*overrides, "trainer.enable_progress_bar=false", "trainer.accelerator=cpu"]


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with a tiny backbone on digits, a ladder of two rates at `body`, and its curve."""
    root = tmp_path_factory.mktemp("trained")
    train(configure("train", root, *quiet([*TINY, *QUICK, "lambda=[0.003,0.03]"])))
    evaluate(configure("evaluate", root, *TINY, "logger=none"))
    return root


@pytest.fixture
def empty_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let bundles have empty graphs: real ones, which take seconds each, are held elsewhere."""
    monkeypatch.setattr("bottlenecks.deploy.export.to_onnx", lambda *_: b"")
    monkeypatch.setattr("bottlenecks.deploy.export.refuse_mixing", lambda _: None)


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
