"""Ladders of rates trained as `train.py` does, for benchmarks: nothing is logged, nothing is kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytorch_lightning as pl
from omegaconf import DictConfig

from bottlenecks.runs.experiment import Experiment, prepare
from bottlenecks.runs.fitting import assemble
from bottlenecks.settings.composed import composed
from bottlenecks.settings.experiment import ExperimentPlan
from bottlenecks.settings.training import TrainingPlan
from bottlenecks.training.module import LadderModule
from bottlenecks.training.start_file import StartFile

LMBDAS = (0.0003, 0.001, 0.003, 0.01, 0.03)
FORMER = "unit=factorized"
SEPARATE = ("training.cache_features=false", "training.fold_batch_norm=false", "training.channels_last=false")


def configure(root: Path, *overrides: str) -> DictConfig:
    """Compose the shipped configuration with all output under a temporary folder."""
    quiet = ["logger=none", "trainer.enable_progress_bar=false", "trainer.accelerator=cpu"]
    paths = [f"paths.{name}={root / name}" for name in ("checkpoints", "results", "logs", "cache")]
    return composed("train", [*quiet, *paths, *overrides])


def prepared(cfg: DictConfig) -> Experiment:
    """Build what a configuration names, as `train.py` does."""
    return prepare(ExperimentPlan.of(cfg), "fit", TrainingPlan.of(cfg).augment_few)


def fit(
    cfg: DictConfig, experiment: Experiment, lmbdas: Sequence[float], start: Path, *callbacks: pl.Callback
) -> LadderModule:
    """Train with the project's own trainer; nothing is written but where a transform unit begins.

    Args:
        cfg: of `train.py`.
        experiment: what it names.
        lmbdas: of the rates.
        start: the file of that, which is read where it is there.
        callbacks: of the trainer.
    """
    trainer = pl.Trainer(
        **{name: value for name, value in cfg.trainer.items() if name != "_target_"},
        max_epochs=cfg.training.epochs,
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=False,
        num_sanity_val_steps=-1,  # the start counts, as it does for users
    )
    module, data = assemble(experiment, TrainingPlan.of(cfg), lmbdas, trainer, StartFile(start, {}, {}, False))
    trainer.fit(module.train(), datamodule=data)
    return module
