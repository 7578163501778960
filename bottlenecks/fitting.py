"""Train the rates of an experiment side by side, from its configuration to its files."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig
from pytorch_lightning.loggers import Logger
from torch.utils.data import DataLoader

from bottlenecks.checkpoint import RateInfo
from bottlenecks.errors import UsageError, check_flag, check_number
from bottlenecks.experiment import Experiment, describe_rate, open_logger, plain
from bottlenecks.features import all_finite, num_elements, num_pictures
from bottlenecks.processes import is_main, leave
from bottlenecks.rate_files import Lmbda, rate_name
from bottlenecks.split import Crossing, SplitNetwork
from bottlenecks.terminal import progress, say
from bottlenecks.tracking import close, in_sweep, log_file, offline_folders
from bottlenecks.training.any_rate import Measured
from bottlenecks.training.best import BestStates
from bottlenecks.training.cache import GIB, PRECISIONS, CachePlan, cache_frozen
from bottlenecks.training.cached import CachedDataModule
from bottlenecks.training.calibration import FeatureStatistics, calibrate, statistics_of
from bottlenecks.training.candidates import TransformSettings
from bottlenecks.training.dashboard import Dashboard
from bottlenecks.training.folding import fold_batch_norm
from bottlenecks.training.frozen import FrozenBatch, gather_frozen
from bottlenecks.training.images import ImageData
from bottlenecks.training.ladder import build_units, keep, unfinished
from bottlenecks.training.loss import RateDistortionLoss
from bottlenecks.training.meeting import figures_of, meet
from bottlenecks.training.module import LadderModule, OptimiserConfig
from bottlenecks.training.resume import ResumeState
from bottlenecks.training.settling import settle_range
from bottlenecks.training.start import find_starts
from bottlenecks.training.start_file import StartFile
from bottlenecks.training.target import Target
from bottlenecks.training.trainer import build_trainer, fit, loaders_may_die
from bottlenecks.units import Bottleneck, TransformUnit, make_unit

PRECISIONS_OF_TRAINING = ("32-true", "32", "bf16-mixed", "16-mixed", "64-true", "64")
MOST_GIB = 2**30
EASE = 3.0  # lambda over that of the step that training begins with, where there is a restoring network
FIT_BYTES = 2**30  # of features that a closed form is fitted to
MOST_MEASURED = 2048  # images by which a target is met
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
        for name, weight in cfg.loss.items():
            check_number(f"loss.{name}", weight)
        if (precision := str(cfg.trainer.precision)) not in PRECISIONS_OF_TRAINING:
            known = ", ".join(PRECISIONS_OF_TRAINING)
            raise UsageError(f"trainer.precision={precision}: rates are counted in 32 bits or more; expected {known}")
        for name in ("warm_start", "fold_batch_norm"):
            check_flag(f"training.{name}", training[name])
        if training.cache_precision not in PRECISIONS:
            raise UsageError(
                f"training.cache_precision={training.cache_precision}: expected 32, or 16 for half the space"
            )
        for name, least in (("epochs", 0), ("calibration_images", 1), ("fit_images", 1)):
            check_number(f"training.{name}", training[name], least, whole=True)
        if training.rates_per_pass is not None:
            check_number("training.rates_per_pass", training.rates_per_pass, 1, whole=True)
        names = ("lr", "entropy_lr", "linear_lr", "weight_decay", "warmup", "gradient_clip")
        for name in names:
            check_number(f"training.{name}", training[name])
        optimiser = OptimiserConfig(**{name: training[name] for name in names})
        return cls(optimiser, _plan_cache(cfg), _choice(cfg, "channels_last"))

    def is_channels_last(self, crossing: Sequence[Crossing]) -> bool:
        """Decide the layout for what crosses; `auto` takes it where maps are large enough to gain from it."""
        if self.channels_last != "auto":
            return bool(self.channels_last)
        return min(side for tensor in crossing for side in tensor.shape[1:]) >= LARGE_MAP


def train_rates(
    cfg: DictConfig, experiment: Experiment, lmbdas: Sequence[Lmbda], settings: Mapping[str, Any], plan: TrainingPlan
) -> dict[Path, RateInfo]:
    """Train the units of several rates and write their checkpoints.

    Args:
        cfg: of `train.py`.
        experiment: what it names.
        lmbdas: of the rates; none where a target is given.
        settings: that bear on the outcome.
        plan: the checked settings.

    Returns:
        What was written, by path.

    Raises:
        UsageError: an interrupted run lies there and nothing was said of it, the run cannot be resumed, or was cut
            short, or a rate's loss never was finite.
    """
    best, state, target = BestStates(), ResumeState(experiment.folder, lmbdas, settings), Target.of(cfg)
    start = state.find(cfg.resume, cfg.overwrite)
    if cfg.resume and start is None:
        say(f"resume=true: nothing to go on from at {state.path}; starting from the beginning")
    told: set[str] = set()
    summary = open_logger(cfg, "train", "summary", experiment.title, told)
    titles = [*map(rate_name, lmbdas)] if target is None else [str(target)]
    names = [] if in_sweep(summary) else titles  # a sweep has one run a trial
    loggers = [open_logger(cfg, "train", name, experiment.title, told) for name in names]
    dashboard = Dashboard(summary, experiment.title)
    trainer = make_trainer(cfg, [best, state, dashboard], [logger for logger in loggers if logger])
    check_processes(trainer, experiment.datamodule)
    beginning = StartFile(state.path, settings, experiment.datamodule.identity("train"), start is not None)
    module, data = assemble(cfg, experiment, lmbdas, plan, trainer, beginning)
    if target and start is None:
        unfinished(experiment.folder, module.lmbdas, settings, cfg.overwrite)  # refuses a finished rate of this lambda
    fit(module, data, trainer, state, start)
    if target:
        meet_target(target, experiment, module, best, trainer.strategy.root_device)
    written = keep(
        module,
        best,
        experiment.folder,
        lambda lmbda, unit: describe_rate(experiment, cfg, settings, lmbda, unit),
        lambda rate: settle_range(module, rate, data.val_dataloader(), trainer.strategy.root_device),
    )
    if is_main():
        state.remove()
    for logger, (path, info) in zip(loggers or [summary] * len(written), written.items(), strict=True):
        log_file(logger, f"{experiment.title}/{path.stem}", "rate", path, info.metrics)
    for logger in [*loggers, summary]:
        close(logger)
    if folders := offline_folders([*loggers, summary]):
        say(f"W&B was offline; upload with: wandb sync {' '.join(map(str, folders))}")
    leave()
    return written


def assemble(
    cfg: DictConfig,
    experiment: Experiment,
    lmbdas: Sequence[Lmbda],
    plan: TrainingPlan,
    trainer: pl.Trainer,
    state: StartFile,
) -> tuple[LadderModule, CachedDataModule | ImageData]:
    """Put together what a trainer fits: units around the cut network, and pictures or what is cached of them."""
    device = trainer.strategy.root_device
    network, pictures = experiment.network.to(device), experiment.datamodule
    if cfg.training.fold_batch_norm:
        head, tail = fold_batch_norm(network.head), fold_batch_norm(network.tail)
        network = SplitNetwork(network.split, network.crossing, head, network.sizes, tail)
    layout = torch.channels_last if plan.is_channels_last(network.crossing) else torch.contiguous_format
    network = network.to(memory_format=layout)
    with loaders_may_die(lambda: "before the first epoch; start again"):
        with trainer.precision_plugin.forward_context():
            cached = plan.cache and cache_frozen(
                network, pictures, device, plan.cache.shared_by(trainer.num_devices), _cache_key(cfg, experiment)
            )
        if cfg.unit.architecture == "transform":
            features, units, measured = begin_in_closed_form(cfg, experiment, network, lmbdas, cached or None, state)
        else:
            batches = pictures.calibration_dataloader()
            features = calibrate(network.head, batches, device, cfg.training.calibration_images)
            units = build_units(lmbdas, plain(cfg.unit), network, features, cfg.seed, cfg.training.warm_start)
            measured = {}
    loss = RateDistortionLoss(experiment.task, plain(cfg.loss), [own.variance for own in features])
    passes, precision = cfg.training.rates_per_pass, PRECISIONS[cfg.training.cache_precision]
    module = LadderModule(network, units, experiment.task, loss, plan.optimiser, cfg.seed, passes, precision, measured)
    module.units.to(memory_format=layout)
    return module, cached or pictures


def begin_in_closed_form(
    cfg: DictConfig,
    experiment: Experiment,
    network: SplitNetwork,
    lmbdas: Sequence[Lmbda],
    cached: CachedDataModule | None,
    state: StartFile,
) -> tuple[Sequence[FeatureStatistics], dict[Lmbda, Bottleneck], dict[Lmbda, Sequence[Measured]]]:
    """Begin transform units from training images; an interrupted run goes on from the start that it had.

    Returns:
        Statistics of the features, the units, and what was measured of those of any rate.
    """
    pictures, device = experiment.datamodule, next(network.parameters()).device
    settings = TransformSettings.of(plain(cfg.unit))
    most, seen = cfg.training.fit_images, None

    def gather(loader: DataLoader) -> FrozenBatch:
        batches = progress(loader, "Looking at training images", None)
        return gather_frozen(network, batches, device, most, FIT_BYTES, PRECISIONS[cfg.training.cache_precision])

    if cached and cached.num_views == 1:
        row = num_elements(cached.splits["train"][0][:2])
        frozen = cached.sample(min(most, FIT_BYTES // (4 * row)))
    else:
        frozen = gather(pictures.calibration_dataloader())
    if (pictures.num_views or 1) > 1:
        seen = cached.sample(num_pictures(frozen.features)) if cached else gather(pictures.view_loaders("train")[0])
    if not all_finite(frozen.features):
        raise UsageError(f"split={network.split}: the features there are not finite; are the weights sound?")
    statistics = statistics_of(frozen.features)
    loss = RateDistortionLoss(experiment.task, plain(cfg.loss), [own.variance for own in statistics])
    parts = (network, experiment.task, loss, frozen, statistics, lmbdas, settings, experiment.image_shape, cfg.seed)
    starts = state.obtain(
        lambda: find_starts(
            *parts, Target.of(cfg), seen, EASE if cfg.training.epochs and settings.restorer != 0 else 1.0
        )
    )
    units = dict[Lmbda, Bottleneck]()
    for lmbda, start in starts.items():
        units[lmbda] = make_unit(cfg.unit.architecture, start.config)
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
    pictures = experiment.datamodule
    held = gather_frozen(network, pictures.view_loaders("val")[0], device, MOST_MEASURED, FIT_BYTES)
    refit = gather_frozen(network, pictures.calibration_dataloader(), device, MOST_MEASURED, FIT_BYTES)
    met = meet(target, unit.cpu().float(), refit.features, held, network, experiment.task)
    say(met.text)
    if met.octaves:
        best.states[0] = met.unit.state_dict()
        best.figures[0] = figures_of(met.unit, lmbda, held, network, module.rate_loss)
    best.figures[0] |= {str(target): met.figure.value, "target.error": met.figure.error}


def make_trainer(cfg: DictConfig, callbacks: Sequence[pl.Callback], loggers: Sequence[Logger]) -> pl.Trainer:
    """Build Lightning's trainer around the callbacks that keep best and resume state."""
    # The start competes with every epoch.
    return build_trainer(cfg, cfg.training.epochs, callbacks, loggers, num_sanity_val_steps=-1)


