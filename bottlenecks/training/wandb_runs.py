"""Weights & Biases without an account or a prompt."""

from __future__ import annotations

import netrc
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from pytorch_lightning.loggers import Logger, WandbLogger

from bottlenecks.console.terminal import say
from bottlenecks.environment import prescribed, spare_loopback
from bottlenecks.errors import UsageError, reason
from bottlenecks.settings.experiment import LOGGER_MODES

WANDB_MODES = {"online": "online", "run": "online", "shared": "shared", "offline": "offline", "dryrun": "offline"}
WANDB_MODES |= {"disabled": "disabled"}
OFF = ("", "0", "false", "no", "off", "n", "f")  # values of a switch that is not on
PATIENCE = 5.0  # seconds for a server to answer at all
UNREACHABLE: set[str] = set()  # servers that this process has given up


def wandb_logger(
    folder: Path,
    name: str,
    group: str,
    job_type: str,
    settings: Mapping[str, Any],
    project: str,
    mode: str = "auto",
) -> Logger | None:
    """Open a W&B run of its own, beside others of the same process; None where W&B is switched off.

    A server that cannot be reached, or does not take the key, is told of once; runs are then offline.

    Args:
        folder: where an offline run lies until `wandb sync`.
        name: of the run, such as `lambda=0.01`.
        group: runs of one ladder.
        job_type: `train` or `evaluate`.
        settings: what the run shows as its configuration.
        project: of the run.
        mode: `online`, `offline`, `disabled`, or `auto`: as W&B's own switches say (`WANDB_MODE`, `WANDB_DISABLED`,
            `wandb disabled`, `wandb offline`), else online where logged in, else offline, never a prompt.
    """
    if mode not in LOGGER_MODES:
        raise UsageError(f"logger.mode={mode}: expected one of {', '.join(LOGGER_MODES)}")
    switch = _switch() if mode == "auto" else mode
    if switch == "disabled":
        return None
    spare_loopback()
    import wandb  # takes a second, and only this logger needs it

    shared = wandb.setup().settings
    if switch is None:
        switch = wandb_mode(shared.base_url, shared.mode)
    if switch == "disabled":
        return None

    def begin(mode: str) -> Logger:
        run = wandb.init(
            project=project,
            name=name,
            group=group,
            job_type=job_type,
            config=dict(settings),
            dir=str(folder),
            mode=mode,  # type: ignore[arg-type]
            reinit="create_new",
            settings=wandb.Settings(silent=True),
        )
        return WandbLogger(experiment=run, save_dir=str(folder))

    if switch == "online":
        try:
            _knock(shared.base_url)
            return begin("online")
        except Exception as error:  # each release of the client raises others of its own
            if shared.base_url not in UNREACHABLE:
                UNREACHABLE.add(shared.base_url)
                why = f"{reason(error)}{prescribed()}"
                say(f"W&B at {shared.base_url} cannot be used ({why}); this run is logged offline")
            switch = "offline"
    return begin(switch)


def wandb_mode(base_url: str, usual: str = "online") -> str:
    """Decide whether W&B is wanted, and can be reached with a key that is already there.

    Args:
        base_url: of the server.
        usual: the mode that W&B's own settings name.
    """
    switch = _switch() or (WANDB_MODES[usual] if usual != "online" else None)
    if switch:
        return switch
    if os.environ.get("WANDB_API_KEY"):
        return "online"
    try:
        known = netrc.netrc().authenticators(urlparse(base_url).netloc)
    except (OSError, netrc.NetrcParseError):
        known = None
    return "online" if known else "offline"


def _switch() -> str | None:
    """Read the switches of the environment; W&B itself stops at a mode that it does not know."""
    if os.environ.get("WANDB_DISABLED", "").strip().lower() not in OFF:
        return "disabled"
    asked = os.environ.get("WANDB_MODE")
    mode = WANDB_MODES.get((asked or "").strip().lower())
    if asked is not None and mode is None:
        if asked.strip():
            say(f"WANDB_MODE={asked}: expected one of {', '.join(WANDB_MODES)}; taken as if it were not set")
        del os.environ["WANDB_MODE"]
    elif mode is not None:
        os.environ["WANDB_MODE"] = mode  # W&B itself knows one spelling of each
    return mode


def _knock(base_url: str) -> None:
    """Ask a server for any answer: W&B itself waits for a minute and a half.

    Raises:
        OSError: there is none, or there was none before.
    """
    import requests

    if base_url in UNREACHABLE:
        raise OSError("it was tried before")
    requests.head(base_url, timeout=PATIENCE)
