"""Judge the codecs that a configuration names, from it to a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf

from bottlenecks.baselines import BASELINES, make_baselines
from bottlenecks.baselines.base import Baseline, Calibration
from bottlenecks.checkpoint import CheckpointError, Ladder, find_rates
from bottlenecks.codec import Codec, UnitCodec
from bottlenecks.errors import UsageError, check_name, check_number, closest
from bottlenecks.evaluation.calibrating import Calibrator
from bottlenecks.evaluation.curve import Curve
from bottlenecks.evaluation.merit import check_installed
from bottlenecks.evaluation.points import Judgement, judge
from bottlenecks.evaluation.record import Record
from bottlenecks.evaluation.strips import draw_strips
from bottlenecks.evaluation.workers import Workers
from bottlenecks.experiment import Experiment, folder_of, pick_device, prepare
from bottlenecks.processes import from_main, join, own_share
from bottlenecks.rate_files import rate_folder
from bottlenecks.split import SplitNetwork
from bottlenecks.tasks import Task
from bottlenecks.training.images import ImageData

UNIT = "unit"  # the codec that is the configuration's own unit


@dataclass(frozen=True)
class JudgingPlan:
    """The settings of `evaluate.py`, checked.

    Attributes:
        codecs: their names.
        ladders: the trained units among them.
        anchor: the one that others are compared with, None for the first.
        workers: processes that code for the baselines, None for as many as there are threads.
        calibration_images: training pictures that baselines choose their settings on.
        timed_images: pictures that times are taken over.
        points: rates of a unit of any rate.
    """

    codecs: Sequence[str]
    ladders: Mapping[str, Ladder]
    anchor: str | None
    workers: int | None
    calibration_images: int
    timed_images: int
    points: int

    @classmethod
    def of(cls, cfg: DictConfig) -> JudgingPlan:
        """Read and check the settings, and load the units.

        Raises:
            UsageError: one cannot be used.
        """
        for name in ("timed_images", "calibration_images", "points"):
            check_number(name, cfg[name], 1, whole=True)
        if cfg.workers is not None:
            check_number("workers", cfg.workers, whole=True)
        names = codec_names(cfg)
        if cfg.anchor is not None and cfg.anchor not in names:
            raise UsageError(f"anchor={cfg.anchor}: not among the codecs that are judged, {', '.join(names)}")
        if len(names) > 1:
            check_installed()
        ladders = {name: load_ladder(cfg, name) for name in names if name not in BASELINES}
        return cls(names, ladders, cfg.anchor, cfg.workers, cfg.calibration_images, cfg.timed_images, cfg.points)

    @property
    def baselines(self) -> list[str]:
        """Names of the codecs that are no trained units."""
        return [name for name in self.codecs if name not in self.ladders]


def codec_names(cfg: DictConfig) -> list[str]:
    """Read `codecs`, a name or a list of them.

    Raises:
        UsageError: none, or none that could be a codec's.
    """
    names = list(cfg.codecs) if OmegaConf.is_list(cfg.codecs) else [cfg.codecs]
    if not names:
        raise UsageError(f"codecs=[]: expected at least one of {UNIT}, {', '.join(BASELINES)}")
    for name in names:
        check_name("codecs", name)
    return list(dict.fromkeys(names))


def load_ladder(cfg: DictConfig, name: str) -> Ladder:
    """Load the configuration's own unit, or another of the same split and data by its name.

    Raises:
        UsageError: there is none.
    """
    if name == UNIT:
        return Ladder.load(folder_of(cfg), cfg.unit.name).only(cfg.unit.get("range", False))
    folder = rate_folder(Path(cfg.paths.checkpoints), cfg.model.name, str(cfg.split), cfg.data.name, name)
    try:
        find_rates(folder, name)
    except CheckpointError as error:
        known = closest(name, [UNIT, *BASELINES], len(BASELINES))
        raise UsageError(f"codecs={name}: no baseline ({known}), and no trained unit ({error})") from None
    return Ladder.load(folder, name).only(ranged=False)


@dataclass(frozen=True)
class Judged:
    """What came out for one configuration.

    Attributes:
        experiment: what it named.
        curve: the operating points.
        record: of every single picture.
        strips: a PNG of some predictions, from coarse to fine.
    """

    experiment: Experiment
    curve: Curve
    record: Record
    strips: bytes


def judge_codecs(cfg: DictConfig) -> Judged:
    """Measure the codecs that a configuration names, at its split point.

    Raises:
        UsageError: the configuration cannot be used.
    """
    plan = JudgingPlan.of(cfg)
    experiment = prepare(cfg, "test")
    backbone, network, data, task = experiment.backbone, experiment.network, experiment.datamodule, experiment.task
    for ladder in plan.ladders.values():
        ladder.check_network(network, backbone.fingerprint, backbone.source)
    experiment.results.mkdir(parents=True, exist_ok=True)  # told now rather than after all the work
    device = join(pick_device(cfg.device))
    codecs, judgement = judge_given(plan, network, data, task, device)
    images, _ = next(iter(data.test_dataloader()))
    shown = [codec for codec in codecs if codec.lmbda is not None] or codecs
    names = backbone.class_names or data.class_names
    strips = draw_strips(shown, network, task, images.to(device), data.preprocessing, names)
    curve = Curve.of(judgement, backbone.spec.name, network.split, data.name, task)
    return Judged(experiment, curve, judgement.record, strips)


def judge_given(
    plan: JudgingPlan, network: SplitNetwork, data: ImageData, task: Task, device: torch.device
) -> tuple[list[Codec], Judgement]:
    """Measure codecs at a cut.

    Args:
        plan: which.
        network: the cut network; it is moved to `device`.
        data: images on which nothing was chosen, and training images for the baselines.
        task: judges the outputs.
        device: of this process.

    Raises:
        UsageError: a codec cannot be had.
    """
    pictures = data.pictures("test").names
    if own_share().world_size > len(pictures):
        raise UsageError(f"{own_share().world_size} processes for {len(pictures)} pictures; start fewer")
    with Workers(plan.workers if plan.baselines else 0) as workers:
        network.to(device)
        network.head.to(memory_format=torch.channels_last)  # ResNet-50's takes a quarter less time on a CPU
        codecs = make_codecs(plan, network, data, task, device, workers)
        batches = data.test_dataloader()
        return codecs, judge(codecs, network, batches, pictures, task, device, workers, plan.timed_images)


def _make(name: str, calibration: Calibration) -> list[Baseline]:
    try:
        return make_baselines(name, calibration)
    except UsageError:
        raise
    except ValueError as error:  # features that this codec has no settings for
        raise UsageError(f"codecs={name}: cannot code these features ({error}); leave it out") from None


def make_codecs(
    plan: JudgingPlan, network: SplitNetwork, data: ImageData, task: Task, device: torch.device, workers: Workers
) -> list[Codec]:
    """Make every operating point of every codec; baselines choose theirs on training pictures.

    Raises:
        UsageError: there is none.
    """
    made: dict[str, Sequence[Codec]] = {}
    for name, ladder in plan.ladders.items():
        made[name] = [UnitCodec(rate, name) for rate in ladder.spread(plan.points)]
        for rate in ladder.files:
            rate.unit.to(device)
    if plan.baselines:
        batches = data.calibration_dataloader()
        calibrator = Calibrator(network, batches, task, device, workers, plan.calibration_images)
        calibration = calibrator.calibration(data.preprocessing)
        for name in plan.baselines:
            made[name] = from_main(partial(_make, name, calibration))
    codecs = [codec for name in plan.codecs for codec in made[name]]
    if not codecs:
        raise UsageError(f"codecs=[{','.join(plan.codecs)}]: none of them can be had here; add another")
    if plan.anchor is not None and not made[plan.anchor]:
        raise UsageError(f"anchor={plan.anchor}: cannot be had here; take another")
    return codecs
