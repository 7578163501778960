"""Train the rates of an experiment side by side, from its configuration to its files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from pytorch_lightning.loggers import Logger

from bottlenecks.checkpoint import RateInfo
from bottlenecks.errors import UsageError, check_number
from bottlenecks.experiment import Experiment, describe_rate, open_logger, plain
from bottlenecks.processes import leave
from bottlenecks.split import SplitNetwork
from bottlenecks.terminal import say
from bottlenecks.tracking import close, in_sweep, log_file
from bottlenecks.training.best import BestStates
from bottlenecks.training.cache import GIB, CachePlan, cache_frozen
from bottlenecks.training.calibration import calibrate
from bottlenecks.training.dashboard import Dashboard
from bottlenecks.training.folding import fold_batch_norm
from bottlenecks.training.ladder import build_units, fit, keep
from bottlenecks.training.loss import RateDistortionLoss
from bottlenecks.training.module import LadderModule, OptimiserConfig
from bottlenecks.training.resume import AtomicCheckpointIO, ResumeState

LARGE_MAP = 7  # positions a side; on a CPU, smaller maps are slower in channels_last


@dataclass(frozen=True)
class TrainingPlan:
    """The settings of `training`, checked.

    Attributes:
        optimiser: learning rates and schedule.
        cache: how the frozen network's outputs are kept, or None for not at all.
        channels_last: the memory layout, or `auto`.
    """

    optimiser: OptimiserConfig
    cache: CachePlan | None
    channels_last: bool | str

    @classmethod
    def of(cls, cfg: DictConfig) -> TrainingPlan:
        """Read and check the settings of a run.

        Raises:
            UsageError: one cannot be used.
        """
        training = cfg.training
        for name in ("epochs", "calibration_images"):
            check_number(f"training.{name}", training[name], 1, whole=True)
        if training.rates_per_pass is not None:
            check_number("training.rates_per_pass", training.rates_per_pass, 1, whole=True)
        for name in ("lr", "entropy_lr", "warmup", "gradient_clip"):
            check_number(f"training.{name}", training[name])
        optimiser = OptimiserConfig(training.lr, training.entropy_lr, training.warmup, training.gradient_clip)
        return cls(optimiser, _plan_cache(cfg), _choice(cfg, "channels_last"))

    def is_channels_last(self, feature_shape: Sequence[int]) -> bool:
        """Decide the layout for features (C, H, W); `auto` takes it where maps are large enough to gain from it."""
        return min(feature_shape[1:]) >= LARGE_MAP if self.channels_last == "auto" else bool(self.channels_last)


def train_rates(
    cfg: DictConfig, experiment: Experiment, lmbdas: Sequence[float], settings: Mapping[str, Any], plan: TrainingPlan
) -> dict[Path, RateInfo]:
    """Train the units of several rates and write their checkpoints.

    Args:
        cfg: of `train.py`.
        experiment: what it names.
        lmbdas: of the rates.
        settings: that bear on the outcome.
        plan: the checked settings.

    Returns:
        What was written, by path.

    Raises:
        UsageError: an interrupted run lies there and nothing was said of it, the run cannot be resumed, or was cut
            short, or a rate's loss never was finite.
    """
    best, state = BestStates(), ResumeState(experiment.folder, lmbdas, settings)
    start = state.find(cfg.resume, cfg.overwrite)
    if cfg.resume and start is None:
        say(f"resume=true: nothing to go on from at {state.path}; starting from the beginning")
    summary = open_logger(cfg, "train", "summary", experiment.title)
    names = [] if in_sweep(summary) else [f"lambda={lmbda!r}" for lmbda in lmbdas]  # a sweep has one run a trial
    loggers = [open_logger(cfg, "train", name, experiment.title) for name in names]
    dashboard = Dashboard(summary, experiment.title)
    trainer = make_trainer(cfg, [best, state, dashboard], [logger for logger in loggers if logger])
    module, data = assemble(cfg, experiment, lmbdas, plan, trainer)
    fit(module, data, trainer, state, start)
    written = keep(
        module, best, experiment.folder, lambda lmbda, unit: describe_rate(experiment, cfg, settings, lmbda, unit)
    )
    state.remove()
    for logger, (path, info) in zip(loggers or [summary] * len(written), written.items(), strict=True):
        log_file(logger, f"{experiment.title}/{path.stem}", "rate", path, info.metrics)
    for logger in [*loggers, summary]:
        close(logger)
    leave()
    return written


def assemble(
    cfg: DictConfig, experiment: Experiment, lmbdas: Sequence[float], plan: TrainingPlan, trainer: pl.Trainer
) -> tuple[LadderModule, pl.LightningDataModule]:
    """Put together what a trainer fits: units around the cut network, and pictures or what is cached of them."""
    device = trainer.strategy.root_device
    network, pictures = experiment.network.to(device), experiment.datamodule
    if cfg.training.fold_batch_norm:
        head, tail = fold_batch_norm(network.head), fold_batch_norm(network.tail)
        network = SplitNetwork(network.split, network.crossing, head, network.sizes, tail)
    layout = torch.channels_last if plan.is_channels_last(network.feature_shape) else torch.contiguous_format
    network = network.to(memory_format=layout)
    with trainer.precision_plugin.forward_context():
        cached = plan.cache and cache_frozen(network, pictures, device, plan.cache, _cache_key(cfg, experiment))
    features = calibrate(network.head, pictures.calibration_dataloader(), device, cfg.training.calibration_images)
    units = build_units(lmbdas, plain(cfg.unit), network, features, cfg.seed, cfg.training.warm_start)
    loss = RateDistortionLoss(experiment.task, plain(cfg.loss), features.variance)
    passes = cfg.training.rates_per_pass
    module = LadderModule(network, units, experiment.task, loss, plan.optimiser, cfg.seed, passes)
    module.units.to(memory_format=layout)
    return module, cached or pictures


def make_trainer(cfg: DictConfig, callbacks: Sequence[pl.Callback], loggers: Sequence[Logger]) -> pl.Trainer:
    """Build Lightning's trainer around the callbacks that keep best and resume state."""
    return instantiate(
        cfg.trainer,
        max_epochs=cfg.training.epochs,
        callbacks=[*callbacks],
        logger=[*loggers] or False,
        plugins=[AtomicCheckpointIO()],
        enable_checkpointing=False,
    )


def _plan_cache(cfg: DictConfig) -> CachePlan | None:
    choice = _choice(cfg, "cache_features")
    for name in ("cache_memory_gib", "cache_disk_gib"):
        check_number(f"training.{name}", cfg.training[name])
    memory, disk = (int(cfg.training[f"cache_{place}_gib"] * GIB) for place in ("memory", "disk"))
    plan = CachePlan(Path(cfg.paths.cache), memory, disk, cfg.training.cache_precision, choice is True)
    return plan if choice else None


def _choice(cfg: DictConfig, name: str) -> bool | str:
    value = cfg.training[name]
    if value not in (True, False, "auto"):
        raise UsageError(f"training.{name}={value}: expected true, false or auto")
    return value


def _cache_key(cfg: DictConfig, experiment: Experiment) -> dict[str, Any]:
    return {
        "backbone": experiment.backbone.fingerprint,
        "split": experiment.network.split,
        "precision": cfg.trainer.precision,
    }
