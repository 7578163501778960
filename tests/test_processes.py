"""Two processes see what one sees, and only one of them writes."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from contextlib import redirect_stderr
from pathlib import Path

import pytest
import torch
from torch import Tensor

from bottlenecks.console.cli import run
from bottlenecks.errors import UsageError
from bottlenecks.processes import Share, is_main, join, leave, own_share
from bottlenecks.rates.rate import load_rate
from bottlenecks.runs.experiment import pick_device
from bottlenecks.tasks import Classification, Segmentation, Task
from bottlenecks.training.frozen import FrozenBatch
from bottlenecks.training.loss import RateDistortion
from bottlenecks.training.metrics import RateMetrics
from bottlenecks.training.sampler import EpochSampler, ShareSampler
from evaluate import evaluate
from tests.conftest import QUICK, REPOSITORY, TINY, configure, quiet
from tests.processes import in_two
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
def test_two_processes_evaluate_as_one_does(trained: Path, tmp_path: Path) -> None:
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


def ladder(root: Path, *overrides: str) -> list[str]:
    """Settings of a short ladder in the folders of a root."""
    paths = [f"paths.{name}={root / name}" for name in ("checkpoints", "results", "logs", "cache")]
    return [*quiet([*TINY, *QUICK]), "data.limit_train=128", "lambda=[0.003,0.03]", *paths, *overrides]


def train_share(root: Path, *overrides: str) -> list[str]:
    """Train as one of two processes."""
    options = ladder(
        root, "trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "data.batch_size=32", *overrides
    )
    return [path.name for path in train(configure("train", root, *options))]


def evaluate_share(root: Path) -> None:
    """Evaluate as one of two processes."""
    evaluate(configure("evaluate", root, *TINY, "logger=none", "device=cpu", "data.limit_test=41", "timed_images=1"))
    leave()


@pytest.fixture
def root(trained: Path, tmp_path: Path) -> Path:
    """A folder that has the tiny backbone and nothing else."""
    shutil.copytree(trained / "checkpoints/tiny/backbone", tmp_path / "checkpoints/tiny/backbone")
    return tmp_path


def test_two_processes_train_and_evaluate_what_one_does(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Half the batch in each of two processes; on the CPU BatchNorm sees each process's own."""
    alone = tmp_path_factory.mktemp("alone")
    shutil.copytree(root / "checkpoints", alone / "checkpoints")
    train(configure("train", alone, *ladder(alone, "data.batch_size=64")))
    names = ["lambda=0.003.safetensors", "lambda=0.03.safetensors"]
    assert in_two(train_share, root) == [names, names]
    for name in names:
        one, two = (load_rate(place / "checkpoints" / FOLDER / name).info.metrics for place in (alone, root))
        assert two["val/loss"] == pytest.approx(one["val/loss"], rel=0.03)
        assert two["val/agreement"] == pytest.approx(one["val/agreement"], abs=0.05)
    assert in_two(evaluate_share, root) == [None, None]
    both = json.loads((root / "results" / FOLDER / "curve.json").read_text())
    evaluate(configure("evaluate", root, *TINY, "logger=none", "device=cpu", "data.limit_test=41", "timed_images=1"))
    single = json.loads((root / "results" / FOLDER / "curve.json").read_text())
    assert both["num_images"] == 41
    for key in ("payload_bytes", "accuracy", "agreement"):
        assert [point[key] for point in both["points"]] == [point[key] for point in single["points"]]


def compute_shares(cases: list[tuple[Task, Tensor, list[Tensor]]]) -> list[dict[str, float]]:
    """Evaluate images of which each process has its own, of one case after the other."""
    join(torch.device("cpu"))
    found = [compute_share(*case) for case in cases]
    leave()
    return found


def compute_share(task: Task, output: Tensor, targets: list[Tensor]) -> dict[str, float]:
    """Evaluate the images of this process."""
    own = targets[own_share().rank]
    metrics = RateMetrics(task, 1, ["kd"], evaluated=True)
    zeros = torch.zeros(len(output))
    losses = RateDistortion(zeros, zeros, zeros, {"kd": zeros})
    metrics.update(losses, zeros, output, FrozenBatch(torch.zeros(len(output), 1), output, own, 1))
    return metrics.compute()


def case(task: Task, shape: tuple[int, ...], labelled: int | None) -> tuple[Task, Tensor, list[Tensor]]:
    """Two shares of two images, of which one at the most has labels."""
    output = torch.eye(3)[:2].reshape(2, 3, *(1 for _ in shape)).expand(2, 3, *shape).contiguous()
    targets = [torch.full((2, *shape), -1), torch.full((2, *shape), -1)]
    if labelled is not None:
        targets[labelled] = torch.zeros(2, *shape, dtype=torch.long)
    return task, output, targets


def test_a_share_without_labels_keeps_nobody_waiting() -> None:
    kinds: list[tuple[Task, tuple[int, ...]]] = [(Classification(), ()), (Segmentation(), (2, 2))]
    named = [(task, shape, labelled) for task, shape in kinds for labelled in (0, 1, None)]
    one, two = in_two(compute_shares, [case(*each) for each in named])
    assert one == two
    for (task, _, labelled), figures in zip(named, one, strict=True):
        expected = {"accuracy": 0.5, "miou": 0.25}[task.metric_name]
        assert figures["agreement"] == 1
        assert figures.get(task.metric_name) == (None if labelled is None else expected)


def test_processes_share_the_memory_of_a_cache(root: Path) -> None:
    """What fits into the memory once, not twice, is held by one process; two map it from files."""
    options = ("training.cache_features=true", "training.epochs=1", "training.cache_memory_gib=0.002")
    assert train(configure("train", root, *ladder(root, *options, "unit.name=alone")))
    assert not (root / "cache").exists()
    assert len(in_two(train_share, root, *options)[0]) == 2
    assert len([*(root / "cache").glob("*/manifest.json")]) == 2


def end_early() -> str:
    """Fail as the second of two processes, while the first waits for it; return what the first says of it."""
    join(torch.device("cpu"))
    if own_share().rank:
        return "ended"  # and the process with it
    with redirect_stderr(io.StringIO()) as said, pytest.raises(SystemExit, match="2"):
        run(lambda: torch.distributed.broadcast(torch.zeros(1), src=1))
    return said.getvalue()


def test_a_process_whose_other_one_ended_says_so_in_one_line() -> None:
    said, _ = in_two(end_early)
    (line,) = (line for line in said.splitlines() if line.startswith("error:"))
    assert "another of the processes has ended" in line


def test_each_process_has_a_device_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gpus:
        used: list[torch.device] = []  # noqa: RUF012

        @staticmethod
        def device_count() -> int:
            return 2

        @classmethod
        def set_device(cls, device: torch.device) -> None:
            cls.used.append(device)

    zeros = torch.zeros
    monkeypatch.setattr(torch, "zeros", lambda *given, **_: zeros(*given))
    monkeypatch.setattr(torch, "get_device_module", lambda _: Gpus)
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda *_: None)
    for name, value in {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    assert join(pick_device("cuda")) == torch.device("cuda:1") == Gpus.used[-1]
    with pytest.raises(UsageError, match=r"device=cuda:0: 2 processes would share it; give device=cuda"):
        join(pick_device("cuda:0"))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    with pytest.raises(UsageError, match=r"device=cuda: 3 processes and 2 devices; start fewer"):
        join(pick_device("cuda"))
