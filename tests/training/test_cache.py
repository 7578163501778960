"""The cache changes nothing but the time, and nothing wrong is ever taken from it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from bottlenecks.errors import UsageError
from tests.conftest import QUICK, REPOSITORY, TINY, configure, quiet
from train import train

FOLDER = Path("checkpoints/tiny/body/digits")
ON_DISK = ("training.cache_features=true", "training.cache_memory_gib=0")
SMALL = ("data.limit_train=192", "data.limit_val=64", "training.calibration_images=64")


@pytest.fixture
def root(trained: Path, tmp_path: Path) -> Path:
    """A folder that has the tiny backbone and nothing else."""
    shutil.copytree(trained / "checkpoints/tiny/backbone", tmp_path / "checkpoints/tiny/backbone")
    return tmp_path


@pytest.fixture(scope="module")
def cached(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that has the tiny backbone, a rate, and the files that it was trained from."""
    root = tmp_path_factory.mktemp("cached")
    shutil.copytree(trained / "checkpoints/tiny/backbone", root / "checkpoints/tiny/backbone")
    run(root, *ON_DISK)
    return root


def arguments(root: Path, *overrides: str) -> list[str]:
    return quiet([*TINY, *QUICK, *SMALL, f"paths.cache={root / 'cache'}", *overrides])


def run(root: Path, *overrides: str) -> bytes:
    """Train at lambda 0.01 and give the tensors of the file."""
    (path,) = train(configure("train", root, *arguments(root, "overwrite=true", *overrides)))
    data = path.read_bytes()
    return data[8 + int.from_bytes(data[:8], "little") :]


@pytest.mark.parametrize(
    "augmented",
    [(), pytest.param(("data.augment=true", "data.views=2", "training.epochs=3"), marks=pytest.mark.slow)],
)
def test_in_memory_on_disk_and_without_give_the_same_unit(root: Path, augmented: tuple[str, ...]) -> None:
    without = run(root, "training.cache_features=false", *augmented)
    assert run(root, "training.cache_features=true", *augmented) == without
    assert not (root / "cache").exists()
    assert run(root, *ON_DISK, *augmented) == without
    assert run(root, *ON_DISK, *augmented) == without


@pytest.mark.slow
def test_half_precision_gives_the_same_unit_cached_or_not(root: Path) -> None:
    half = "training.cache_precision=16"
    assert run(root, half, "training.cache_features=true") == run(root, half, "training.cache_features=false")
    assert run(root, half) != run(root)


