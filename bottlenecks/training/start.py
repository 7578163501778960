"""Where the units of a ladder begin: structure, step and weights in closed form, before the first gradient step."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from bottlenecks.console.terminal import progress, say
from bottlenecks.rates.places import Lmbda, middle_of, rate_name
from bottlenecks.settings.target import Target
from bottlenecks.splitting.cut import SplitNetwork
from bottlenecks.tasks import Task
from bottlenecks.training.any_rate import PER_OCTAVE, Measured, find_range, fit_steps, gains_help, with_range
from bottlenecks.training.calibration import FeatureStatistics
from bottlenecks.training.candidates import list_candidates, restorer_widths
from bottlenecks.training.closed_form import Sample
from bottlenecks.training.frozen import FrozenBatch
from bottlenecks.training.loss import RateDistortionLoss
from bottlenecks.training.nonlinear import learn_encoders, may_be_nonlinear, with_first, with_layer
from bottlenecks.training.seeds import seed_for
from bottlenecks.training.structure import (
    Candidate,
    Fit,
    Trial,
    encode,
    fold_images,
    set_step,
    try_candidates,
)
from bottlenecks.training.target import PointsLost, find_lambda
from bottlenecks.training.through_tail import distortion_through, draw_samples
from bottlenecks.units.settings import TransformSettings
from bottlenecks.units.transform import TransformUnit

HOPELESS = 1.25  # loss over the best one's at one step, from which on a structure's own best step is not looked for
WORTH_TRYING = 1.05  # loss over the best one's, up to which a structure is tried at every lambda
HIDDEN = 64  # channels of a nonlinear encoder's layer
DEAD_ZONE = 0.42  # rounding offset that is tried beside 0.5


@dataclass(frozen=True)
class Start:
    """Where a unit begins.

    Attributes:
        config: arguments of the unit's constructor.
        state: its weights.
        structure: what was chosen, in words.
        expected_bytes: of an image's payload before training, by the tables, on images it was not fitted to.
        expected_distortion: in percent, likewise.
        step: of the quantiser, in the metric of percent.
        measured: what the unit takes, and what it will lose when it is trained; of one rate, at multiplier 0 alone.
    """

    config: Mapping[str, Any]
    state: Mapping[str, Tensor]
    structure: str
    expected_bytes: float
    expected_distortion: float
    step: float
    measured: Sequence[Measured]


def find_starts(
    network: SplitNetwork,
    task: Task,
    loss: RateDistortionLoss,
    frozen: FrozenBatch,
    statistics: Sequence[FeatureStatistics],
    lmbdas: Sequence[Lmbda],
    settings: TransformSettings,
    image_shape: Sequence[int],
    seed: int,
    target: Target | None = None,
    views: Sequence[Callable[[], FrozenBatch]] = (),
    ease: float = 1.0,
) -> dict[Lmbda, Start]:
    """Choose structure and step of each rate by `lambda * distortion + bpp`, and fit it to all images.

    Args:
        network: the cut network, on its device.
        task: gives the score's draws.
        loss: the distortion.
        frozen: what the frozen network made of the training images, on the CPU.
        statistics: of each tensor that crosses.
        lmbdas: of the rates, both ends of a unit of any rate.
        settings: what is given, and caps.
        image_shape: (3, H, W) of the network's input.
        seed: of the run.
        target: what the one rate is to come to, whose lambda is found.
        views: each gives a view of each of these images; steps are measured on the first, or on the images as they are.
        ease: how many times smaller a lambda's step is chosen for: what a restoring network will make of coarser
            steps cannot be measured before it is trained.
    """
    samples = draw_samples(network, task, loss, frozen, seed)
    nonnegative = [own.nonnegative for own in statistics]
    candidates = list_candidates(network, settings, image_shape)
    seen = views[0]() if views else frozen
    distort = distortion_through(network, loss, seen)
    most_rank = max(rank for one in candidates for rank in one.ranks)
    make = (samples, seen.features, nonnegative, distort, frozen.num_pixels, most_rank)
    trials = try_candidates(candidates, *make)
    if target is not None:
        lmbdas = [lambda_for(target, trials, network, loss, seen, ease)]
    best, kept = worth_trying(trials, [*map(middle_of, lmbdas)], ease)
    if settings.rounding is None:
        kept += try_candidates([replace(best.candidate, rounding=DEAD_ZONE)], *make)
    fit, starts = Fit(samples, most_rank), dict[Lmbda, Start]()
    bases: dict[Candidate, tuple[TransformUnit, list[Tensor]]] = {}
    for lmbda in progress(lmbdas, "Choosing steps", len(lmbdas)):
        trial = min(kept, key=lambda one: one.best(middle_of(lmbda) / ease)[1])
        if trial.candidate not in bases:
            with torch.random.fork_rng():
                torch.manual_seed(seed_for(seed, "restorer"))
                unit = fit.unit(trial.candidate, nonnegative, restorer_widths(network, settings))
            bases[trial.candidate] = unit, encode(unit, [sample.features for sample in samples])
        base = bases[trial.candidate]
        starts[lmbda] = (
            begin_range(base, samples, trial, lmbda, ease)
            if isinstance(lmbda, tuple)
            else begin(base, samples, trial, lmbda, ease)
        )
    maps = tuple((sample.features.shape[2], sample.features.shape[3]) for sample in samples)
    joint = [base for one, base in bases.items() if one.structure == "joint" and one.blocks == maps and len(maps) == 1]
    if may_be_nonlinear(settings, bool(joint), loss, frozen, target, ease):
        looks = itertools.chain([seen], (view() for view in views[1:]))
        starts |= begin_nonlinear(joint[0], samples[0], starts, looks, loss, settings.hidden, seed)
    tell(starts)
    return starts


def worth_trying(trials: Sequence[Trial], lmbdas: Sequence[float], ease: float) -> tuple[Trial, list[Trial]]:
    """Return the best trial at the middle lambda, and all that are near the best one there or at either end."""
    ordered = sorted(lmbdas)
    middle = ordered[len(ordered) // 2]
    losses = {one: smallest_losses(trials, one, ease) for one in dict.fromkeys((middle, ordered[0], ordered[-1]))}
    near = {trial for own in losses.values() for trial in trials if own[trial] <= WORTH_TRYING * min(own.values())}
    return min(trials, key=lambda trial: losses[middle][trial]), [trial for trial in trials if trial in near]


def smallest_losses(trials: Sequence[Trial], lmbda: float, ease: float) -> dict[Trial, float]:
    """Return each trial's smallest loss; of one far behind at the best one's step, its loss there."""
    found: dict[Trial, float] = {}
    lowest, place = math.inf, 0
    for trial in progress(trials, f"Choosing a transform for lambda={lmbda:.3g}", len(trials)):
        behind = bool(found) and trial.loss(lmbda / ease, place) > HOPELESS * lowest
        own, found[trial] = (place, trial.loss(lmbda / ease, place)) if behind else trial.best(lmbda / ease)
        if found[trial] < lowest:
            lowest, place = found[trial], round(own)
    return found


def begin_nonlinear(
    base: tuple[TransformUnit, list[Tensor]],
    sample: Sample,
    starts: Mapping[Lmbda, Start],
    views: Iterable[FrozenBatch],
    loss: RateDistortionLoss,
    width: int | None,
    seed: int,
) -> dict[Lmbda, Start]:
    """Return starts with nonlinear encoders, for the lambdas at which they promise a smaller loss than linear ones.

    Args:
        base: a joint unit with steps of 1, and the training images' coefficients.
        sample: of the training images.
        starts: the linear ones.
        views: of the same images.
        loss: the distortion, by `kd` alone.
        width: of the encoders' layer; where it is given, every lambda takes it.
        seed: of the run.
    """
    unit, (coefficients,) = base
    unit = with_first(unit, coefficients)
    fitted, held = fold_images(len(coefficients))[0]
    rows = [(encode(unit, view.features)[0].flatten(1), view.teacher, view.num_pixels) for view in views]
    y, teacher, (num_pixels, *_) = zip(*rows, strict=True)
    seen = torch.cat([own[fitted] for own in y]), torch.cat([own[fitted] for own in teacher])
    lmbdas = [*starts]
    weight, found = loss.weights["kd"], dict[Lmbda, Start]()
    learnt = learn_encoders(
        seen,
        (y[0][held], teacher[0][held]),
        lambda output, teacher: weight * loss.task.distillation(output, teacher),
        lmbdas,
        num_pixels,
        width or HIDDEN,
        seed_for(seed, "nonlinear"),
    )
    for lmbda, own in zip(lmbdas, learnt, strict=True):
        if width or _smallest_loss(own.measured, lmbda) < _smallest_loss(starts[lmbda].measured, lmbda):
            bent = with_layer(unit, own, sample.features, lmbda if isinstance(lmbda, tuple) else None)
            (part,) = bent.parts
            blocks = "x".join(map(str, part.block))
            structure = f"joint, {part.rank} channels, blocks of {blocks}, {own.layer.width} hidden channels"
            middle = own.measured[len(own.measured) // 2]
            num_bytes, distortion = middle.bpp * num_pixels / 8, middle.distortion
            state, step = bent.state_dict(), starts[lmbda].step
            found[lmbda] = Start(bent.config(), state, structure, num_bytes, distortion, step, own.measured)
    return found


def _smallest_loss(points: Sequence[Measured], lmbda: Lmbda) -> float:
    """Return the smallest loss at any of the points; of a range, the product of those of its ends and its middle."""
    ends = (*lmbda, middle_of(lmbda)) if isinstance(lmbda, tuple) else (lmbda,)
    return math.prod(min(own * point.distortion + point.bpp for point in points) for own in ends)


def begin(
    base: tuple[TransformUnit, list[Tensor]], samples: Sequence[Sample], trial: Trial, lmbda: float, ease: float
) -> Start:
    """Give a unit the step that is best for a lambda."""
    place, _ = trial.best(lmbda / ease)
    step, unit = 2 ** (place / 2), TransformUnit(**base[0].config())
    unit.load_state_dict(base[0].state_dict())
    set_step(unit, [sample.features for sample in samples], base[1], step)
    distortion, bpp = trial.measure(round(place))
    num_bytes = bpp * trial.num_pixels / 8
    measured = [Measured(0.0, distortion / ease, bpp)]
    return Start(unit.config(), unit.state_dict(), str(trial.candidate), num_bytes, distortion, step, measured)


def begin_range(
    base: tuple[TransformUnit, list[Tensor]],
    samples: Sequence[Sample],
    trial: Trial,
    ends: tuple[float, float],
    ease: float,
) -> Start:
    """Give a unit of any rate the step that is best for the middle of its range, and fit it to all of the range."""
    place, _ = trial.best(middle_of(ends) / ease)
    for end in ends:
        trial.best(end / ease)  # measures around it
    measured = trial.measured.items()
    points = [Measured(PER_OCTAVE * (place - at) / 2, percent / ease, bpp) for at, (percent, bpp) in measured]
    finite = [point for point in points if all(map(math.isfinite, point))]
    rates, step = find_range(finite, *ends), 2 ** (place / 2)
    unit = with_range(base[0], rates)
    fit_steps(unit, [sample.features for sample in samples], base[1], step, gains_help(trial, rates, step))
    distortion, bpp = trial.measure(round(place))
    num_bytes = bpp * trial.num_pixels / 8
    return Start(unit.config(), unit.state_dict(), str(trial.candidate), num_bytes, distortion, step, sorted(finite))


def lambda_for(
    target: Target,
    trials: Sequence[Trial],
    network: SplitNetwork,
    loss: RateDistortionLoss,
    frozen: FrozenBatch,
    ease: float,
) -> float:
    """Return the lambda that a target takes; what is measured on the way stays with the trials."""
    lost = PointsLost(loss.task, frozen.targets)
    watched = distortion_through(network, loss, frozen, lost if target.kind == "loss" else None)
    best = find_lambda(target, [replace(trial, distort=watched) for trial in trials], lost)
    found = float(f"{ease * best:.3g}")
    say(f"{target}: lambda={found!r}, by training images; steps meet the target after training")
    return found


def tell(starts: Mapping[Lmbda, Start]) -> None:
    """Print what was chosen, a line a rate, and name rates that are of no use."""
    coarser: tuple[Lmbda, Start] | None = None
    for lmbda, start in sorted(starts.items()):
        say(
            f"{rate_name(lmbda)}: {start.structure}; before training some {start.expected_bytes:.3g} bytes at "
            f"{start.expected_distortion:.3g} % distortion"
        )
        if start.expected_bytes < 1 / 8:
            say(f"{rate_name(lmbda)}: sends next to nothing; a larger lambda buys fidelity, or give target.bytes")
        elif coarser and start.step > 0.99 * coarser[1].step and start.structure == coarser[1].structure:
            say(
                f"{rate_name(lmbda)}: no finer than {rate_name(coarser[0])}, since finer steps do not lower the "
                "distortion; leave it out"
            )
        coarser = lmbda, start
