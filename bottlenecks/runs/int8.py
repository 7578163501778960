"""A ladder behind a head in 8 bits: units refitted to it, and held against the float one image by image."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnxruntime as ort
import torch
from torch import Tensor

from bottlenecks.baselines.codec import UnitCodec
from bottlenecks.coding.bitstream import enclose
from bottlenecks.console.terminal import progress, say
from bottlenecks.deploy.export import head_of
from bottlenecks.deploy.int8 import to_int8
from bottlenecks.errors import UsageError
from bottlenecks.evaluation.curve import Curve
from bottlenecks.evaluation.points import features_of
from bottlenecks.evaluation.tally import Tally
from bottlenecks.rates.info import RateInfo
from bottlenecks.rates.ladder import Ladder
from bottlenecks.rates.rate import Rate
from bottlenecks.settings.evaluation import UNIT, EvaluationPlan
from bottlenecks.splitting.cut import SplitNetwork
from bottlenecks.splitting.features import Features, cat
from bottlenecks.tasks import Task
from bottlenecks.training.images import ImageData
from bottlenecks.training.refitting import refit_tables

MOST_IMAGES, MOST_BYTES = 2048, 2**29  # of features that tables are fitted to

Head = Callable[[Tensor], Features]


@dataclass(frozen=True)
class Compared:
    """What a rate takes and loses behind either head, means over the same images.

    Attributes:
        lmbda: of the rate.
        payload_bytes: behind the float head and behind that of 8 bits.
        scores: the metric, likewise; None without labels.
        agreements: with the unsplit network in float, likewise.
        other_symbols: share of the symbols that differ between the two.
        same_answers: share of the images' answers that do not.
    """

    lmbda: float
    payload_bytes: tuple[float, float]
    scores: tuple[float | None, float | None]
    agreements: tuple[float, float]
    other_symbols: float
    same_answers: float

    @property
    def drop(self) -> float:
        """What 8 bits cost of the metric, or of agreement where there are no labels."""
        before, after = self.scores
        return self.agreements[0] - self.agreements[1] if before is None or after is None else before - after


def in_8_bits(
    network: SplitNetwork, ladder: Ladder, data: ImageData, task: Task, plan: EvaluationPlan, max_drop: float
) -> tuple[bytes, Ladder, Curve]:
    """Quantise the head, refit the rates to it, and measure them.

    Args:
        network: cut, on the CPU.
        ladder: of the cut.
        data: gives training images, and those that are evaluated.
        task: what the network does.
        plan: how many images calibrate, and how many rates of a unit of any rate are measured.
        max_drop: what the metric may fall by, mean over the rates.

    Returns:
        The head as ONNX, the rates behind it, and their curve.

    Raises:
        UsageError: more is lost.
    """
    say("Quantising the head")
    shown = torch.cat([*_training_images(data, plan.calibration_images)])
    graph = to_int8(head_of(network, ladder.info.image_shape), shown.numpy())
    head, room = runner(graph), MOST_BYTES // (4 * sum(map(math.prod, network.feature_shape)))
    features = cat([head(images) for images in _training_images(data, max(1, min(MOST_IMAGES, room)))])
    refitted = refit(ladder, features)
    pairs = list(zip(ladder.spread(plan.points), refitted.spread(plan.points), strict=True))
    compared, unsplit = compare(network, head, pairs, data, task)
    for line in describe(compared, task):
        say(line)
    refuse_drop(compared, task, max_drop)
    return graph, refitted, curve_of(compared, unsplit, ladder.info, data, task)


def runner(graph: bytes) -> Head:
    """Return what runs a graph of images on the CPU."""
    session = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    return lambda images: tuple(map(torch.from_numpy, session.run(None, {given.name: images.cpu().numpy()})))


def refit(ladder: Ladder, features: Features) -> Ladder:
    """Return the rates with tables that are fitted to other features of training images."""
    rates = [replace(rate, unit=refit_tables(rate.unit, features)) for rate in progress(ladder.files, "Refitting")]
    single = {rate.lmbda: rate for rate in rates if rate.unit.range is None}
    return Ladder(single, [rate for rate in rates if rate.unit.range is not None])


@torch.no_grad()
def compare(
    network: SplitNetwork, head: Head, pairs: Sequence[tuple[Rate, Rate]], data: ImageData, task: Task
) -> tuple[list[Compared], float | None]:
    """Code images on which nothing was chosen behind both heads.

    Args:
        network: the cut network, whose own head is the float one.
        head: in 8 bits.
        pairs: each rate, and the same refitted.
        data: gives the images.
        task: evaluates the outputs.

    Returns:
        What each rate takes and loses; and the unsplit network's metric.
    """
    codecs = [UnitCodec(rate) for pair in pairs for rate in pair]
    loader, counts = data.test_dataloader(), np.zeros((len(pairs), 4))  # symbols, others, images, same answers
    tally = Tally(len(codecs), data.images("test").names)
    for images, targets in progress(loader, "Comparing", len(loader)):
        forms, side = (features_of(network, images), head(images)), network.side_information(images)
        reference = task.predict(network.finish_with(forms[0], side))
        truth = task.truth(targets, reference)
        tally.begin(images, targets, task.statistics(reference, truth), task.vectors(reference))
        for row, pair in enumerate(pairs):
            found = []
            for form in range(2):
                index, features = 2 * row + form, forms[form]
                streams = codecs[index].compress(features)
                output = task.predict(network.finish_with(codecs[index].decompress(streams), side))
                sent = [enclose(stream, side) for stream in streams]
                agreement, statistics = task.agreement(output, reference), task.statistics(output, truth)
                tally.add(index, codecs[index], sent, None, agreement, statistics, task.vectors(output))
                found.append((output, pair[form].unit.symbols(features, pair[form].multiplier)))
            (output, symbols), (own, others) = found
            counts[row] += (
                sum(one.size for one in symbols),
                sum(int((one != other).sum()) for one, other in zip(symbols, others, strict=True)),
                len(images),
                float(task.agreement(own, output).sum()),
            )
    record = tally.gather(torch.device("cpu"))
    scores = [_score(task, own) for own in record.statistics]
    means = record.num_bytes.mean(1), record.agreement.mean(1)
    compared = [
        Compared(
            pair[0].lmbda,
            (float(means[0][2 * row]), float(means[0][2 * row + 1])),
            (scores[2 * row], scores[2 * row + 1]),
            (float(means[1][2 * row]), float(means[1][2 * row + 1])),
            counts[row, 1] / counts[row, 0],
            counts[row, 3] / counts[row, 2],
        )
        for row, pair in enumerate(pairs)
    ]
    return compared, _score(task, record.unsplit)


def describe(compared: Sequence[Compared], task: Task) -> Iterator[str]:
    """Return a line for each rate."""
    for one in compared:
        (before, after), (agreed, agrees) = one.scores, one.agreements
        metric = "" if before is None or after is None else f", {task.metric_name} {before:.1%} -> {after:.1%}"
        yield (
            f"lambda={one.lmbda!r}, float head -> int8: {one.payload_bytes[0]:.2f} -> {one.payload_bytes[1]:.2f} bytes"
            f"{metric}, agreement {agreed:.1%} -> {agrees:.1%}; {one.other_symbols:.2%} of the symbols differ, "
            f"{one.same_answers:.1%} of the answers are the same"
        )


def refuse_drop(compared: Sequence[Compared], task: Task, max_drop: float) -> None:
    """Refuse a head that costs more than it may.

    Raises:
        UsageError: it does.
    """
    drop = float(np.mean([one.drop for one in compared]))
    if not drop <= max_drop:
        scores = [one.scores[0] for one in compared if one.scores[0] is not None]
        name, before = (task.metric_name, scores) if scores else ("agreement", [one.agreements[0] for one in compared])
        mean = float(np.mean(before))
        enough = math.ceil(1e3 * drop - 1e-6) / 1e3
        raise UsageError(
            f"max_drop={max_drop:g}: with the head in 8 bits {name} falls from {mean:.1%} to {mean - drop:.1%}, the "
            f"mean over the rates; give max_drop={enough:g}, more calibration_images, or head=float"
        )


def curve_of(compared: Sequence[Compared], unsplit: float | None, info: RateInfo, data: ImageData, task: Task) -> Curve:
    """Make the curve of the rates behind the head in 8 bits."""
    points = [
        {
            "codec": UNIT,
            "lambda": one.lmbda,
            "payload_bytes": one.payload_bytes[1],
            task.metric_name: one.scores[1],
            "agreement": one.agreements[1],
            "other_symbols": one.other_symbols,
        }
        for one in compared
    ]
    count, shape = len(data.images("test").names), [*info.image_shape]
    return Curve(info.model, info.split, info.data, count, shape, {}, task.metric_name, unsplit, points)


def _training_images(data: ImageData, most: int) -> Iterator[Tensor]:
    """Give batches of training images, so many at the most."""
    for images, _ in data.calibration_dataloader():
        yield images[:most]
        most -= len(images)
        if most <= 0:
            return


def _score(task: Task, statistics: np.ndarray) -> float | None:
    (score,) = task.score(statistics, np.ones((1, len(statistics))))
    return None if np.isnan(score) else float(score)
