"""What every command that has data, a network and a unit reads, and refuses whatever is on disk."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from bottlenecks.errors import UsageError, check_flag, check_name, check_number, quoted
from bottlenecks.rates.places import rate_folder
from bottlenecks.settings.data import Kind, check_data, kind_of
from bottlenecks.settings.model import BackboneSpec
from bottlenecks.settings.targets import check_target
from bottlenecks.settings.training import BackboneTraining
from bottlenecks.settings.weights import backbone_path
from bottlenecks.units.settings import check_unit

ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps", "tpu")
DEVICES = re.compile(r"auto|-1|[1-9]\d*|\d+,( ?\d+,?)*|\[\d+(, \d+)*\]")  # as Lightning takes them
MOST_SEED = 2**32 - 1  # of NumPy's generator
LOGGER_MODES = ("auto", "online", "offline", "disabled")


def plain(node: Any) -> dict[str, Any]:
    """Turn a configuration node into plain containers, every interpolation resolved."""
    return OmegaConf.to_container(node, resolve=True)


@dataclass(frozen=True)
class NetworkPlan:
    """A network, and the data that it is for, as a configuration names them.

    Attributes:
        model: the network.
        data: `_target_` and arguments of the data.
        training: how the network is trained on it.
        trainer: arguments of Lightning's.
        seed: of all that is random.
        checkpoints: root of all that is trained.
        resume: go on with an interrupted run; None where a command has no such setting, and does.
        overwrite: train anew what is finished.
    """

    model: BackboneSpec
    data: Mapping[str, Any]
    training: BackboneTraining
    trainer: Mapping[str, Any]
    seed: int
    checkpoints: Path
    resume: bool | None
    overwrite: bool

    @classmethod
    def of(cls, cfg: DictConfig) -> NetworkPlan:
        """Read the settings, and refuse what no images and no weights could make right.

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
        check_number("seed", cfg.seed, most=MOST_SEED, whole=True)
        if cfg.task is not None:
            if cfg.task not in spec.tasks:
                raise UsageError(
                    f"task={cfg.task}: model={spec.name} is for {' or '.join(spec.tasks)}; "
                    "give a model for the task, or no task="
                )
            spec = replace(spec, task=cfg.task)
        data = plain(cfg.data)
        if "_target_" in data:  # a program's own images have none
            check_named_data(data, spec)
        if (accelerator := cfg.trainer.accelerator) not in ACCELERATORS:
            raise UsageError(f"trainer.accelerator={accelerator}: expected one of {', '.join(ACCELERATORS)}")
        if not DEVICES.fullmatch(devices := str(cfg.trainer.devices)):
            raise UsageError(
                f"trainer.devices={devices}: expected auto, how many (-1 for all), or their numbers, as [0,1]"
            )
        if (mode := cfg.logger.get("mode", "auto")) not in LOGGER_MODES:
            raise UsageError(f"logger.mode={mode}: expected one of {', '.join(LOGGER_MODES)}")
        training, trainer, checkpoints = BackboneTraining.of(cfg), plain(cfg.trainer), Path(cfg.paths.checkpoints)
        return cls(spec, data, training, trainer, cfg.seed, checkpoints, cfg.get("resume"), cfg.get("overwrite", False))

    @property
    def data_name(self) -> str:
        """What checkpoints and results call the data."""
        return str(self.data["name"])

    @property
    def backbone(self) -> Path:
        """File of the network, trained on this data."""
        return backbone_path(self.checkpoints, self.model.name, self.data_name)


@dataclass(frozen=True)
class UnitPlan:
    """The unit that a configuration names.

    Attributes:
        name: its own, or of the variant.
        architecture: which unit it is.
        ranged: whether it is one of any rate.
        arguments: all that the configuration says of it.
    """

    name: str
    architecture: str
    ranged: bool
    arguments: Mapping[str, Any]

    @classmethod
    def of(cls, cfg: DictConfig) -> UnitPlan:
        """Read and check the settings.

        Raises:
            UsageError: one cannot be used.
        """
        unit = plain(cfg.unit)
        check_name("unit.name", unit["name"])
        check_unit(unit)
        return cls(unit["name"], unit["architecture"], bool(unit.get("range")), unit)


@dataclass(frozen=True)
class ExperimentPlan:
    """A network cut for some data, and the unit at the cut, as a configuration names them.

    Attributes:
        network: the network and the data.
        split: the split point.
        several: whether several tensors may cross.
        unit: the unit.
        paths: roots of what is written, by name.
        logger: which logger, and its arguments.
        settings: all of the configuration, JSON-able.
    """

    network: NetworkPlan
    split: str
    several: bool
    unit: UnitPlan
    paths: Mapping[str, str]
    logger: Mapping[str, Any]
    settings: Mapping[str, Any]

    @classmethod
    def of(cls, cfg: DictConfig) -> ExperimentPlan:
        """Read the settings, and refuse what no images and no weights could make right.

        Raises:
            UsageError: something cannot be used, or does not go together.
        """
        network, split = NetworkPlan.of(cfg), str(cfg.split)
        check_name("split", split)
        check_flag("several", cfg.several)
        unit = UnitPlan.of(cfg)
        return cls(network, split, cfg.several, unit, plain(cfg.paths), plain(cfg.logger), plain(cfg))

    @property
    def folder(self) -> Path:
        """Folder of the unit's rates."""
        return self.folder_of(self.unit.name)

    @property
    def results(self) -> Path:
        """Folder of what is measured of them."""
        return self.folder_of(self.unit.name, "results")

    def folder_of(self, unit: str, root: str = "checkpoints") -> Path:
        """Name the folder of another unit's rates, or under another root."""
        network = self.network
        return rate_folder(Path(self.paths[root]), network.model.name, self.split, network.data_name, unit)


def check_named_data(data: Mapping[str, Any], spec: BackboneSpec) -> None:
    """Refuse data that no images could make right, or that is for another task.

    Args:
        data: `_target_` and its arguments.
        spec: the network.

    Raises:
        UsageError: it is.
    """
    check_data(data)
    check_target("data._target_", str(data["_target_"]))
    if not data.get("download"):
        check_root(data.get("root"))
    if kind := kind_of(data):
        check_kind(str(data["name"]), kind, spec)


def check_kind(data: str, kind: Kind, spec: BackboneSpec) -> None:
    """Refuse data whose labels are for another task than the network; one without classes takes any images.

    Raises:
        UsageError: they are.
    """
    if kind.labels != "none" and spec.has_classes and kind.task not in spec.tasks:
        raise UsageError(
            f"data={data}: its labels are for {kind.task}, model={spec.name} is for {' or '.join(spec.tasks)}; "
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
