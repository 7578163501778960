"""What every command that has data, a network and a unit refuses, whatever is on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from bottlenecks.errors import UsageError, check_flag, check_name, check_number, quoted
from bottlenecks.rates.places import rate_folder
from bottlenecks.settings.data import Kind, check_data, kind_of
from bottlenecks.settings.model import BackboneSpec
from bottlenecks.settings.targets import check_target
from bottlenecks.units.settings import check_unit

ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps", "tpu")
LOGGER_MODES = ("auto", "online", "offline", "disabled")


def plain(node: Any) -> dict[str, Any]:
    """Turn a configuration node into plain containers, every interpolation resolved."""
    return OmegaConf.to_container(node, resolve=True)


def folder_of(cfg: DictConfig, root: str = "checkpoints") -> Path:
    """Name the folder of the rates that a configuration means, or under another of its `paths`.

    Raises:
        UsageError: a name in it could not be a folder's.
    """
    model, split, data, unit = cfg.model.name, str(cfg.split), cfg.data.name, cfg.unit.name
    for argument, name in (("model.name", model), ("split", split), ("data.name", data), ("unit.name", unit)):
        check_name(argument, name)
    return rate_folder(Path(cfg.paths[root]), model, split, data, unit)


def check_experiment(cfg: DictConfig) -> BackboneSpec:
    """Refuse what no images and no weights could make right.

    Returns:
        The network that is named.

    Raises:
        UsageError: something cannot be used, or does not go together.
    """
    folder_of(cfg)
    check_flag("several", cfg.several)
    check_unit(plain(cfg.unit))
    return check_network_and_data(cfg)


def check_network_and_data(cfg: DictConfig) -> BackboneSpec:
    """Do so where there is no unit yet.

    Returns:
        The network that is named.

    Raises:
        UsageError: something cannot be used, or does not go together.
    """
    spec = BackboneSpec.of(cfg.model)
    for argument, name in (("model.name", spec.name), ("data.name", cfg.data.name)):
        check_name(argument, name)
    for name, path in cfg.paths.items():
        if not isinstance(path, str) or not path:
            way_out = quoted(f"paths.{name}", "…")
            raise UsageError(f"paths.{name}={path}: expected a folder; quote its name, as {way_out}")
    check_number("seed", cfg.seed, whole=True)
    if cfg.task not in (None, spec.task):
        raise UsageError(
            f"task={cfg.task}: model={spec.name} is for {spec.task}; give a model for the task, or no task="
        )
    data = plain(cfg.data)
    check_data(data)
    check_target("data._target_", str(cfg.data._target_))
    if not cfg.data.get("download"):
        check_root(cfg.data.get("root"))
    if kind := kind_of(data):
        check_kind(cfg.data.name, kind, spec)
    if (accelerator := cfg.trainer.accelerator) not in ACCELERATORS:
        raise UsageError(f"trainer.accelerator={accelerator}: expected one of {', '.join(ACCELERATORS)}")
    if (mode := cfg.logger.get("mode", "auto")) not in LOGGER_MODES:
        raise UsageError(f"logger.mode={mode}: expected one of {', '.join(LOGGER_MODES)}")
    return spec


def check_kind(data: str, kind: Kind, spec: BackboneSpec) -> None:
    """Refuse data whose labels are for another task than the network.

    Raises:
        UsageError: they are.
    """
    if kind.labels != "none" and kind.task != spec.task:
        raise UsageError(
            f"data={data}: its labels are for {kind.task}, model={spec.name} is for {spec.task}; "
            "choose other data, or another model"
        )


def check_root(root: object) -> None:
    """Refuse a folder of data that is not there; what it holds is looked at later.

    Raises:
        UsageError: it is not.
    """
    if root is None:
        return
    if not isinstance(root, str):
        raise UsageError(f"data.root={root}: expected a folder; quote its name, as {quoted('data.root', '…')}")
    if (folder := Path(root).expanduser()).is_dir():
        return
    problem = "not a folder" if folder.exists() else f"no such folder (looked at {folder.absolute()})"
    raise UsageError(
        f"data.root={root}: {problem}; data.root=PATH must hold the data; or take other data, as data=digits"
    )
