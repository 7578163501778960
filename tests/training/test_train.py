"""Training through the real entry point: kept, refused, resumed, killed."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import ANY

import pytest
import torch
import wandb
from omegaconf import OmegaConf

from bottlenecks.errors import UsageError
from bottlenecks.rates.rate import load_rate, read_info
from bottlenecks.tensor_files import read_safetensors, write_safetensors
from bottlenecks.training import relevant
from bottlenecks.training.module import LadderModule
from bottlenecks.training.resume import ResumeState, differences
from tests.conftest import QUICK, REPOSITORY, TINY, configure, quiet
from tests.networks import Tiny
from train import main, train

FOLDER = Path("checkpoints/tiny/body/digits")
QUICKEST = ("training.epochs=1", "data.limit_train=64")
SMALL = ("data.limit_train=192", "data.limit_val=64", "training.calibration_images=64")


@pytest.fixture
def root(trained: Path, tmp_path: Path) -> Path:
    """A folder that has the tiny backbone and nothing else."""
    shutil.copytree(trained / "checkpoints/tiny/backbone", tmp_path / "checkpoints/tiny/backbone")
    return tmp_path


@pytest.fixture(scope="module")
def finished(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that has the tiny backbone and a finished rate."""
    root = tmp_path_factory.mktemp("finished")
    shutil.copytree(trained / "checkpoints/tiny/backbone", root / "checkpoints/tiny/backbone")
    run(root, *QUICKEST)
    return root


