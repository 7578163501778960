"""Two processes see what one sees, and only one of them writes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bottlenecks.checkpoint import load_rate
from bottlenecks.processes import Share, is_main, own_share
from datamodules.sampler import EpochSampler, ShareSampler
from tests.conftest import QUICK, REPOSITORY, TINY, configure, quiet
from train import train

FOLDER = Path("tiny/body/digits")


def launch(root: Path, program: list[str], *overrides: str) -> subprocess.CompletedProcess:
    """Run a program on two CPU processes with one thread each."""
    paths = [f"paths.{name}={root / name}" for name in ("checkpoints", "results", "logs", "cache")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    return subprocess.run(
        [sys.executable, *program, *TINY, *paths, *overrides],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )


TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]


@pytest.mark.slow
def test_two_processes_judge_as_one_does(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained / "checkpoints", tmp_path / "checkpoints")
    done = launch(tmp_path, [*TORCHRUN, "evaluate.py"], "logger=none", "device=cpu")
    assert done.stdout.count("Wrote") == 1
    one, two = (json.loads((root / "results" / FOLDER / "curve.json").read_text()) for root in (trained, tmp_path))
    for point in [*one["points"], *two["points"]]:
        for name in ("encode_ms", "decode_ms"):
            del point[name]
        point["estimated_bpp"] = pytest.approx(point["estimated_bpp"], rel=1e-6)
    assert one == two


@pytest.mark.slow
@pytest.mark.parametrize(
    "program",
    [
        pytest.param(["train.py", "trainer=ddp"], id="lightning"),
        pytest.param([*TORCHRUN, "train.py", "trainer=ddp"], id="torchrun"),
    ],
)
def test_two_processes_train_as_one_does(trained: Path, tmp_path: Path, program: list[str]) -> None:
    """On the CPU BatchNorm sees each process's own batch, so the held-back loss agrees within 3 percent."""
    for name in ("one", "two"):
        shutil.copytree(trained / "checkpoints/tiny/backbone", tmp_path / name / "checkpoints/tiny/backbone")
    common = [*quiet(QUICK), "lambda=[0.003,0.03]", "training.epochs=4", "data.limit_train=512"]
    train(configure("train", tmp_path / "one", *TINY, *common, "data.batch_size=64"))
    options = ["trainer.devices=2", "data.batch_size=32", "logger=csv"]
    done = launch(tmp_path / "two", program, *common, *options)
    assert done.stdout.count("Trained, as seen") == 1
    for path in sorted((tmp_path / "one/checkpoints" / FOLDER).glob("*.safetensors")):
        one, two = load_rate(path), load_rate(tmp_path / "two/checkpoints" / FOLDER / path.name)
        assert two.info.metrics["val/loss"] == pytest.approx(one.info.metrics["val/loss"], rel=0.03)
        assert two.info.metrics["val/accuracy"] == pytest.approx(one.info.metrics["val/accuracy"], abs=0.05)
    assert len(list((tmp_path / "two/logs").rglob("lambda=*/version_0/metrics.csv"))) == 2
    assert not (tmp_path / "two/checkpoints" / FOLDER / ".resume").exists()


def test_shares_cover_everything_once() -> None:
    shares = [list(ShareSampler(11, Share(rank, 3))) for rank in range(3)]
    assert sorted(index for share in shares for index in share) == list(range(11))
    epochs = [list(EpochSampler(11, 0, None, Share(rank, 3))) for rank in range(3)]
    assert [len(epoch) for epoch in epochs] == [3, 3, 3]
    assert len({index for epoch in epochs for _, index in epoch}) == 9


def test_alone_is_the_main_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert own_share() == Share(0, 1) and is_main()
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert not is_main()
