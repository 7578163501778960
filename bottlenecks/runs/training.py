"""Train what a configuration asks for: rates, or the network itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rich.table import Table

from bottlenecks.console.terminal import say, show
from bottlenecks.rates.info import RateInfo
from bottlenecks.rates.places import text_of
from bottlenecks.runs.experiment import Experiment, make_backbone, prepare, settings_of
from bottlenecks.runs.fitting import train_rates
from bottlenecks.settings.experiment import ExperimentPlan, NetworkPlan
from bottlenecks.settings.training import TrainingPlan
from bottlenecks.settings.weights import state_path
from bottlenecks.training.ladder import is_met, unfinished
from bottlenecks.training.remarks import remarks
from bottlenecks.training.resume import ResumeState


def train(experiment_plan: ExperimentPlan, plan: TrainingPlan) -> dict[Path, RateInfo]:
    """Train the units that a configuration asks for.

    Returns:
        The rates that were trained now, by path.

    Raises:
        UsageError: the configuration cannot be used.
    """
    experiment = prepare(experiment_plan, "fit", plan.augment_few)
    written = train_missing(experiment, plan)
    if written:
        show(summary(written, experiment.task.metric_name))
        for line in remarks(written.values()):
            say(line)
    return written


def train_missing(experiment: Experiment, plan: TrainingPlan) -> dict[Path, RateInfo]:
    """Train those of some rates that are not finished, or the one that meets a target.

    Args:
        experiment: where they are trained.
        plan: which, and how.

    Returns:
        The rates that were trained now, by path.

    Raises:
        UsageError: the configuration cannot be used.
    """
    settings = settings_of(experiment)
    resuming = plan.resume and ResumeState(experiment.folder, plan.lmbdas, settings).path.exists()
    if plan.target and not (plan.overwrite or resuming) and is_met(experiment.folder, settings):
        return {}
    todo = unfinished(experiment.folder, plan.lmbdas, settings, plan.overwrite)
    if resuming:
        todo = [*plan.lmbdas]  # the run was cut off while it wrote the first of its rates
    return train_rates(experiment, plan, todo, settings) if plan.target or todo else {}


def train_network(plan: NetworkPlan) -> None:
    """Train a network itself, unless it is there and no interrupted run is to go on."""
    resuming = plan.resume and state_path(plan.backbone).exists()
    if plan.backbone.exists() and not (plan.overwrite or resuming):
        say(f"Kept {plan.backbone}: there already; train it anew with overwrite=true")
    else:
        make_backbone(plan)


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
