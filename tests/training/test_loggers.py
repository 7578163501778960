"""W&B's mode without a prompt, and what the other loggers do with tables and files."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests
import wandb

from bottlenecks.environment import LOOPBACK, spare_loopback
from bottlenecks.errors import UsageError
from bottlenecks.training.loggers import close, csv_logger, log_file, log_image, log_table
from bottlenecks.training.wandb_runs import wandb_logger, wandb_mode
from evaluate import evaluate
from tests.conftest import TINY, configure, quiet
from train import train

URL = "https://wandb.example"
SHORT = (
    "training.epochs=0",
    "data.limit_train=64",
    "training.fit_images=64",
    "unit.structure=separable",
    "unit.block=4",
    "unit.restorer=0",
    "data.augment=false",
)
RATES = Path("checkpoints/tiny/body/digits")


@pytest.fixture(autouse=True)
def _nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_DISABLED", "NETRC", "NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    wandb.teardown()  # it keeps the environment that it met first
    yield
    wandb.teardown()


@pytest.fixture
def root(trained: Path, tmp_path: Path) -> Path:
    """A folder that has the tiny backbone and nothing else."""
    shutil.copytree(trained / "checkpoints/tiny/backbone", tmp_path / "checkpoints/tiny/backbone")
    return tmp_path


def run(root: Path, *overrides: str) -> list[str]:
    """Train two rates; give their names."""
    written = train(
        configure("train", root, *quiet([*TINY, *SHORT, "data.augment=false", "lambda=[0.01,0.02]", *overrides]))
    )
    assert all((root / RATES / path.name).exists() for path in written)
    return sorted(path.name for path in written)


def open_runs(folder: Path) -> int:
    """Open a W&B run as the shipped configuration does; give how many there are then."""
    close(wandb_logger(folder, "run", "group", "train", {}, "bottlenecks"))
    return len([*folder.glob("wandb/offline-run-*")])


BOTH = ["lambda=0.01.safetensors", "lambda=0.02.safetensors"]


def test_nobody_logged_in_means_offline() -> None:
    assert wandb_mode(URL) == "offline"


def test_a_key_means_online_and_the_environment_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    assert wandb_mode(URL) == "online"
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert wandb_mode(URL) == "disabled"


def test_a_login_kept_for_this_server_means_online(tmp_path: Path) -> None:
    (tmp_path / ".netrc").write_text("machine wandb.example login user password key\n")
    (tmp_path / ".netrc").chmod(0o600)
    assert wandb_mode(URL) == "online"
    assert wandb_mode("https://elsewhere.example") == "offline"


def test_other_loggers_pass_over_what_they_cannot_show(tmp_path: Path) -> None:
    for logger in (None, csv_logger(tmp_path, "run", "group")):
        log_table(logger, "table", ["a"], [[1]])
        log_image(logger, "image", tmp_path / "none.png")
        log_file(logger, "rate", "rate", tmp_path / "none", {})
        close(logger)


@pytest.mark.parametrize(
    "at", ["open", "log_metrics", *(pytest.param(at, marks=pytest.mark.slow) for at in ("finalize", "save_dir"))]
)
def test_a_logger_that_fails_is_one_line(root: Path, at: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(root, "logger._target_=tests.loggers.Failing", f"+logger.at={at}") == BOTH
    said = capsys.readouterr().out
    assert said.count("No space left on device); the run goes on without it") == 1


def test_a_logger_that_fails_leaves_the_others_their_own_series(root: Path) -> None:
    assert run(root, "logger._target_=tests.loggers.Failing", '+logger.at="lambda=0.01"') == BOTH
    (series,) = (root / "logs").glob("lambda=0.02/version_0/metrics.csv")
    (summary,) = (root / "logs").glob("summary/version_0/metrics.csv")
    names, values = (line.split(",") for line in summary.read_text().splitlines()[:2])
    expected = values[names.index("lambda=0.02/val/bpp")]
    names, values = (line.split(",") for line in series.read_text().splitlines()[:2])
    assert values[names.index("val/bpp")] == expected


@pytest.mark.slow
@pytest.mark.parametrize("at", ["open", "finalize"])
def test_a_curve_outlives_its_logger(
    trained: Path, tmp_path: Path, at: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(trained / "checkpoints", tmp_path / "checkpoints")
    options = ("logger._target_=tests.loggers.Failing", f"+logger.at={at}", "data.limit_test=20", "timed_images=1")
    evaluate(configure("evaluate", tmp_path, *TINY, *options))
    assert (tmp_path / "results/tiny/body/digits/curve.json").exists()
    assert "the run goes on without it" in capsys.readouterr().out


@pytest.mark.slow
def test_a_staging_folder_that_cannot_be_written_loses_nothing(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "file").touch()
    monkeypatch.setenv("WANDB_DATA_DIR", str(root / "file/data"))
    assert run(root, "logger=wandb") == BOTH
    assert capsys.readouterr().out.count("WandbLogger failed") == 1


@pytest.mark.slow
@pytest.mark.parametrize("mode", [pytest.param("auto", marks=pytest.mark.slow), "online"])
def test_a_key_without_a_way_out_means_offline(
    root: Path, mode: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("bottlenecks.training.wandb_runs.UNREACHABLE", set())
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    assert run(root, "logger=wandb", f"logger.mode={mode}") == BOTH
    assert capsys.readouterr().out.count("W&B at http://127.0.0.1:9 cannot be used") == 1
    assert len([*(root / "logs/wandb").glob("offline-run-*")]) == 3


def test_a_server_on_this_machine_is_asked_past_the_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    init, modes = wandb.init, []

    def begin(*, mode: str, **settings: Any) -> Any:
        modes.append(mode)
        return init(**settings, mode="disabled")

    monkeypatch.setattr(wandb, "init", begin)
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.server_port}")
        wandb_logger(tmp_path, "run", "group", "train", {}, "bottlenecks")
        server.shutdown()
    assert modes == ["online"]


@pytest.mark.parametrize(("excepted", "then"), [("", ""), ("*", "*"), ("example.org", f"example.org,{LOOPBACK}")])
def test_loopback_is_excepted_where_there_is_a_proxy(excepted: str, then: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", excepted)
    if excepted:
        monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    for _ in range(2):
        spare_loopback()
        assert os.environ["NO_PROXY"] == then
    proxied = bool(requests.utils.get_environ_proxies("https://elsewhere.example"))
    assert proxied == (excepted == "example.org")


@pytest.mark.parametrize(
    ("name", "value", "runs"),
    [
        ("WANDB_DISABLED", "true", 0),
        ("WANDB_DISABLED", "false", 1),
        ("WANDB_MODE", "disabled", 0),
        ("WANDB_MODE", "dryrun", 1),
        ("WANDB_MODE", " OFFLINE", 1),
        ("WANDB_MODE", "", 1),
        ("WANDB_MODE", "of", 1),
    ],
)
def test_switches_are_obeyed(
    name: str,
    value: str,
    runs: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(name, value)
    assert open_runs(tmp_path) == runs
    assert ("WANDB_MODE=of: expected one of online, " in capsys.readouterr().out) == (value == "of")


@pytest.mark.parametrize(("mode", "runs"), [("disabled", 0), ("offline", 1)])
def test_what_wandb_itself_was_told_is_obeyed(
    mode: str, runs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`wandb disabled` and `wandb offline` write it into a file."""
    (tmp_path / "wandb").mkdir()
    (tmp_path / "wandb/settings").write_text(f"[default]\nmode = {mode}\n")
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    monkeypatch.chdir(tmp_path)
    assert open_runs(tmp_path) == runs


def test_a_run_without_wandb_goes_through(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_DISABLED", "true")
    assert run(root, "logger=wandb") == BOTH


def test_settings_of_a_logger_are_still_refused(root: Path) -> None:
    with pytest.raises(UsageError, match=r"logger.mode=of: expected one of auto, online"):
        run(root, "logger=wandb", "logger.mode=of")
