"""The shipped configurations from within Python: composed as the commands do, and changed by values of any type."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.types import RunMode
from hydra.version import VersionBase, setbase
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from bottlenecks.console.cli import CONFIGS
from bottlenecks.errors import UsageError, closest, reason
from bottlenecks.settings.model import BackboneSpec
from bottlenecks.values import check_kind, plain_value

VERSION = "1.3"  # of Hydra's rules, that the shipped configurations are written by
GIVEN_ELSEWHERE: Mapping[str, str] = {
    "model": "bn.cut(model, name=…, task=…, distortion=…, outputs=…)",
    "split": "bn.cut(…, at=…)",
    "several": "bn.cut(…, several=…)",
    "task": "bn.cut(…, task=…)",
    "data": "bn.fit(…, name=…)",
    "paths.checkpoints": "bn.fit(…, folder=…)",
    "stage": "python train.py stage=backbone",
}  # settings of commands that a program's own network and images stand for
_one_at_a_time = threading.Lock()


def composed(command: str, overrides: list[str]) -> DictConfig:
    """Compose the shipped configuration of a command, whatever Hydra does elsewhere in the process."""
    with _rules_of(VERSION):
        loader = ConfigLoaderImpl(create_config_search_path(str(CONFIGS)))
        cfg = loader.load_configuration(command, overrides, RunMode.RUN, from_shell=False)
    with open_dict(cfg):
        del cfg["hydra"]
    return cfg


def composed_for(spec: BackboneSpec, split: str, data: str, unit: str, folder: Path) -> DictConfig:
    """Compose the configuration that `train.py` would have for a network and images of a program's own.

    Args:
        spec: of the network.
        split: where it is cut.
        data: name of the images.
        unit: a file in `configs/unit/`.
        folder: where everything is written.

    Raises:
        UsageError: there is no such unit.
    """
    known = sorted(path.stem for path in (CONFIGS / "unit").glob("*.yaml"))
    if unit not in known:
        raise UsageError(f"unit={unit}: no such unit; there are {', '.join(known)}")
    cfg = composed("train", ["model=custom", f"unit={unit}", "logger=none"])
    places = {name: folder / name for name in ("logs", "cache")}
    own = {"split": split, "data": {"name": data}, "paths": {**cfg.paths, **places, "checkpoints": folder}}
    for name, value in {**own, "model": {**spec.to_dict(), "split": split}}.items():
        cfg[name] = _literal(plain_value(value))
    return cfg


def change(cfg: DictConfig, settings: Mapping[str, Any] | None) -> None:
    """Give settings values of any type; texts stand for themselves, also where they have Hydra's `${…}` in them.

    Raises:
        UsageError: there is no such setting, or it cannot have such a value.
    """
    check_kind("settings", {} if settings is None else settings, Mapping, 'write settings={"training.epochs": 0}')
    for name, value in (settings or {}).items():
        for taken, way_out in GIVEN_ELSEWHERE.items():
            if f"{name}.".startswith(f"{taken}."):
                raise UsageError(f"settings: {name}={value!r}: nothing reads it here; give it as {way_out}")
        _set(cfg, str(name).split("."), plain_value(value), str(name))


def _set(node: Any, path: list[str], value: Any, name: str) -> None:
    """Set what lies at a path below a node; a mapping sets the settings of a group one by one."""
    key, *rest = path
    if not OmegaConf.is_dict(node) or key not in node:
        known = [str(one) for one in node] if OmegaConf.is_dict(node) else []
        near = f"closest: {closest(key, known)}" if known else f"{name.rpartition('.')[0]} has none of its own"
        raise UsageError(f"settings: no such setting as {name}; {near}")
    if rest:
        _set(node[key], rest, value, name)
    elif isinstance(value, dict) and OmegaConf.is_dict(node[key]):
        for inner, one in value.items():
            _set(node[key], [str(inner)], one, f"{name}.{inner}")
    else:
        try:
            node[key] = _literal(value)
        except OmegaConfBaseException as error:
            raise UsageError(
                f"settings: {name}={value!r}: expected numbers, texts, or lists of such ({reason(error)})"
            ) from None


def _literal(value: Any) -> Any:
    """Write a plain value so that OmegaConf takes no text in it for a reference to another setting."""
    if isinstance(value, str):
        return re.sub(r"(\\*)\$\{", r"\1\1\\${", value)
    if isinstance(value, dict):
        return {name: _literal(one) for name, one in value.items()}
    return [*map(_literal, value)] if isinstance(value, list) else value


@contextmanager
def _rules_of(version: str) -> Iterator[None]:
    """Let Hydra go by a version's rules, one thread at a time, and by those of before afterwards."""
    with _one_at_a_time:
        before = VersionBase.instance().version_base
        setbase(version)
        try:
            yield
        finally:
            VersionBase.instance().version_base = before
