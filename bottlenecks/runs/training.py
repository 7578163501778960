"""Train what a configuration asks for: rates, or the network itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from omegaconf import DictConfig
from rich.table import Table

from bottlenecks.console.terminal import say, show
from bottlenecks.rates.info import RateInfo
from bottlenecks.rates.places import Lmbda, text_of
from bottlenecks.runs.experiment import Experiment, make_backbone, prepare, settings_of
from bottlenecks.runs.fitting import train_rates
from bottlenecks.settings.rates import rates_asked
from bottlenecks.settings.target import Target
from bottlenecks.settings.training import TrainingPlan
from bottlenecks.settings.weights import backbone_path, state_path
from bottlenecks.training.ladder import is_met, unfinished
from bottlenecks.training.remarks import remarks
from bottlenecks.training.resume import ResumeState


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
    target, plan = Target.of(cfg), TrainingPlan.of(cfg)
    lmbdas = [] if target else rates_asked(cfg)
    experiment = prepare(cfg, "fit")
    written = train_missing(cfg, experiment, lmbdas, plan, target)
    if written:
        show(summary(written, experiment.task.metric_name))
        for line in remarks(written.values()):
            say(line)
    return written


def train_missing(
    cfg: DictConfig, experiment: Experiment, lmbdas: Sequence[Lmbda], plan: TrainingPlan, target: Target | None
) -> dict[Path, RateInfo]:
    """Train those of some rates that are not finished, or the one that meets a target.

    Args:
        cfg: of `train.py`.
        experiment: what it names.
        lmbdas: that are asked for; none with a target.
        plan: the checked settings of training.
        target: in the place of a lambda.

    Returns:
        The rates that were trained now, by path.

    Raises:
        UsageError: the configuration cannot be used.
    """
    settings = settings_of(cfg, experiment)
    resuming = cfg.resume and ResumeState(experiment.folder, lmbdas, settings).path.exists()
    if target and not (cfg.overwrite or resuming) and is_met(experiment.folder, settings):
        return {}
    todo = unfinished(experiment.folder, lmbdas, settings, cfg.overwrite)
    if resuming:
        todo = [*lmbdas]  # the run was cut off while it wrote the first of its rates
    return train_rates(cfg, experiment, todo, settings, plan) if target or todo else {}


def train_network(cfg: DictConfig) -> None:
    """Train the backbone itself, unless it is there and no interrupted run is to go on."""
    path = backbone_path(Path(cfg.paths.checkpoints), cfg.model.name, cfg.data.name)
    resuming = cfg.resume and state_path(path).exists()
    if path.exists() and not (cfg.overwrite or resuming):
        say(f"Kept {path}: there already; train it anew with overwrite=true")
    else:
        make_backbone(cfg)


def summary(written: Mapping[Path, RateInfo], metric: str) -> Table:
    """Draw what was trained as a table for the terminal."""
    table = Table(title="Trained, as seen on the held-back training images")
    keys = ["val/bpp", f"val/{metric}", "val/agreement", "val/loss"]
    for name in ("lambda", "estimated bpp", metric, "agreement", "loss", "best epoch", "file"):
        table.add_column(name, justify="right" if name != "file" else "left", overflow="fold")
    for path, info in written.items():
        figures = [f"{info.metrics[key]:.4g}" if key in info.metrics else "" for key in keys]
        table.add_row(text_of(info.lmbda), *figures, f"{info.metrics['epoch'] + 1:g}", str(path))
    return table
