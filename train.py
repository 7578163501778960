"""Train bottleneck units at a split point: python train.py model=resnet50 split=layer3 lambda=0.01."""

from __future__ import annotations

from pathlib import Path

import pytorch_lightning as pl
from hydra.utils import instantiate
from omegaconf import DictConfig
from pytorch_lightning.loggers import Logger
from rich.table import Table

from bottlenecks.checkpoint import RateInfo
from bottlenecks.cli import entry_point
from bottlenecks.errors import UsageError, check_number
from bottlenecks.experiment import (
    Experiment,
    cache_key,
    describe_rate,
    make_backbone,
    open_logger,
    parse_lambdas,
    plain,
    plan_cache,
    prepare,
    settings_of,
)
from bottlenecks.processes import leave
from bottlenecks.terminal import say, show
from bottlenecks.tracking import close, log_file
from bottlenecks.training.backbone import backbone_path
from bottlenecks.training.best import BestStates
from bottlenecks.training.cache import CachePlan, cache_frozen
from bottlenecks.training.calibration import calibrate
from bottlenecks.training.ladder import build_units, fit, keep, unfinished
from bottlenecks.training.loss import RateDistortionLoss
from bottlenecks.training.module import LadderModule, OptimiserConfig
from bottlenecks.training.resume import AtomicCheckpointIO, ResumeState


def train(cfg: DictConfig) -> dict[Path, RateInfo]:
    """Train what a configuration asks for.

    Returns:
        The rates that were trained now, by path; none for `stage=backbone`.

    Raises:
        UsageError: the configuration cannot be used.
    """
    if cfg.stage == "backbone":
        train_network(cfg)
        return {}
    if cfg.stage != "unit":
        raise UsageError(f"stage={cfg.stage}: expected unit or backbone")
    lmbdas = parse_lambdas(cfg["lambda"])
    for name in ("epochs", "calibration_images"):
        check_number(f"training.{name}", cfg.training[name], 1, whole=True)
    if cfg.training.rates_per_pass is not None:
        check_number("training.rates_per_pass", cfg.training.rates_per_pass, 1, whole=True)
    plan = plan_cache(cfg)
    for name in ("lr", "entropy_lr", "warmup", "gradient_clip"):
        check_number(f"training.{name}", cfg.training[name])
    experiment = prepare(cfg, "fit")
    settings = settings_of(cfg, experiment)
    todo = unfinished(experiment.folder, lmbdas, settings, cfg.overwrite)
    if cfg.resume and ResumeState(experiment.folder, lmbdas, settings).path.exists():
        todo = lmbdas  # the run was cut off while it wrote the first of its rates
    written = train_rates(cfg, experiment, todo, settings, plan) if todo else {}
    leave()
    if written:
        show(summary(written))
    return written


def train_network(cfg: DictConfig) -> None:
    """Train the backbone itself, unless it is there."""
    path = backbone_path(Path(cfg.paths.checkpoints), cfg.model.name, cfg.data.name)
    if path.exists() and not cfg.overwrite:
        say(f"Kept {path}: there already; train it anew with overwrite=true")
    else:
        make_backbone(cfg)


def train_rates(
    cfg: DictConfig,
    experiment: Experiment,
    lmbdas: list[float],
    settings: dict[str, object],
    plan: CachePlan | None,
) -> dict[Path, RateInfo]:
    """Train the units of several rates side by side and write their checkpoints."""
    best, state = BestStates(), ResumeState(experiment.folder, lmbdas, settings)
    start = state.find(cfg.resume, cfg.overwrite)
    if cfg.resume and start is None:
        say(f"resume=true: nothing to go on from at {state.path}; starting from the beginning")
    loggers = [open_logger(cfg, "train", f"lambda={lmbda!r}", experiment.title) for lmbda in lmbdas]
    trainer = make_trainer(cfg, [best, state], [logger for logger in loggers if logger])
    device = trainer.strategy.root_device
    network, pictures = experiment.network.to(device), experiment.datamodule
    features = calibrate(network.head, pictures.calibration_dataloader(), device, cfg.training.calibration_images)
    cached = plan and cache_frozen(network, pictures, device, plan, cache_key(cfg, experiment))
    module = LadderModule(
        network,
        build_units(lmbdas, plain(cfg.unit), network, features, cfg.seed, cfg.training.warm_start),
        experiment.task,
        RateDistortionLoss(experiment.task, plain(cfg.loss), features.variance),
        OptimiserConfig(cfg.training.lr, cfg.training.entropy_lr, cfg.training.warmup, cfg.training.gradient_clip),
        cfg.seed,
        cfg.training.rates_per_pass,
    )
    fit(module, cached or pictures, trainer, state, start)
    written = keep(
        module,
        best,
        experiment.folder,
        lambda lmbda, unit: describe_rate(experiment, cfg, settings, lmbda, unit),
    )
    state.remove()
    log_rates(loggers, written, experiment.title)
    return written


def make_trainer(cfg: DictConfig, callbacks: list[pl.Callback], loggers: list[Logger]) -> pl.Trainer:
    """Build Lightning's trainer around the callbacks that keep best and resume state."""
    return instantiate(
        cfg.trainer,
        max_epochs=cfg.training.epochs,
        callbacks=callbacks,
        logger=loggers or False,
        plugins=[AtomicCheckpointIO()],
        enable_checkpointing=False,
    )


def log_rates(loggers: list[Logger | None], written: dict[Path, RateInfo], title: str) -> None:
    """Keep each finished file with the run that made it, and finish the runs."""
    for logger, (path, info) in zip(loggers, written.items(), strict=True):
        log_file(logger, f"{title}/{path.stem}", "rate", path, info.metrics)
        close(logger)


def summary(written: dict[Path, RateInfo]) -> Table:
    """Draw what was trained as a table for the terminal."""
    table = Table(title="Trained, as seen on the held-back training pictures")
    keys = ["val/bpp", "val/accuracy", "val/agreement", "val/loss", "epoch"]
    for name in ("lambda", *keys, "file"):
        table.add_column(name, justify="right" if name != "file" else "left", overflow="fold")
    for path, info in written.items():
        figures = [f"{info.metrics[key]:.4g}" if key in info.metrics else "" for key in keys]
        table.add_row(repr(info.lmbda), *figures, str(path))
    return table


@entry_point("train")
def main(cfg: DictConfig) -> None:
    """Train from the command line."""
    train(cfg)


if __name__ == "__main__":
    main()
