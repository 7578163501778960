"""W&B's mode without a prompt, and what the other loggers do with tables and files."""

from __future__ import annotations

from pathlib import Path

import pytest

from bottlenecks.tracking import close, csv_logger, log_file, log_picture, log_table, wandb_mode

URL = "https://wandb.example"


@pytest.fixture(autouse=True)
def _nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


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
        log_picture(logger, "picture", tmp_path / "none.png")
        log_file(logger, "rate", "rate", tmp_path / "none", {})
        close(logger)
