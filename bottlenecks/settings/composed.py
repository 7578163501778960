"""The shipped configurations from within Python: composed as the commands do, and changed by values of any type."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from bottlenecks.console.cli import CONFIGS
from bottlenecks.errors import UsageError, closest


def composed(command: str, overrides: list[str]) -> DictConfig:
    """Compose the shipped configuration of a command."""
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose(command, overrides)


def change(cfg: DictConfig, settings: Mapping[str, Any]) -> None:
    """Give settings values of any type.

    Raises:
        UsageError: there is no such setting.
    """
    for name, value in settings.items():
        parent, _, key = name.rpartition(".")
        node = OmegaConf.select(cfg, parent) if parent else cfg
        if not OmegaConf.is_dict(node) or key not in node:
            known = [str(one) for one in (node if OmegaConf.is_dict(node) else cfg)]
            raise UsageError(f"settings: no such setting as {name}; closest: {closest(key, known)}")
        OmegaConf.update(cfg, name, value)
