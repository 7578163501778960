"""How a configuration has units and backbones trained."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from bottlenecks.errors import UsageError, check_flag, check_known, check_number
from bottlenecks.rates.places import Lmbda
from bottlenecks.settings.rates import rates_asked
from bottlenecks.settings.target import Target

GIB = 2**30
MOST_GIB = 2**30
LARGE_MAP = 7  # positions a side; on a CPU, smaller maps are slower in channels_last
CACHE_PRECISIONS = (16, 32)
DISTORTIONS = ("kd", "ce", "mse")
PRECISIONS_OF_TRAINING = ("32-true", "32", "bf16-mixed", "16-mixed", "64-true", "64")


@dataclass(frozen=True)
class OptimiserConfig:
    """How the units are optimised.

    Attributes:
        lr: Adam's learning rate for encoder and decoder, at its peak.
        entropy_lr: the same for the entropy model.
        linear_lr: the same for a linear transform, relative to its weights' mean magnitude. Where a start's distortion
            is small, all but entropy_lr are smaller, too: what a step of learning disturbs goes with their squares.
        weight_decay: of a restoring network.
        warmup: share of the steps over which both rise from 0; they fall to 0 along a cosine after that.
        gradient_clip: largest norm of one unit's gradient, 0 for no limit.
    """

    lr: float = 2e-3
    entropy_lr: float = 2e-2
    linear_lr: float = 5e-3
    weight_decay: float = 1e-2
    warmup: float = 0.05
    gradient_clip: float = 1.0


@dataclass(frozen=True)
class CachePlan:
    """How the frozen network's outputs are kept.

    Attributes:
        folder: where files go that do not fit in memory.
        memory: bytes that a process may hold in memory.
        disk: bytes that files may take.
        precision: 32, or 16 for features in half the space; the teacher's outputs stay in 32 bits.
        required: whether not to fit is an error, or only no cache.
    """

    folder: Path
    memory: int
    disk: int
    precision: int
    required: bool

    def shared_by(self, num_processes: int) -> CachePlan:
        """Divide the memory among the processes of a machine: each would hold all of it, files are common to them."""
        return replace(self, memory=self.memory // num_processes)


@dataclass(frozen=True)
class TrainingPlan:
    """How units are trained, checked.

    Attributes:
        lmbdas: of the rates that are asked for; none with a target.
        target: what the one rate is to come to, in the place of a lambda.
        epochs: passes over the training images.
        loss: weights of the distortions.
        optimiser: learning rates and schedule.
        cache: how the frozen network's outputs are kept, or None for not at all.
        feature_bits: of a feature that is kept.
        channels_last: the memory layout, or `auto`.
        fold_batch_norm: into the frozen convolutions.
        warm_start: from the features' principal components.
        calibration_images: training images for it.
        augment_few: take random views of the training images where they are few.
        fit_images: the most training images that a closed form is fitted to.
        rates_per_pass: that go through the tail at once; None for all.
        resume: go on with an interrupted run.
        overwrite: train finished rates anew.
    """

    lmbdas: Sequence[Lmbda]
    target: Target | None
    epochs: int
    loss: Mapping[str, float]
    optimiser: OptimiserConfig
    cache: CachePlan | None
    feature_bits: int
    channels_last: bool | str
    fold_batch_norm: bool
    warm_start: bool
    calibration_images: int
    augment_few: bool
    fit_images: int
    rates_per_pass: int | None
    resume: bool
    overwrite: bool

    @classmethod
    def of(cls, cfg: DictConfig) -> TrainingPlan:
        """Read and check the settings of a run.

        Raises:
            UsageError: one cannot be used.
        """
        training = cfg.training
        check_loss(cfg.loss)
        if (precision := str(cfg.trainer.precision)) not in PRECISIONS_OF_TRAINING:
            known = ", ".join(PRECISIONS_OF_TRAINING)
            raise UsageError(f"trainer.precision={precision}: rates are counted in 32 bits or more; expected {known}")
        for name in ("warm_start", "fold_batch_norm"):
            check_flag(f"training.{name}", training[name])
        if training.cache_precision not in CACHE_PRECISIONS:
            raise UsageError(
                f"training.cache_precision={training.cache_precision}: expected 32, or 16 for half the space"
            )
        for name, least in (("epochs", 0), ("calibration_images", 1), ("fit_images", 1)):
            check_number(f"training.{name}", training[name], least, whole=True)
        if training.rates_per_pass is not None:
            check_number("training.rates_per_pass", training.rates_per_pass, 1, whole=True)
        names = ("lr", "entropy_lr", "linear_lr", "weight_decay", "warmup", "gradient_clip")
        for name in names:
            check_number(f"training.{name}", training[name], most=1 if name == "warmup" else math.inf)
        target = Target.of(cfg)
        return cls(
            lmbdas=[] if target else rates_asked(cfg),
            target=target,
            epochs=training.epochs,
            loss={str(name): weight for name, weight in cfg.loss.items()},
            optimiser=OptimiserConfig(**{name: training[name] for name in names}),
            cache=_plan_cache(cfg),
            feature_bits=training.cache_precision,
            channels_last=_choice(cfg, "channels_last"),
            fold_batch_norm=training.fold_batch_norm,
            warm_start=training.warm_start,
            calibration_images=training.calibration_images,
            augment_few=cfg.unit.architecture == "transform" and training.epochs > 0,
            fit_images=training.fit_images,
            rates_per_pass=training.rates_per_pass,
            resume=cfg.resume,
            overwrite=cfg.overwrite,
        )

    def is_channels_last(self, shapes: Iterable[Sequence[int]]) -> bool:
        """Decide the layout for features of some shapes; `auto` takes it where the maps are large enough."""
        if self.channels_last != "auto":
            return bool(self.channels_last)
        return min(side for shape in shapes for side in shape[1:]) >= LARGE_MAP


@dataclass(frozen=True)
class BackboneTraining:
    """How a backbone is trained on labels.

    Attributes:
        epochs: passes over the training images.
        lr: AdamW's learning rate at the peak of the one-cycle schedule.
        weight_decay: AdamW's.
        label_smoothing: share of each label spread over the other classes.
    """

    epochs: int = 6
    lr: float = 2e-3
    weight_decay: float = 0.01
    label_smoothing: float = 0.0

    @classmethod
    def of(cls, cfg: DictConfig) -> BackboneTraining:
        """Read and check the settings of a run.

        Raises:
            UsageError: one cannot be used.
        """
        check_known("backbone", cfg.backbone, [field.name for field in fields(cls)])
        settings = cls(**cfg.backbone)
        check_number("backbone.epochs", settings.epochs, 1, whole=True)
        for name in ("lr", "weight_decay", "label_smoothing"):
            most = 1 if name == "label_smoothing" else math.inf
            check_number(f"backbone.{name}", getattr(settings, name), most=most)
        return settings


def check_loss(weights: Mapping[str, Any]) -> None:
    """Refuse weights of distortions that say nothing of what is to be learnt.

    Raises:
        UsageError: an unknown or negative weight, or no weight above 0.
    """
    for name, weight in weights.items():
        if name not in DISTORTIONS:
            raise UsageError(f"loss.{name}: no such distortion; there are {', '.join(DISTORTIONS)}")
        check_number(f"loss.{name}", weight)
    if not any(weights.values()):
        raise UsageError("loss: every weight is 0; set loss.kd, loss.ce or loss.mse above 0")


def _plan_cache(cfg: DictConfig) -> CachePlan | None:
    choice = _choice(cfg, "cache_features")
    for name in ("cache_memory_gib", "cache_disk_gib"):
        check_number(f"training.{name}", cfg.training[name])
    memory, disk = (int(min(cfg.training[f"cache_{place}_gib"], MOST_GIB) * GIB) for place in ("memory", "disk"))
    plan = CachePlan(Path(cfg.paths.cache), memory, disk, cfg.training.cache_precision, choice is True)
    return plan if choice else None


def _choice(cfg: DictConfig, name: str) -> bool | str:
    value = cfg.training[name]
    if value not in (True, False, "auto"):
        raise UsageError(f"training.{name}={value}: expected true, false or auto")
    return value
