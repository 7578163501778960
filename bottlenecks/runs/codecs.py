"""Evaluate the codecs that a configuration names, from it to a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from bottlenecks.baselines import make_baselines
from bottlenecks.baselines.base import Baseline, Calibration
from bottlenecks.baselines.codec import Codec, UnitCodec
from bottlenecks.errors import UsageError
from bottlenecks.evaluation.calibrating import Calibrator
from bottlenecks.evaluation.curve import Curve
from bottlenecks.evaluation.merit import check_installed
from bottlenecks.evaluation.points import Evaluation, evaluate
from bottlenecks.evaluation.record import Record
from bottlenecks.evaluation.strips import draw_strips
from bottlenecks.evaluation.workers import Workers
from bottlenecks.processes import from_main, join, own_share
from bottlenecks.rates.ladder import Ladder
from bottlenecks.runs.experiment import Experiment, pick_device, prepare
from bottlenecks.settings.evaluation import UNIT, EvaluationPlan, find_ladder
from bottlenecks.settings.experiment import ExperimentPlan
from bottlenecks.splitting.cut import SplitNetwork
from bottlenecks.tasks import Task
from bottlenecks.training.images import ImageData


def load_ladder(plan: ExperimentPlan, name: str) -> Ladder:
    """Load an experiment's own unit, or another of the same split and data by its name.

    Raises:
        UsageError: there is none.
    """
    return Ladder.load(*find_ladder(plan, name)).only(name == UNIT and plan.unit.ranged)


@dataclass(frozen=True)
class Evaluated:
    """What came out for one configuration.

    Attributes:
        experiment: what it named.
        curve: the operating points.
        record: of every single image.
        strips: a PNG of some predictions, from coarse to fine.
    """

    experiment: Experiment
    curve: Curve
    record: Record
    strips: bytes


def evaluate_codecs(experiment_plan: ExperimentPlan, plan: EvaluationPlan) -> Evaluated:
    """Measure the codecs that a configuration names, at its split point.

    Raises:
        UsageError: the configuration cannot be used.
    """
    if len(plan.codecs) > 1:
        check_installed()
    ladders = {name: load_ladder(experiment_plan, name) for name in plan.units}
    experiment = prepare(experiment_plan, "test")
    backbone, network, data, task = experiment.backbone, experiment.network, experiment.datamodule, experiment.task
    for ladder in ladders.values():
        ladder.check_network(network, backbone.fingerprint, backbone.source)
    experiment_plan.results.mkdir(parents=True, exist_ok=True)  # told now rather than after all the work
    device = join(pick_device(plan.device))
    codecs, evaluation = evaluate_given(plan, ladders, network, data, task, device)
    images, _ = next(iter(data.test_dataloader()))
    shown = [codec for codec in codecs if codec.lmbda is not None] or codecs
    names = backbone.class_names or data.class_names
    strips = draw_strips(shown, network, task, images.to(device), data.preprocessing, names)
    curve = Curve.of(evaluation, backbone.spec.name, network.split, data.name, task)
    return Evaluated(experiment, curve, evaluation.record, strips)


def evaluate_given(
    plan: EvaluationPlan,
    ladders: Mapping[str, Ladder],
    network: SplitNetwork,
    data: ImageData,
    task: Task,
    device: torch.device,
) -> tuple[list[Codec], Evaluation]:
    """Measure codecs at a cut.

    Args:
        plan: which.
        ladders: the trained units among them, by name.
        network: the cut network; it is moved to `device`.
        data: images on which nothing was chosen, and training images for the baselines.
        task: evaluates the outputs.
        device: of this process.

    Raises:
        UsageError: a codec cannot be had.
    """
    images = data.images("test").names
    if own_share().world_size > len(images):
        raise UsageError(f"{own_share().world_size} processes for {len(images)} images; start fewer")
    with Workers(plan.workers if plan.baselines else 0) as workers:
        network.to(device)
        network.head.to(memory_format=torch.channels_last)  # ResNet-50's takes a quarter less time on a CPU
        codecs = make_codecs(plan, ladders, network, data, task, device, workers)
        batches = data.test_dataloader()
        return codecs, evaluate(codecs, network, batches, images, task, device, workers, plan.timed_images)


def _make(name: str, calibration: Calibration) -> list[Baseline]:
    try:
        return make_baselines(name, calibration)
    except UsageError:
        raise
    except ValueError as error:  # features that this codec has no settings for
        raise UsageError(f"codecs={name}: cannot code these features ({error}); leave it out") from None


def make_codecs(
    plan: EvaluationPlan,
    ladders: Mapping[str, Ladder],
    network: SplitNetwork,
    data: ImageData,
    task: Task,
    device: torch.device,
    workers: Workers,
) -> list[Codec]:
    """Make every operating point of every codec; baselines choose theirs on training images.

    Raises:
        UsageError: there is none.
    """
    made: dict[str, Sequence[Codec]] = {}
    for name, ladder in ladders.items():
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


def check_curve(curve: Curve, ladder: Ladder) -> None:
    """Refuse a curve that is not of these rates, as far as it tells: by its lambdas, and the size of what they hold.

    Raises:
        UsageError: it is of others.
    """
    info, points = ladder.info, {point["lambda"]: point for point in curve.points if point["codec"] == UNIT}
    way_out = "bn.evaluate(net, …) makes one of them"
    if (curve.model, curve.split) != (info.model, info.split):
        raise UsageError(
            f"curve: of {curve.model} at {curve.split}, the rates are of {info.model} at {info.split}; {way_out}"
        )
    if not points.keys() >= set(ladder) or not all(lmbda in ladder for lmbda in points):
        raise UsageError(f"curve: of lambda={[*points]}, the rates are of {[*ladder]}; {way_out}")
    for lmbda, point in points.items():
        held = UnitCodec(ladder[lmbda]).state_bytes()
        if point.get("state_bytes", held) != held:
            raise UsageError(
                f"curve: its lambda={lmbda!r} holds {point['state_bytes']} bytes, that of the rates {held}; {way_out}"
            )
