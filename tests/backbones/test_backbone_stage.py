"""A network's own training is cut off, says so, and goes on to where an uninterrupted one ends."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from unittest.mock import ANY

import pytest

from bottlenecks.errors import UsageError
from bottlenecks.files import read_metadata
from bottlenecks.training.backbone import BackboneModule
from evaluate import main as evaluate
from tests.conftest import configure, quiet
from train import main, train

NETWORK = ("model=custom", "model.name=tiny", "model.factory._target_=tests.networks.Forgetful", "split=body")
FEW = (
    "data.limit_train=64",
    "data.batch_size=32",
    "data.limit_val=64",
    "backbone.epochs=3",
    "logger=none",
    "data.augment=false",
)
UNIT = ("training.epochs=0", "unit.structure=separable", "training.fit_images=64", "unit.restorer=0")
BACKBONE = Path("checkpoints/tiny/backbone")
STATE = BACKBONE / ".resume/digits.ckpt"
FILE = BACKBONE / "digits.safetensors"
Command = Callable[..., tuple[int, str]]


def options(root: Path, *overrides: str) -> list[str]:
    paths = [f"paths.{name}={root / name}" for name in ("checkpoints", "results", "logs", "cache")]
    return [*quiet([*NETWORK, *FEW]), *paths, *overrides]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with a network trained in one go."""
    root = tmp_path_factory.mktemp("uninterrupted")
    train(configure("train", root, *options(root, "stage=backbone")))
    return root


def stop(monkeypatch: pytest.MonkeyPatch, how: Callable[[], None], epoch: int = 1) -> None:
    """Let a network's training be told to stop in the midst of an epoch."""
    step = BackboneModule.training_step

    def told(self: BackboneModule, batch: object, batch_idx: int) -> object:
        if self.current_epoch == epoch:
            how()
        return step(self, batch, batch_idx)  # type: ignore[arg-type]

    monkeypatch.setattr(BackboneModule, "training_step", told)


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def press_control_c() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("stage", "how"), [(("stage=backbone",), terminate), (UNIT, press_control_c)], ids=["stage", "on the spot"]
)
def test_a_stopped_training_goes_on(
    stage: tuple[str, ...],
    how: Callable[[], None],
    uninterrupted: Path,
    tmp_path: Path,
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        stop(patch, how)
        status, said = command(main, *options(tmp_path, *stage))
    assert status == 130 and "interrupted in epoch 2 of training tiny itself; go on with resume=true" in said
    assert (tmp_path / STATE).exists() and not (tmp_path / FILE).exists()
    status, said = command(main, *options(tmp_path, *stage))
    assert status == 2 and "an interrupted run of training tiny itself" in said and "overwrite=true" in said
    assert command(main, *options(tmp_path, *stage, "resume=true")) == (0, ANY)
    assert (tmp_path / FILE).read_bytes() == (uninterrupted / FILE).read_bytes()
    assert not (tmp_path / STATE.parent).exists()
    assert len([*(tmp_path / "checkpoints/tiny").rglob("lambda=*")]) == (stage == UNIT)


@pytest.mark.slow
def test_evaluation_goes_on_by_itself(
    uninterrupted: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [*options(tmp_path), "codecs=[jpeg]", "workers=0", "data.limit_test=20", "calibration_images=8"]
    with monkeypatch.context() as patch:
        stop(patch, terminate)
        status, said = command(evaluate, *asked)
    assert status == 130 and "go on with the same command" in said
    assert command(evaluate, *asked) == (0, ANY)
    assert (tmp_path / FILE).read_bytes() == (uninterrupted / FILE).read_bytes()


def test_a_run_cut_off_before_its_file_keeps_its_score(
    uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise SystemError("killed")

    with monkeypatch.context() as patch:
        patch.setattr("bottlenecks.training.backbone.save_backbone", die)
        with pytest.raises(SystemError):
            train(configure("train", tmp_path, *options(tmp_path, "stage=backbone")))
    train(configure("train", tmp_path, *options(tmp_path, "stage=backbone", "resume=true")))
    assert read_metadata(tmp_path / FILE) == read_metadata(uninterrupted / FILE)


def test_an_interrupted_overwriting_goes_on_too(
    uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / FILE).parent.mkdir(parents=True)
    (tmp_path / FILE).write_bytes(b"an older network")
    with monkeypatch.context() as patch, pytest.raises(UsageError, match="interrupted"):
        stop(patch, terminate)
        train(configure("train", tmp_path, *options(tmp_path, "stage=backbone", "overwrite=true")))
    train(configure("train", tmp_path, *options(tmp_path, "stage=backbone", "resume=true")))
    assert (tmp_path / FILE).read_bytes() == (uninterrupted / FILE).read_bytes()


@pytest.mark.parametrize(
    ("override", "difference"),
    [
        ("backbone.lr=1e-3", r"backbone.lr 0.002 -> 0.001"),
        ("data.limit_train=60", r"data.limit_train 64 -> 60, images.train"),
        ("seed=1", "data.seed 0 -> 1, seed 0 -> 1"),
        ("data.limit_test=10", ""),
    ],
)
def test_resume_compares_what_the_training_depends_on(
    override: str, difference: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, pytest.raises(UsageError, match="interrupted"):
        stop(patch, terminate)
        train(configure("train", tmp_path, *options(tmp_path, "stage=backbone")))
    cfg = configure("train", tmp_path, *options(tmp_path, "stage=backbone", "resume=true", override))
    if difference:
        with pytest.raises(UsageError, match=rf"made with other settings \({difference}"):
            train(cfg)
    else:
        train(cfg)


def test_a_run_without_a_evaluation_is_one_line(tmp_path: Path) -> None:
    cfg = configure("train", tmp_path, *options(tmp_path, "stage=backbone", "+trainer.limit_val_batches=0"))
    with pytest.raises(UsageError, match="no epoch ended in an evaluation on the held-back images"):
        train(cfg)


def test_a_training_that_ends_early_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(configure("train", tmp_path, *options(tmp_path, "stage=backbone", "+trainer.max_steps=2")))
    said = " ".join(capsys.readouterr().out.split())
    assert "Training ended before epoch 3 was over, where a setting of trainer ends it" in said
