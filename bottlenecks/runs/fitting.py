"""Train the rates of an experiment side by side, from its configuration to its files."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from bottlenecks.console.terminal import progress, say
from bottlenecks.errors import UsageError
from bottlenecks.processes import is_main, leave
from bottlenecks.rates.info import RateInfo
from bottlenecks.rates.places import Lmbda, rate_name
from bottlenecks.runs.experiment import Experiment, describe_rate, open_logger
from bottlenecks.settings.target import Target
from bottlenecks.settings.training import TrainingPlan
from bottlenecks.splitting.cut import SplitNetwork
from bottlenecks.splitting.features import all_finite, num_elements, num_images
from bottlenecks.tasks import Task
from bottlenecks.training.any_rate import Measured
from bottlenecks.training.best import BestStates
from bottlenecks.training.cache import PRECISIONS, cache_frozen
from bottlenecks.training.cached import CachedDataModule
from bottlenecks.training.calibration import FeatureStatistics, calibrate, statistics_of
from bottlenecks.training.dashboard import Dashboard
from bottlenecks.training.folding import fold_batch_norm
from bottlenecks.training.frozen import FrozenBatch, gather_frozen
from bottlenecks.training.images import ImageData
from bottlenecks.training.ladder import build_units, keep, unfinished
from bottlenecks.training.loggers import close, in_sweep, log_file, offline_folders
from bottlenecks.training.loss import RateDistortionLoss
from bottlenecks.training.meeting import figures_of, meet
from bottlenecks.training.module import LadderModule
from bottlenecks.training.resume import ResumeState
from bottlenecks.training.settling import settle_range
from bottlenecks.training.start import find_starts
from bottlenecks.training.start_file import StartFile
from bottlenecks.training.trainer import build_trainer, fit, loaders_may_die
from bottlenecks.units import Bottleneck, TransformUnit, make_unit
from bottlenecks.units.settings import TransformSettings

EASE = 3.0  # lambda over that of the step that training begins with, where there is a restoring network
FIT_BYTES = 2**30  # of features that a closed form is fitted to
MOST_MEASURED = 2048  # images by which a target is met


def train_rates(
    experiment: Experiment, plan: TrainingPlan, lmbdas: Sequence[Lmbda], settings: Mapping[str, Any]
) -> dict[Path, RateInfo]:
    """Train the units of several rates and write their checkpoints.

    Args:
        experiment: where they are trained.
        plan: how.
        lmbdas: of the rates; none where a target is given.
        settings: that bear on the outcome.

    Returns:
        What was written, by path.

    Raises:
        UsageError: an interrupted run lies there and nothing was said of it, the run cannot be resumed, or was cut
            short, or a rate's loss never was finite.
    """
    best, state, target = BestStates(), ResumeState(experiment.folder, lmbdas, settings), plan.target
    start = state.find(plan.resume, plan.overwrite)
    if plan.resume and start is None:
        say(f"resume=true: nothing to go on from at {state.path}; starting from the beginning")
    told: set[str] = set()
    summary = open_logger(experiment.plan, "train", "summary", experiment.title, told)
    titles = [*map(rate_name, lmbdas)] if target is None else [str(target)]
    names = [] if in_sweep(summary) else titles  # a sweep has one run a trial
    loggers = [open_logger(experiment.plan, "train", name, experiment.title, told) for name in names]
    dashboard = Dashboard(summary, experiment.title)
    callbacks, own = [best, state, dashboard], [logger for logger in loggers if logger]
    arguments = experiment.plan.network.trainer
    trainer = build_trainer(arguments, plan.epochs, callbacks, own, num_sanity_val_steps=-1)  # the start competes
    check_processes(trainer, experiment.datamodule)
    beginning = StartFile(state.path, settings, experiment.datamodule.identity("train"), start is not None)
    module, data = assemble(experiment, plan, lmbdas, trainer, beginning)
    if target and start is None:
        unfinished(experiment.folder, module.lmbdas, settings, plan.overwrite)  # refuses a finished rate of this lambda
    fit(module, data, trainer, state, start)
    if target:
        meet_target(target, experiment, module, best, trainer.strategy.root_device)
    written = keep(
        module,
        best,
        experiment.folder,
        lambda lmbda, unit: describe_rate(experiment, settings, lmbda, unit),
        lambda rate: settle_range(module, rate, data.val_dataloader(), trainer.strategy.root_device),
        plan.overwrite,
    )
    if is_main():
        state.remove()
    for logger, (path, info) in zip(loggers or [summary] * len(written), written.items(), strict=True):
        log_file(logger, f"{experiment.title}/{path.stem}", "rate", path, info.metrics)
    for logger in [*loggers, summary]:
        close(logger)
    if folders := offline_folders([*loggers, summary]):
        say(f"W&B was offline; upload with: wandb sync {shlex.join(map(str, folders))}")
    leave()
    return written


def assemble(
    experiment: Experiment,
    plan: TrainingPlan,
    lmbdas: Sequence[Lmbda],
    trainer: pl.Trainer,
    state: StartFile,
) -> tuple[LadderModule, CachedDataModule | ImageData]:
    """Put together what a trainer fits: units around the cut network, and images or what is cached of them."""
    device = trainer.strategy.root_device
    network, images, seed = experiment.network.to(device), experiment.datamodule, experiment.plan.network.seed
    if plan.fold_batch_norm:
        head, tail = fold_batch_norm(network.head), fold_batch_norm(network.tail)
        network = SplitNetwork(network.split, network.crossing, head, network.sizes, tail)
    channels_last = plan.is_channels_last(tensor.shape for tensor in network.crossing)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    network = network.to(memory_format=layout)
    with loaders_may_die(lambda: "before the first epoch; start again"):
        check_labels(plan.loss, experiment.task, images)
        with trainer.precision_plugin.forward_context():
            cached = plan.cache and cache_frozen(
                network, images, device, plan.cache.shared_by(trainer.num_devices), _cache_key(experiment)
            )
        if experiment.plan.unit.architecture == "transform":
            features, units, measured = begin_in_closed_form(experiment, plan, network, lmbdas, cached or None, state)
        else:
            batches = images.calibration_dataloader()
            features = calibrate(network.head, batches, device, plan.calibration_images)
            units = build_units(lmbdas, experiment.plan.unit.arguments, network, features, seed, plan.warm_start)
            measured = {}
    loss = RateDistortionLoss(experiment.task, plan.loss, [own.variance for own in features])
    passes, precision = plan.rates_per_pass, PRECISIONS[plan.feature_bits]
    module = LadderModule(network, units, experiment.task, loss, plan.optimiser, seed, passes, precision, measured)
    module.units.to(memory_format=layout)
    return module, cached or images


def begin_in_closed_form(
    experiment: Experiment,
    plan: TrainingPlan,
    network: SplitNetwork,
    lmbdas: Sequence[Lmbda],
    cached: CachedDataModule | None,
    state: StartFile,
) -> tuple[Sequence[FeatureStatistics], dict[Lmbda, Bottleneck], dict[Lmbda, Sequence[Measured]]]:
    """Begin transform units from training images; an interrupted run goes on from the start that it had.

    Returns:
        Statistics of the features, the units, and what was measured of those of any rate.
    """
    images, device = experiment.datamodule, next(network.parameters()).device
    settings = TransformSettings.of(experiment.plan.unit.arguments)
    most, seed = plan.fit_images, experiment.plan.network.seed

    def gather(loader: DataLoader) -> FrozenBatch:
        batches = progress(loader, "Looking at training images", None)
        return gather_frozen(network, batches, device, most, FIT_BYTES, PRECISIONS[plan.feature_bits])

    if cached and cached.num_views == 1:
        row = num_elements(cached.splits["train"][0][:2])
        frozen = cached.sample(min(most, FIT_BYTES // (4 * row)))
    else:
        frozen = gather(images.calibration_dataloader())

    def look_again(view: int) -> FrozenBatch:
        if cached:
            return cached.sample(num_images(frozen.features), view)
        return gather(images.view_loaders("train")[view])

    num_views = images.num_views or 1
    views = [partial(look_again, view) for view in range(num_views)] if num_views > 1 else []
    if not all_finite(frozen.features):
        raise UsageError(f"split={network.split}: the features there are not finite; are the weights sound?")
    statistics = statistics_of(frozen.features)
    loss = RateDistortionLoss(experiment.task, plan.loss, [own.variance for own in statistics])
    parts = (network, experiment.task, loss, frozen, statistics, lmbdas, settings, experiment.image_shape, seed)
    ease = EASE if plan.epochs and settings.restorer != 0 else 1.0
    starts = state.obtain(lambda: find_starts(*parts, plan.target, views, ease))
    units = dict[Lmbda, Bottleneck]()
    for lmbda, start in starts.items():
        units[lmbda] = make_unit(experiment.plan.unit.architecture, start.config)
        units[lmbda].load_state_dict(start.state)
    return statistics, units, {lmbda: start.measured for lmbda, start in starts.items()}


def meet_target(
    target: Target, experiment: Experiment, module: LadderModule, best: BestStates, device: torch.device
) -> None:
    """Bring the best state of the one rate to a target, by its steps, and say how near it came."""
    if not (best.states and best.states[0]):
        return
    network, (unit,), (lmbda,) = module.network.to(device).float(), module.units, module.lmbdas
    assert isinstance(unit, TransformUnit) and isinstance(lmbda, float)
    unit.load_state_dict(best.states[0])
    images = experiment.datamodule
    held = gather_frozen(network, images.view_loaders("val")[0], device, MOST_MEASURED, FIT_BYTES)
    refit = gather_frozen(network, images.calibration_dataloader(), device, MOST_MEASURED, FIT_BYTES)
    met = meet(target, unit.cpu().float(), refit.features, held, network, experiment.task)
    say(met.text)
    if met.octaves:
        best.states[0] = met.unit.state_dict()
        best.figures[0] = figures_of(met.unit, lmbda, held, network, module.rate_loss)
    best.figures[0] |= {str(target): met.figure.value, "target.error": met.figure.error}


def check_labels(weights: Mapping[str, float], task: Task, images: ImageData) -> None:
    """Refuse to learn from labels where there are none.

    Raises:
        UsageError: the cross-entropy has a weight, and no training image has a label.
    """
    weight = weights.get("ce", 0)
    if weight and not any(task.is_labelled(targets) for _, targets in images.calibration_dataloader()):
        raise UsageError(
            f"loss.ce={weight:g}: no training image has a label; give images with labels, or loss.ce=0 and loss.kd=1, "
            "which needs none"
        )


def check_processes(trainer: pl.Trainer, images: ImageData) -> None:
    """Refuse processes that would all do the same, or have nothing to do.

    Raises:
        UsageError: a launcher started several and the trainer uses one, or there are fewer images than processes.
    """
    started = int(os.environ.get("WORLD_SIZE", 1))
    if started > trainer.world_size:
        raise UsageError(
            f"{started} processes were started and the trainer uses {trainer.world_size}: all would train the same; "
            f"give trainer=ddp trainer.devices={os.environ.get('LOCAL_WORLD_SIZE', started)}"
        )
    for split in ("train", "val"):
        count = len(images.images(split))
        if count < trainer.world_size:
            raise UsageError(f"{trainer.world_size} processes for {count} images ({split}); start fewer")


def _cache_key(experiment: Experiment) -> dict[str, Any]:
    return {
        "backbone": experiment.backbone.fingerprint,
        "split": experiment.network.split,
        "precision": experiment.plan.network.trainer["precision"],
    }