@pytest.mark.slow
def test_auto_caches_what_memory_holds_and_what_repeats(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def said(*overrides: str) -> bool:
        run(root, *overrides)
        return "Caching features in memory" in " ".join(capsys.readouterr().out.split())

    assert said()
    assert not said("training.cache_memory_gib=0.0001")
    assert not said("data.augment=true")
    assert said("data.augment=true", "data.views=2")


@pytest.mark.slow
def test_files_are_made_once_and_found_again(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(root, *ON_DISK)
    assert "Caching features in" in capsys.readouterr().out
    run(root, *ON_DISK, "lambda=0.02", "unit.name=other")
    said = capsys.readouterr().out
    assert "Caching features in" not in said and said.count("Using the features cached in") == 2
    run(root, *ON_DISK, "data.limit_val=32")
    assert len(list((root / "cache").glob("*/manifest.json"))) == 3  # the training rows are the same


def test_a_resumed_run_finds_its_files_again(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("bottlenecks.training.dashboard.Dashboard.on_fit_end", die)
        with pytest.raises(UsageError, match="interrupted"):
            run(root, *ON_DISK)
    capsys.readouterr()
    train(configure("train", root, *arguments(root, *ON_DISK, "resume=true")))
    assert "Caching features in" not in capsys.readouterr().out


@pytest.mark.slow
def test_half_precision_takes_half_the_room(root: Path) -> None:
    def size(*overrides: str) -> int:
        shutil.rmtree(root / "cache", ignore_errors=True)
        run(root, *ON_DISK, *overrides)
        return sum(path.stat().st_size for path in (root / "cache").glob("*/features"))

    assert size() == 2 * size("training.cache_precision=16") == 256 * 16 * 8 * 8 * 4


@pytest.mark.parametrize("damage", ["features", "teacher", "manifest.json", "missing", "sums"])
def test_damaged_files_are_refused(cached: Path, tmp_path: Path, damage: str) -> None:
    root = shutil.copytree(cached, tmp_path / "root")
    (folder,) = (root / "cache").glob("train-*")
    if damage == "missing":
        (folder / "features").unlink()
    elif damage == "sums":
        manifest = json.loads((folder / "manifest.json").read_text())
        (folder / "manifest.json").write_text(json.dumps({**manifest, "sums": None}))
    else:
        content = bytearray((folder / damage).read_bytes())
        content[len(content) // 2] ^= 0xFF
        (folder / damage).write_bytes(content)
    with pytest.raises(UsageError, match=r"(damaged|features: No such file).*cache_features=false"):
        run(root, *ON_DISK)


def test_files_of_other_weights_are_refused(cached: Path, tmp_path: Path) -> None:
    root = shutil.copytree(cached, tmp_path / "root")
    (folder,) = (root / "cache").glob("train-*")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["key"]["backbone"] = "0" * 16
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UsageError, match=r"made from other weights, images or settings.*remove"):
        run(root, *ON_DISK)


def test_new_views_each_epoch_cannot_be_kept(root: Path) -> None:
    with pytest.raises(UsageError, match=r"data.augment=true draws new views each epoch; data.views=4"):
        run(root, "training.cache_features=true", "data.augment=true")


def test_what_does_not_fit_is_said_with_the_ways_out(root: Path) -> None:
    with pytest.raises(UsageError, match=r"256 rows of 4 KiB, 0.00 GiB, more than .*cache_precision=16 halves it"):
        run(root, "training.cache_features=true", "training.cache_memory_gib=0", "training.cache_disk_gib=0.0001")


def test_no_room_leaves_nothing_behind(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(UsageError, match=r"paths.cache=.*no room for .*give another folder"):
        run(root, *ON_DISK)
    assert not list((root / "cache").glob("*train-*/*"))


def test_a_place_that_cannot_be_written_is_named(root: Path) -> None:
    (root / "cache").write_text("a file where a folder should be")
    with pytest.raises(UsageError, match=r"paths.cache=.*File exists.*give another folder"):
        run(root, *ON_DISK)


def test_a_choice_that_is_none_is_named(root: Path) -> None:
    with pytest.raises(UsageError, match=r"training.cache_features=maybe: expected true, false or auto"):
        run(root, "training.cache_features=maybe")
    with pytest.raises(UsageError, match=r"training.cache_precision=8: expected 32, or 16"):
        run(root, "training.cache_features=true", "training.cache_precision=8")


@pytest.mark.slow
def test_two_processes_share_one_cache_and_a_killed_one_leaves_no_trace(root: Path) -> None:
    paths = [f"paths.{name}={root / name}" for name in ("checkpoints", "results", "logs")]
    command = [sys.executable, "-W", "ignore", "train.py", *arguments(root, *ON_DISK, *paths)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def start(name: str) -> subprocess.Popen:
        return subprocess.Popen(
            [*command, f"unit.name={name}"], cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, text=True
        )

    killed = start("killed")
    while not list((root / "cache").glob(".*.tmp")) and killed.poll() is None:
        time.sleep(0.005)
    killed.kill()
    killed.communicate()
    said = [process.communicate()[0] for process in [start("one"), start("two")]]
    assert sum(text.count("Caching features in") for text in said) == 2  # train and val, by either process
    files = [root / FOLDER / f"unit={name}" / "lambda=0.01.safetensors" for name in ("one", "two")]
    assert all(file.exists() for file in files)
    assert not list((root / "cache").glob(".*.tmp"))
    manifests = list((root / "cache").glob("*/manifest.json"))
    assert len(manifests) == 2 and torch.tensor([len(manifest.read_text()) for manifest in manifests]).min() > 0