def check_processes(trainer: pl.Trainer, pictures: ImageData) -> None:
    """Refuse processes that would all do the same, or have nothing to do.

    Raises:
        UsageError: a launcher started several and the trainer uses one, or there are fewer pictures than processes.
    """
    started = int(os.environ.get("WORLD_SIZE", 1))
    if started > trainer.world_size:
        raise UsageError(
            f"{started} processes were started and the trainer uses {trainer.world_size}: all would train the same; "
            f"give trainer=ddp trainer.devices={os.environ.get('LOCAL_WORLD_SIZE', started)}"
        )
    for split in ("train", "val"):
        count = len(pictures.pictures(split))
        if count < trainer.world_size:
            raise UsageError(f"{trainer.world_size} processes for {count} pictures ({split}); start fewer")


def _plan_cache(cfg: DictConfig) -> CachePlan | None:
    choice = _choice(cfg, "cache_features")
    for name in ("cache_memory_gib", "cache_disk_gib"):
        check_number(f"training.{name}", cfg.training[name])
    memory, disk = (int(min(cfg.training[f"cache_{place}_gib"], MOST_GIB) * GIB) for place in ("memory", "disk"))
    if not cfg.paths.cache:
        raise UsageError(f"paths.cache={cfg.paths.cache}: expected a folder")
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
