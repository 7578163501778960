"""Where the units of a ladder begin: structure, step and weights in closed form, before the first gradient step."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from bottlenecks.errors import UsageError, check_number
from bottlenecks.features import like, tensors_of
from bottlenecks.macs import count_macs
from bottlenecks.rate_files import Lmbda, middle_of, rate_name
from bottlenecks.split import SplitNetwork
from bottlenecks.tasks import Task
from bottlenecks.terminal import progress, say
from bottlenecks.training.any_rate import PER_OCTAVE, Measured, find_range, fit_steps, gains_help, with_range
from bottlenecks.training.calibration import FeatureStatistics
from bottlenecks.training.closed_form import Sample
from bottlenecks.training.frozen import FrozenBatch, rows_of
from bottlenecks.training.loss import RateDistortionLoss
from bottlenecks.training.seeds import seed_for
from bottlenecks.training.sensitivity import identity_share, score_draws
from bottlenecks.training.structure import (
    LARGEST_BLOCK,
    MOST_DRAWS,
    Candidate,
    Distort,
    Fit,
    Trial,
    encode,
    set_step,
    try_candidates,
)
from bottlenecks.training.target import PointsLost, Target, find_lambda
from bottlenecks.units.restorer import FEW_CHANNELS
from bottlenecks.units.transform import TransformUnit
from bottlenecks.units.transform_part import STRUCTURES

MOST_RANK = 64  # directions of a joint transform
CHUNK = 64  # images that pass through the tail at once
WORTH_TRYING = 1.05  # loss over the best one's, up to which a structure is tried at every lambda
DEAD_ZONE = 0.42  # rounding offset that is tried beside 0.5
ALWAYS_BYTES, ALWAYS_MACS = 2**16, 2**22  # that a unit may take, however small the network is
RESTORER_WIDTH, RESTORER_WIDTH_FEW = 192, 96


@dataclass(frozen=True)
class TransformSettings:
    """The settings of `unit` for `transform`, checked; None is for what is chosen by measurement.

    Attributes:
        structure: `separable` or `joint`.
        block: positions of a separable transform's block, a side.
        rank: channels of the latent.
        rounding: the quantiser's offset.
        restorer: width of the restoring network, 0 for none.
        max_bytes: share of the network's parameters, at 32 bits, that a rate may take without its restoring network.
        max_macs: share of the head's work that the encoder may take.
    """

    structure: str | None
    block: int | None
    rank: int | None
    rounding: float | None
    restorer: int | None
    max_bytes: float
    max_macs: float

    @classmethod
    def of(cls, unit: Mapping[str, Any]) -> TransformSettings:
        """Read and check the settings.

        Raises:
            UsageError: one cannot be used.
        """
        names = ("structure", "block", "rank", "rounding", "restorer", "max_bytes", "max_macs")
        unknown = set(unit) - {"name", "architecture", "range", *names}
        if unknown:
            raise UsageError(f"unit.{min(unknown)}: no such setting of this unit; there are {', '.join(names)}")
        chosen: dict[str, Any] = {name: unit.get(name) for name in names}
        settings = cls(**chosen)
        if settings.structure not in (None, *STRUCTURES):
            raise UsageError(f"unit.structure={settings.structure}: expected {', '.join(STRUCTURES)}, or null")
        for name, least in (("block", 1), ("rank", 1), ("restorer", 0)):
            if getattr(settings, name) is not None:
                check_number(f"unit.{name}", getattr(settings, name), least, whole=True)
        if settings.rounding is not None and not 0 < settings.rounding <= 0.5:
            raise UsageError(f"unit.rounding={settings.rounding}: expected a number above 0, and 0.5 at the most")
        if settings.structure == "joint" and settings.block is not None:
            raise UsageError(
                f"unit.block={settings.block}: a joint transform takes whole maps; leave it out, or give "
                "unit.structure=separable"
            )
        if settings.structure == "joint" and (settings.rank or 0) > MOST_RANK:
            raise UsageError(
                f"unit.rank={settings.rank}: a joint transform has {MOST_RANK} channels at the most; give fewer, or "
                "unit.structure=separable"
            )
        for name in ("max_bytes", "max_macs"):
            check_number(f"unit.{name}", getattr(settings, name))
        return settings


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
    seen: FrozenBatch | None = None,
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
        seen: a view of each of these images, that steps are measured on; None for the images as they are.
        ease: how many times smaller a lambda's step is chosen for: what a restoring network will make of coarser
            steps cannot be measured before it is trained.
    """
    samples = draw_samples(network, task, loss, frozen, seed)
    nonnegative = [own.nonnegative for own in statistics]
    candidates = list_candidates(network, settings, image_shape)
    seen = frozen if seen is None else seen
    distort = distortion_through(network, loss, seen)
    most_rank = max(rank for one in candidates for rank in one.ranks)
    make = (samples, tensors_of(seen.features), nonnegative, distort, frozen.num_pixels, most_rank)
    trials = try_candidates(candidates, *make)
    if target is not None:
        lmbdas = [lambda_for(target, trials, network, loss, seen, ease)]
    middle = sorted(map(middle_of, lmbdas))[len(lmbdas) // 2] / ease
    losses = {trial: trial.best(middle)[1] for trial in progress(trials, "Choosing a transform", len(trials))}
    best = min(trials, key=lambda trial: losses[trial])
    kept = [trial for trial in trials if losses[trial] <= WORTH_TRYING * losses[best]]
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
    tell(starts)
    return starts


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
    """Say what was chosen, a line a rate, and name rates that are of no use."""
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


def draw_samples(
    network: SplitNetwork, task: Task, loss: RateDistortionLoss, frozen: FrozenBatch, seed: int
) -> list[Sample]:
    """Draw the score at some images, and put it beside the features of each tensor."""
    tensors = tensors_of(frozen.features)
    shapes = [tuple(one.shape[1:]) for one in tensors]
    count = min(len(tensors[0]), MOST_DRAWS)
    num_draws = max(1, min(4, MOST_DRAWS // 2 // count))
    weights = dict(loss.weights)
    parts: list[tuple[Tensor, ...]] = []
    if weights.get("kd", 0) + weights.get("ce", 0) > 0:
        seeds = [seed_for(seed, index, "sensitivity") for index in range(count)]
        chosen = like(frozen.features, [one[:count] for one in tensors])
        try:
            chunks = score_draws(network, chosen, task, weights, seeds, num_draws)
            parts = list(progress(chunks, "Asking the tail what it listens to", None))
        except NotImplementedError:
            weights = {"mse": 1.0}
    draws = [torch.cat(own, 1) for own in zip(*parts, strict=True)] or [_no_draws(one) for one in tensors]
    identity = identity_share(weights, loss.variances, shapes)
    return [Sample(*own) for own in zip(tensors, draws, identity, strict=True)]


def _no_draws(features: Tensor) -> Tensor:
    """Return zeros in the place of draws, (1, N, C, H, W), in the memory of one number."""
    return features.new_zeros((1,) * (features.dim() + 1)).expand(1, *features.shape)


def distortion_through(
    network: SplitNetwork, loss: RateDistortionLoss, frozen: FrozenBatch, watch: PointsLost | None = None
) -> Distort:
    """Return what passes features of some images through the tail, to their distortion in percent; `watch` looks on."""
    device = next(network.parameters()).device

    @torch.no_grad()
    def distort(features_hat: Sequence[Tensor], images: Tensor) -> Tensor:
        found = []
        for start in range(0, len(images), CHUNK):
            rows = rows_of(frozen, images[start : start + CHUNK], device)
            hats = like(frozen.features, [one[start : start + CHUNK].to(device) for one in features_hat])
            nothing = torch.zeros(len(images[start : start + CHUNK]), device=device)
            output = network.finish(hats)
            found.append(loss(1.0, nothing, output, hats, rows).distortion.cpu())
            if watch is not None:
                watch(output, rows)
        return torch.cat(found)

    return distort


def list_candidates(network: SplitNetwork, settings: TransformSettings, image_shape: Sequence[int]) -> list[Candidate]:
    """List the structures that are within the caps, or as given.

    Raises:
        UsageError: what is given does not fit the features.
    """
    shapes = [tensor.shape for tensor in network.crossing]
    image = torch.zeros(1, *image_shape, device=next(network.parameters()).device)
    num_bytes = max(ALWAYS_BYTES, settings.max_bytes * 4 * sum(one.numel() for one in network.parameters()))
    macs = max(ALWAYS_MACS, settings.max_macs * count_macs(network.head, image))
    rounding = 0.5 if settings.rounding is None else settings.rounding
    found = []
    if settings.structure != "joint":
        sides = [settings.block] if settings.block else [1, 4, 8, LARGEST_BLOCK]
        blocks = dict.fromkeys(tuple(_fitting_block(shape, side) for shape in shapes) for side in sides)
        found += [_separable(shapes, own, num_bytes, macs, settings.rank, rounding) for own in blocks]
    if settings.structure == "joint" or (settings.structure is None and settings.block is None):
        found += _joint(shapes, num_bytes, macs, settings.rank, rounding)
        if not found:
            raise UsageError(
                "unit.structure=joint: one projection alone is larger than unit.max_bytes or unit.max_macs allow; "
                "raise them, or take unit.structure=separable"
            )
    return found


def _joint(
    shapes: Sequence[tuple[int, ...]], num_bytes: float, macs: float, rank: int | None, rounding: float
) -> list[Candidate]:
    """Project whole maps on as many directions as the caps allow; none where that is not one for each tensor."""
    sizes = [math.prod(shape) for shape in shapes]
    most = [int(min(num_bytes / len(shapes) / (4 * size) - 0.5, macs / len(shapes) / size)) for size in sizes]
    ranks = tuple(min(rank or own, MOST_RANK, size) for own, size in zip(most, sizes, strict=True))
    blocks = tuple((shape[1], shape[2]) for shape in shapes)
    return [Candidate("joint", ranks, blocks, rounding)] if min(*most, *ranks) > 0 else []


def _separable(
    shapes: Sequence[tuple[int, ...]],
    blocks: tuple[int, ...],
    num_bytes: float,
    macs: float,
    rank: int | None,
    rounding: float,
) -> Candidate:
    """Take as many channels as the caps allow, in the same share of each tensor's."""
    own_bytes = sum(shape[0] * (4 * shape[0] + 6 * block**2) for shape, block in zip(shapes, blocks, strict=True))
    own_macs = sum(shape[0] * math.prod(shape[1:]) * (shape[0] + shape[1] + shape[2]) for shape in shapes)
    share = min(1.0, num_bytes / own_bytes, macs / own_macs)
    ranks = tuple(min(shape[0], rank or max(1, int(share * shape[0]))) for shape in shapes)
    return Candidate("separable", ranks, tuple((block, block) for block in blocks), rounding)


def _fitting_block(shape: Sequence[int], side: int) -> int:
    """Return the smallest block that cuts the longer side of a map into as many as blocks of `side` would."""
    longest = max(shape[1:])
    return math.ceil(longest / math.ceil(longest / side))


def restorer_widths(network: SplitNetwork, settings: TransformSettings) -> list[int]:
    """Return the width of each tensor's restoring network."""
    if settings.restorer is not None:
        return [settings.restorer] * len(network.crossing)
    few = [tensor.shape[0] <= FEW_CHANNELS for tensor in network.crossing]
    return [RESTORER_WIDTH_FEW if own else RESTORER_WIDTH for own in few]