@pytest.fixture
def own(finished: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may change."""
    return shutil.copytree(finished, tmp_path / "own")


def run(root: Path, *overrides: str) -> dict[Path, object]:
    """Train at lambda 0.01 for two epochs on a few images unless told otherwise."""
    return train(configure("train", root, *quiet([*TINY, *QUICK, *SMALL, *overrides])))


def test_a_trained_rate_says_what_it_is(trained: Path) -> None:
    info = read_info(trained / FOLDER / "lambda=0.03.safetensors")
    assert (info.model, info.split, info.data, info.lmbda) == ("tiny", "body", "digits", 0.03)
    assert info.feature_shape == ((16, 8, 8),) and info.image_shape == [3, 32, 32]
    assert info.backbone["weights"] == "../../backbone/digits.safetensors"
    assert {"val/loss", "val/bpp", "val/accuracy", "val/agreement", "val/distortion_kd"} <= set(info.metrics)
    assert info.class_names == [str(digit) for digit in range(10)]
    assert not (trained / FOLDER / ".resume").exists()


def test_a_finished_rate_is_kept_and_said_so(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = own / FOLDER / "lambda=0.01.safetensors"
    before = path.stat().st_mtime_ns
    assert run(own, *QUICKEST) == {}
    assert "finished with these very settings" in " ".join(capsys.readouterr().out.split())
    assert path.stat().st_mtime_ns == before
    assert set(run(own, *QUICKEST, "lambda=[0.01,0.02]")) == {path.with_name("lambda=0.02.safetensors")}


def test_other_settings_are_refused_unless_told_to_overwrite(own: Path) -> None:
    path = own / FOLDER / "lambda=0.01.safetensors"
    before = path.read_bytes()
    with pytest.raises(UsageError, match=r"training.epochs 1 -> 0\).*overwrite=true.*unit.name=mine"):
        run(own, *QUICKEST, "training.epochs=0")
    assert path.read_bytes() == before
    run(own, *QUICKEST, "training.epochs=0", "overwrite=true")
    assert read_info(path).training["training"]["epochs"] == 0
    (variant,) = run(own, *QUICKEST, "unit.name=wide", "unit.restorer=4")
    assert variant.parent == path.parent / "unit=wide"


def test_a_rate_that_another_run_has_written_meanwhile_is_not_replaced(
    own: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs, path = own / FOLDER / "lambda=0.01.safetensors", root / FOLDER / "lambda=0.01.safetensors"
    step = LadderModule.on_validation_epoch_end

    def finish_first(module: LadderModule) -> None:
        step(module)
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(theirs, path)

    monkeypatch.setattr(LadderModule, "on_validation_epoch_end", finish_first)
    other = (*QUICKEST, "lambda=[0.01,0.02]", "training.epochs=0")
    with pytest.raises(
        UsageError, match=r"lambda=0\.01\.safetensors \(training.epochs 1 -> 0\): another run, of other"
    ):
        run(root, *other)
    assert path.read_bytes() == theirs.read_bytes() and path.with_name("lambda=0.02.safetensors").exists()
    monkeypatch.undo()
    path.unlink()
    assert set(run(root, *other, "resume=true")) == {path}


def test_the_same_settings_give_the_same_file(root: Path) -> None:
    (path,) = run(root)
    first = path.read_bytes()
    run(root, "overwrite=true")
    assert path.read_bytes() == first


def run_factorized(root: Path, *overrides: str) -> dict[Path, object]:
    """Train units that begin with convolutions, which have no setting `structure`."""
    quick = [option for option in QUICK if not option.startswith("unit.")]
    return train(configure("train", root, *quiet([*TINY, *quick, *SMALL, *overrides])))


def interrupt(root: Path, monkeypatch: pytest.MonkeyPatch, epoch: int, *overrides: str) -> None:
    """Train until a given epoch has been saved, and die there."""
    save = ResumeState.on_train_epoch_end

    def die(self: ResumeState, trainer: object, module: object) -> None:
        save(self, trainer, module)  # type: ignore[arg-type]
        if trainer.current_epoch == epoch:  # type: ignore[attr-defined]
            raise SystemError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(ResumeState, "on_train_epoch_end", die)
        with pytest.raises(SystemError, match="killed"):
            run(root, *overrides)


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(
    root: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("training.epochs=4", "data.augment=true", "data.limit_train=256", "data.limit_val=50")
    other = tmp_path_factory.mktemp("uninterrupted")
    shutil.copytree(root / "checkpoints", other / "checkpoints")
    (expected,) = run(other, *options)
    interrupt(root, monkeypatch, 1, *options)
    assert not (root / FOLDER / "lambda=0.01.safetensors").exists()
    (path,) = run(root, *options, "resume=true")
    assert path.read_bytes() == expected.read_bytes()
    assert not (path.parent / ".resume").exists()


@pytest.mark.slow
def test_a_resumed_ladder_may_be_listed_in_another_order(
    root: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("data.limit_train=128", "data.limit_val=50")
    other = tmp_path_factory.mktemp("uninterrupted")
    shutil.copytree(root / "checkpoints", other / "checkpoints")
    expected = run(other, *options, "lambda=[0.001,0.1]")
    interrupt(root, monkeypatch, 0, *options, "lambda=[0.001,0.1]")
    written = run(root, *options, "lambda=[0.1,0.001]", "resume=true")
    assert {path.name: path.read_bytes() for path in written} == {path.name: path.read_bytes() for path in expected}


def test_resume_refuses_another_number_of_processes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(ResumeState, "setup", lambda self, *_, **__: setattr(self, "world_size", 2))
        interrupt(root, monkeypatch, 0)
    with pytest.raises(UsageError, match=r"was made by 2 processes, these are 1; start as many, or start anew"):
        run(root, "resume=true")


def test_many_rates_fit_in_a_file_name(tmp_path: Path) -> None:
    lmbdas = [10 ** (-4 + index / 20) for index in range(64)]
    name = ResumeState(tmp_path, lmbdas, {}).path.name
    assert len(name) < 100 and name == ResumeState(tmp_path, lmbdas[::-1], {}).path.name
    assert name != ResumeState(tmp_path, lmbdas[1:], {}).path.name


def test_a_file_of_another_rate_is_not_kept_for_this_one(own: Path) -> None:
    path = own / FOLDER / "lambda=0.01.safetensors"
    shutil.copy(path, path.with_name("lambda=0.5.safetensors"))
    with pytest.raises(UsageError, match=r"lambda=0\.5\.safetensors: holds lambda=0\.01; name it so"):
        run(own, *QUICKEST, "lambda=0.5")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("overwrite=no", r"overwrite=no: expected true or false"),
        ("resume=maybe", r"resume=maybe: expected true or false"),
        ("training.warm_start=off", r"training.warm_start=off: expected true or false"),
        ("data.augment=on", r"data.augment=on: expected true, false or auto"),
        ("data.views=1.5", r"data.views=1.5: expected a whole number"),
        ("data.num_workers=-1", r"data.num_workers=-1: expected a whole number of at least 0"),
        ("loss.kd=nan", r"loss.kd=nan: expected a number"),
        ("loss.ce=abc", r"loss.ce=abc: expected a number"),
        ("paths.cache=null", r"paths.cache=None: expected a folder"),
        ("trainer.precision=bf16-true", r"trainer.precision=bf16-true: rates are counted in 32 bits or more"),
        ("+trainer.no_such_thing=1", r"trainer: Lightning takes no such settings \(.*no_such_thing"),
        ("trainer.precision=16-mixed", r"trainer.precision=16-mixed: the device is a cpu, .* bf16-mixed in its place"),
        ("+trainer.limit_val_batches=0", r"no epoch ended in an evaluation on the held-back images"),
    ],
)
def test_what_cannot_be_meant_is_refused(root: Path, override: str, message: str) -> None:
    with pytest.raises(Exception, match=message) as error:
        run(root, "training.epochs=1", "data.limit_train=64", override)
    assert isinstance(error.value.__cause__ or error.value, UsageError)  # Hydra wraps what a constructor raises


def test_processes_that_would_all_do_the_same_are_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(UsageError, match=r"4 processes were started and the trainer uses 1.*trainer.devices=4"):
        run(root)


def test_a_huge_cache_limit_is_no_limit(root: Path) -> None:
    assert run(root, "training.epochs=1", "data.limit_train=64", "training.cache_memory_gib=1e308")


def test_a_file_gets_a_line_an_epoch(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(root, "data.limit_train=64")
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Epoch ")]
    assert [line.split(":")[0] for line in lines] == ["Epoch 1 of 2", "Epoch 2 of 2"]
    assert all("val_loss" in line for line in lines)


def test_resume_refuses_other_settings(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt(root, monkeypatch, 0)
    with pytest.raises(UsageError, match=r"made with other settings \(loss.ce 0.0 -> 1.0\)"):
        run(root, "resume=true", "loss.ce=1.0")


def test_resume_refuses_a_damaged_state(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt(root, monkeypatch, 0)
    state = root / FOLDER / ".resume" / "lambda=0.01.ckpt"
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(UsageError, match=r"lambda=0.01.ckpt is damaged .* start anew with overwrite=true"):
        run(root, "resume=true")
    run(root, "overwrite=true")
    assert not state.exists()


def test_resume_refuses_another_backbone(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt(root, monkeypatch, 0)
    backbone = root / "checkpoints/tiny/backbone/digits.safetensors"
    tensors, metadata = read_safetensors(backbone)
    tensors["stem.0.weight"] *= 2
    write_safetensors(backbone, tensors, metadata)
    with pytest.raises(UsageError, match=r"made with other settings \(backbone [0-9a-f]{16} -> [0-9a-f]{16}\)"):
        run(root, "resume=true")


def test_an_interrupted_run_is_not_discarded_unasked(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt(root, monkeypatch, 0)
    with pytest.raises(UsageError, match=r"an interrupted run, .*lies at .*resume=true, or discard it with overwrite"):
        run(root)
    state = root / FOLDER / ".resume" / "lambda=0.01.ckpt"
    (state.parent / f".{state.name}.123.tmp").write_bytes(b"left by a kill")
    assert len(run(root, "overwrite=true")) == 1
    assert not state.parent.exists()


def test_a_run_cut_off_between_two_rates_writes_them_all(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = {path: path.read_bytes() for path in run(root, "lambda=[0.01,0.02]")}
    run_again = ("lambda=[0.01,0.02]", "overwrite=true")
    with monkeypatch.context() as patch:
        patch.setattr(ResumeState, "remove", lambda self: None)
        run(root, *run_again)  # as if killed after the last rate: the state is still there
    (folder,) = {path.parent for path in expected}
    (folder / "lambda=0.02.safetensors").unlink()
    assert set(run(root, "lambda=[0.01,0.02]", "resume=true")) == set(expected)
    assert {path: path.read_bytes() for path in expected} == expected
    assert not (folder / ".resume").exists()


def test_an_interrupt_says_how_to_go_on(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def press_control_c(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("bottlenecks.training.module.LadderModule.on_train_epoch_end", press_control_c)
    with pytest.raises(UsageError, match=r"interrupted in epoch 1; go on with resume=true"):
        run(root)


@pytest.mark.slow
def test_a_killed_loading_process_is_named_and_nothing_is_lost(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ("data.num_workers=1", "training.cache_features=false", "data.limit_train=128", "data.limit_val=32")
    step = LadderModule.training_step

    def kill(self: LadderModule, batch: object, batch_idx: int) -> object:
        if self.current_epoch == 1:
            for worker in multiprocessing.active_children():
                worker.kill()
                worker.join()
        return step(self, batch, batch_idx)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(LadderModule, "training_step", kill)
        with pytest.raises(
            UsageError, match=r"data.num_workers: a loading process was killed .*in epoch 2; go on with resume=true"
        ):
            run(root, *options)
    assert len(run(root, *options, "resume=true")) == 1


def test_resume_without_a_state_starts_from_the_beginning(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(run(root, "resume=true")) == 1
    assert "nothing to go on from" in " ".join(capsys.readouterr().out.split())


@pytest.mark.slow
def test_a_killed_process_leaves_nothing_broken_and_is_resumed(root: Path) -> None:
    paths = [f"paths.{name}={root / name}" for name in ("checkpoints", "results", "logs")]
    long = ("training.epochs=40", "data.limit_train=128", "data.limit_val=32", "training.calibration_images=64")
    options = [*quiet([*TINY, *QUICK]), *paths, *long]
    command = [sys.executable, "-W", "ignore", "train.py", *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, cwd=REPOSITORY, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    state = root / FOLDER / ".resume" / "lambda=0.01.ckpt"
    while not state.exists():
        assert process.poll() is None, "training ended before it could be killed"
        time.sleep(0.02)
    time.sleep(0.3)  # into another epoch, or the writing of its state
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (root / FOLDER / "lambda=0.01.safetensors").exists()
    saved = torch.load(state, weights_only=True)
    assert 0 < saved["epoch"] + 1 < 40
    (path,) = run(root, *long, "resume=true")
    load_rate(path)


@pytest.mark.slow
def test_a_backbone_is_trained_kept_and_fine_tuned_for_other_classes(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = root / "checkpoints/tiny/backbone/digits.safetensors"
    before = path.read_bytes()
    assert run(root, "stage=backbone") == {}
    assert path.read_bytes() == before and "overwrite=true" in " ".join(capsys.readouterr().out.split())

    torch.save(Tiny(num_classes=7).state_dict(), root / "seven.pt")
    options = (
        "overwrite=true",
        "backbone.epochs=6",
        "backbone.lr=1e-2",
        "data.limit_train=null",
        "data.limit_val=null",
    )
    run(root, "stage=backbone", f"model.weights={root / 'seven.pt'}", *options)
    said = " ".join(capsys.readouterr().out.split())
    assert "new: classifier.weight, classifier.bias" in said and "on held-back images" in said
    tensors, metadata = read_safetensors(path)
    assert tensors["classifier.bias"].shape == (10,)
    assert tensors["stem.1.num_batches_tracked"] == 6 * 18 and tensors["stem.1.running_mean"].any()
    assert metadata["val/accuracy"] > 0.3 and metadata["preprocessing"]["resize"] == [32, 32]


def test_a_backbone_cannot_start_from_weights_of_something_else(root: Path) -> None:
    torch.save({"other": torch.zeros(3)}, root / "other.pt")
    with pytest.raises(UsageError, match=r"other.pt: none of its tensors fits tiny"):
        run(root, "stage=backbone", "overwrite=true", f"model.weights={root / 'other.pt'}")


def test_differences_name_nested_settings() -> None:
    old = {"a": 1, "b": {"c": 2, "d": 3}}
    assert differences(old, {"a": 1, "b": {"c": 2, "d": 4}, "e": 5}) == "b.d 3 -> 4, e None -> 5"
    assert differences(old, old) == ""


def test_a_loss_that_is_never_finite_is_an_error_and_writes_nothing(root: Path) -> None:
    with pytest.raises(UsageError, match=r"lambda=1e\+38: the loss never was a finite number; .* lower training.lr"):
        run(root, "lambda=1e38", "training.lr=1e30", "training.gradient_clip=0")
    assert not list((root / FOLDER).glob("*.safetensors"))


def test_loggers_get_every_rates_series_under_the_same_keys(root: Path) -> None:
    run(root, "logger=csv", "lambda=[0.01,0.02]")
    headers = [
        path.read_text().splitlines()[0]
        for path in sorted((root / "logs/tiny/body/digits").glob("lambda=*/version_0/metrics.csv"))
    ]
    assert len(headers) == 2 and headers[0] == headers[1]
    for key in ("train/bpp", "val/bpp", "val/bits_per_element", "val/accuracy", "val/agreement", "val/distortion_kd"):
        assert key in headers[0].split(",")
    (summary,) = (root / "logs").rglob("summary/version_0/metrics.csv")
    keys = summary.read_text().splitlines()[0].split(",")
    assert {"val_loss", "lambda=0.01/val/bpp", "lambda=0.02/val/loss"} <= set(keys)


@pytest.mark.slow
def test_the_shipped_sweep_runs_as_written(
    root: Path, monkeypatch: pytest.MonkeyPatch, command: Callable[..., tuple[int, str]]
) -> None:
    """What the agent runs for a trial, on a stand-in network; one run, named as the agent names it."""
    sweep = OmegaConf.load(REPOSITORY / "configs/sweep/unit.yaml")
    for name, value in {"WANDB_SWEEP_ID": "s1", "WANDB_RUN_ID": "r1", "WANDB_MODE": "offline"}.items():
        monkeypatch.setenv(name, value)
    trial = {name: one.get("value", one.get("min", 8)) for name, one in sweep.parameters.items()}
    arguments = [f"{name}={value}" for name, value in trial.items()]
    last = OmegaConf.to_container(sweep, resolve=False)["command"][-1]
    paths = [f"paths.{name}={root / name}" for name in ("checkpoints", "results", "logs")]
    options = quiet([*TINY, "training.epochs=2", "data.limit_train=128"])
    assert command(main, *arguments, last, *options, *paths) == (0, ANY)
    assert (root / FOLDER / "unit=sweep-r1" / "lambda=0.01.safetensors").exists()
    wandb.teardown()  # it keeps the trial's environment
    (folder,) = (root / "logs" / "wandb").glob("offline-run-*")
    assert folder.name.endswith("-r1")


@pytest.mark.slow
def test_a_multirun_trains_every_split(root: Path, command: Callable[..., tuple[int, str]]) -> None:
    paths = [f"paths.{name}={root / name}" for name in ("checkpoints", "results", "logs")]
    options = quiet([*TINY, *QUICK, "data.limit_train=128", "split=stem,body", "lambda=[0.01,0.02]"])
    assert command(main, "-m", *options, *paths) == (0, ANY)
    written = {path.relative_to(root / "checkpoints/tiny") for path in (root / "checkpoints/tiny").rglob("lambda=*")}
    assert written == {
        Path(f"{split}/digits/lambda={lmbda}.safetensors") for split in ("stem", "body") for lmbda in (0.01, 0.02)
    }


@pytest.mark.slow
def test_wandb_works_offline_without_an_account(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(root))
    run(root, "logger=wandb", "lambda=[0.01,0.02]")
    folders = list((root / "logs" / "wandb").glob("offline-run-*"))
    assert len(folders) == 3 and all(list(folder.glob("*.wandb")) for folder in folders)
    (summary,) = (folder for folder in folders if (folder / "files/media").exists())
    images = [path.name for path in summary.glob("files/media/images/**/*.png")]
    assert sum(name.startswith("rate_accuracy") for name in images) == 3  # the start, and one an epoch
    assert len([*summary.glob("files/media/images/bits_per_channel/lambda=0.0[12]_*.png")]) == 6
    (table,) = summary.glob("files/media/table/rates_*.json")
    assert [row[0] for row in json.loads(table.read_text())["data"]] == ["0.01", "0.02"]


@pytest.mark.parametrize(
    "override",
    [
        "data.limit_test=50",
        "data.skip_damaged=true",
        "+trainer.profiler=simple",
        "+trainer.benchmark=false",
        "trainer.precision=32",
        "training.calibration_images=32",
        "training.warm_start=false",
        "training.entropy_lr=1",
        "data.views=3",
        "data.flip=true",
    ],
)
def test_what_a_unit_does_not_depend_on_leaves_it_finished(finished: Path, override: str) -> None:
    option = f"+{override}" if override.startswith("data.skip_damaged") else override
    assert run(finished, *QUICKEST, option) == {}


@pytest.mark.parametrize(
    ("override", "difference"),
    [
        ("data.limit_train=60", r"data.limit_train 64 -> 60, images.train 64 images \(\w+\) -> 60 images \(\w+\)"),
        ("+trainer.accumulate_grad_batches=2", "trainer.accumulate_grad_batches None -> 2"),
        ("training.linear_lr=0.1", r"training.linear_lr 0.005 -> 0.1"),
        ("data.seed=1", "data.seed 0 -> 1"),
        ("data.augment=true", "data.augment False -> True"),
    ],
)
def test_what_a_unit_depends_on_is_told(finished: Path, override: str, difference: str) -> None:
    with pytest.raises(UsageError, match=rf"was trained otherwise \({difference}"):
        run(finished, *QUICKEST, override)


def test_every_setting_of_training_is_known_to_bear_on_the_outcome_or_not() -> None:
    """A new one that is in neither list would let a finished rate stay that was trained without it."""
    without = {"cache_features", "cache_memory_gib", "cache_disk_gib", "rates_per_pass"}
    without |= {"fold_batch_norm", "channels_last"}
    known = {*relevant.ANY_UNIT, *(name for names in relevant.OWN.values() for name in names)}
    assert set(configure("train", Path()).training) == known | without


def test_a_resumed_run_may_have_other_settings_that_do_not_matter(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt(root, monkeypatch, 0, "data.limit_train=64")
    options = ("data.limit_train=64", "data.limit_test=10", "+trainer.profiler=simple", "resume=true")
    assert len(run(root, *options)) == 1


def test_other_ways_to_train_come_to_nearly_the_same(finished: Path) -> None:
    """Batches that are added up have noise of their own, and bfloat16 three digits."""
    longer = ("training.epochs=3", "data.limit_train=256", "unit=factorized", "lambda=0.05")
    ways = {
        "usual": (),
        "bfloat16": ("trainer.precision=bf16-mixed",),
        "accumulated": ("data.batch_size=32", "+trainer.accumulate_grad_batches=2"),
    }
    losses = {}
    for name, overrides in ways.items():
        (path,) = run_factorized(finished, *longer, f"unit.name={name}", *overrides)
        losses[name] = read_info(path).metrics["val/loss"]
    assert [*losses.values()] == pytest.approx([losses["usual"]] * 3, rel=0.05)
    assert len(set(losses.values())) == 3
