"""What a configuration names, put together: data, backbone, cut, folders."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from pytorch_lightning.loggers import Logger

from bottlenecks.backbones.architecture import build_network, settle_task, sized
from bottlenecks.backbones.backbone import Backbone
from bottlenecks.console.terminal import say
from bottlenecks.errors import UsageError, reason
from bottlenecks.files import one_at_a_time
from bottlenecks.processes import is_main
from bottlenecks.rates.info import RateInfo
from bottlenecks.rates.places import Lmbda, place_of
from bottlenecks.settings.data import Kind
from bottlenecks.settings.experiment import ExperimentPlan, NetworkPlan, check_kind
from bottlenecks.settings.model import check_learnable, is_file, with_weights
from bottlenecks.settings.targets import path_of
from bottlenecks.settings.weights import backbone_path, state_path
from bottlenecks.splitting.cut import SplitNetwork, cut
from bottlenecks.tasks import Task, make_task
from bottlenecks.training.backbone import check_network, obtain_backbone, train_backbone
from bottlenecks.training.images import ImageData
from bottlenecks.training.loggers import Guarded, say_once
from bottlenecks.training.relevant import relevant
from bottlenecks.training.resume import RunState
from bottlenecks.training.trainer import build_trainer
from bottlenecks.units import Bottleneck


@dataclass(frozen=True)
class Experiment:
    """A backbone cut for some data.

    Attributes:
        plan: what it was made of.
        datamodule: gives images as the backbone wants them.
        backbone: frozen.
        network: the backbone cut at the split point.
        task: what it does.
        image_shape: (3, H, W) of the network's input.
        folder: of the rate checkpoints.
    """

    plan: ExperimentPlan
    datamodule: ImageData
    backbone: Backbone
    network: SplitNetwork
    task: Task
    image_shape: tuple[int, int, int]
    folder: Path

    @property
    def title(self) -> str:
        """Name the experiment as `resnet50/layer3/digits`, and a unit that is not the default."""
        unit = [self.folder.name] if self.folder.name != self.datamodule.name else []
        return "/".join([self.backbone.spec.name, self.network.split, self.datamodule.name, *unit])


def prepare(plan: ExperimentPlan, stage: str, augment_few: bool = False) -> Experiment:
    """Build what a configuration names; a backbone that has to be trained first is trained.

    Args:
        plan: what it names.
        stage: `fit` or `test`, whose images are looked for before anything else is done.
        augment_few: take random views of the training images where they are few.

    Raises:
        UsageError: something is missing or does not fit.
    """
    plan = replace(plan, network=settled(plan.network))
    spec, split, checkpoints = plan.network.model, plan.split, plan.network.checkpoints
    pl.seed_everything(plan.network.seed, workers=True, verbose=False)
    datamodule = make_data(plan.network)
    check_kind(datamodule.name, Kind(datamodule.task, datamodule.labels), spec)
    datamodule.setup(stage)
    if augment_few:
        datamodule.augment_few()

    def train_now() -> Backbone:
        transform = datamodule.default_preprocessing
        if transform is not None and transform.input_shape is not None:  # a wrong split is told before, not after
            example = torch.zeros(1, *transform.input_shape)
            cut(build_network(spec, datamodule.num_classes), split, example, several=plan.several)
        with one_at_a_time(backbone_path(checkpoints, spec.name, datamodule.name)) as path:
            if path.exists():  # another process made it while this one waited
                return obtain_backbone(spec, datamodule, checkpoints, train_now)
            say(f"No {spec.name} for {datamodule.name} yet: training one now, it is kept")
            return make_backbone(plan.network, alone=True)

    backbone = obtain_backbone(spec, datamodule, checkpoints, train_now)
    datamodule.preprocessing = backbone.preprocessing
    shape = datamodule.preprocessing.input_shape
    if shape is None:
        raise UsageError("data.image_size: the images keep sizes of their own; give the one to cut for")
    network = cut(backbone.network, split, torch.zeros(1, *shape), several=plan.several)
    task = make_task(spec.task, backbone.network, spec.task_settings)
    check_network(backbone.network, task, spec.name, datamodule.preprocessing, datamodule.num_classes)
    return Experiment(plan, datamodule, backbone, network, task, shape, plan.folder)


def settled(plan: NetworkPlan) -> NetworkPlan:
    """Let the network say what it is for, and the data for what size, where that was left to them.

    Raises:
        UsageError: there is no such network.
    """
    return replace(plan, model=sized(settle_task(plan.model), plan.data.get("image_size")))


def make_data(plan: NetworkPlan) -> ImageData:
    """Build the data that a configuration names."""
    data: ImageData = instantiate({**plan.data, "_target_": path_of(str(plan.data["_target_"]))})
    return data


def make_backbone(plan: NetworkPlan, alone: bool = False) -> Backbone:
    """Train a network on its data, and keep it; go on with an interrupted run where asked.

    Args:
        plan: the network and the data.
        alone: on one device of this process, whatever the trainer is otherwise.
    """
    pl.seed_everything(plan.seed, workers=True, verbose=False)
    plan = settled(plan)
    check_learnable(plan.model)
    spec, datamodule = plan.model, make_data(plan)
    datamodule.setup("fit")
    bearing: dict[str, Any] = {"backbone": asdict(plan.training), "data": plan.data, "trainer": plan.trainer}
    default = datamodule.default_preprocessing
    images = {**datamodule.found(), "preprocessing": default and default.to_dict()}
    bearing |= {"model": spec.to_dict(), "images": images, "seed": plan.seed}
    way_on = "the same command" if plan.resume is None else "resume=true"
    what = f" of training {spec.name} itself"
    state = RunState(state_path(plan.backbone), relevant(bearing, images_speak=False), what, way_on)
    start = state.find(plan.resume is not False, plan.overwrite)
    options: dict[str, Any] = {"devices": 1, "num_nodes": 1, "strategy": "auto"} if alone else {}
    trainer = build_trainer(plan.trainer, plan.training.epochs, [state], num_sanity_val_steps=0, **options)
    return train_backbone(spec, datamodule, plan.checkpoints, plan.training, trainer, plan.seed, state, start)


def settings_of(experiment: Experiment) -> dict[str, Any]:
    """Gather all that bears on a trained unit, lambda excepted."""
    said = experiment.plan.settings
    nodes = {group: said[group] for group in ("unit", "loss", "training", "trainer", "target")}
    nodes["data"] = {**said["data"], **experiment.datamodule.resolved()}
    settings = {
        **nodes,
        "images": {**experiment.datamodule.found(), "preprocessing": experiment.datamodule.preprocessing.to_dict()},
        "seed": experiment.plan.network.seed,
        "image_shape": list(experiment.image_shape),
        "backbone": experiment.backbone.fingerprint,
        "model": {"distortion": experiment.backbone.spec.distortion, "outputs": experiment.backbone.spec.outputs},
        "split": experiment.network.split,
    }
    return relevant(settings, images_speak=False)


def settings_hash(settings: Mapping[str, Any]) -> str:
    """Identify what bears on the outcome by 16 hexadecimal digits."""
    return hashlib.sha256(json.dumps(relevant(settings), sort_keys=True).encode()).hexdigest()[:16]


def describe_rate(experiment: Experiment, settings: Mapping[str, Any], lmbda: Lmbda, unit: Bottleneck) -> RateInfo:
    """Gather what a rate checkpoint says of itself, metrics excepted."""
    backbone, datamodule, plan = experiment.backbone, experiment.datamodule, experiment.plan
    spec = backbone.spec
    if is_file(spec.weights):
        folder = place_of(experiment.folder, plan.unit.name, lmbda).parent
        spec = with_weights(spec, locate(Path(spec.weights), folder, plan.network.checkpoints))
    return RateInfo(
        model=spec.name,
        backbone=spec.to_dict(),
        backbone_fingerprint=backbone.fingerprint,
        preprocessing=datamodule.preprocessing.to_dict(),
        class_names=list(backbone.class_names or datamodule.class_names) if spec.has_classes else [],
        split=experiment.network.split,
        image_shape=list(experiment.image_shape),
        feature_shape=experiment.network.feature_shape,
        unit_name=plan.unit.name,
        unit={"architecture": plan.unit.architecture, "config": unit.config()},
        lmbda=list(lmbda) if isinstance(lmbda, tuple) else lmbda,
        data=datamodule.name,
        training=settings,
        training_hash=settings_hash(settings),
    )


def locate(file: Path, folder: Path, root: Path) -> str:
    """Return where a file is: relative to a folder where both lie under one root, that the root can be moved."""
    if file.resolve().is_relative_to(root.resolve()):
        return os.path.relpath(file.resolve(), folder.resolve())
    return str(file.resolve())


def pick_device(name: str) -> torch.device:
    """Choose where to run; `auto` takes an accelerator where there is one.

    Raises:
        UsageError: there is no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.zeros((), device=name)
        return torch.device(name)  # without a number that was not asked for: each of several processes has its own
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"device={name}: cannot be used here ({str(error).splitlines()[0]}); try device=cpu") from None


def open_logger(plan: ExperimentPlan, job_type: str, name: str, group: str, told: set[str]) -> Logger | None:
    """Open the logger of a run; only the main process has any, and none ends a run by its failure.

    Args:
        plan: says which.
        job_type: `train` or `evaluate`.
        name: of the run.
        group: runs of one ladder.
        told: what was said of failures in this run so far.

    Raises:
        UsageError: a setting of the logger cannot be used.
    """
    if not is_main():
        return None
    folder = Path(plan.paths["logs"])
    folder.mkdir(parents=True, exist_ok=True)
    make = instantiate(plan.logger, _partial_=True)
    try:
        logger = make(folder=folder, name=name, group=group, job_type=job_type, settings=plan.settings)
    except UsageError:
        raise
    except Exception as error:  # whatever a library or a server comes up with
        say_once(f"{plan.logger['_target_']} failed ({reason(error)}); the run goes on without it", told)
        return Guarded(None, told)
    return logger and Guarded(logger, told)
