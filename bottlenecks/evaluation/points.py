"""Measure codecs at the cut: real bytes, really decoded, through the rest of the network."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bottlenecks.baselines.codec import Codec
from bottlenecks.coding.bitstream import enclose
from bottlenecks.console.terminal import progress
from bottlenecks.errors import UsageError
from bottlenecks.evaluation.record import FloatArray, Record
from bottlenecks.evaluation.tally import Tally
from bottlenecks.evaluation.workers import RoundTrip, Workers
from bottlenecks.splitting.cut import SplitNetwork
from bottlenecks.splitting.features import Features, all_finite, cat, num_elements, num_images, split
from bottlenecks.splitting.macs import count_macs
from bottlenecks.tasks import Task

ELEMENTS_PER_PASS = 2**21  # features that go through the tail at once; small maps alone are slow


@dataclass(frozen=True)
class Point:
    """One operating point; None where a figure has no meaning.

    Attributes:
        codec: name of the codec.
        setting: of the operating point.
        lmbda: of a unit.
        payload_bytes: mean bytes on the wire per image, header and side information included.
        session_bytes: of a unit, mean bytes per image in a session of these images, all in; see docs/bitstream.md.
        bpp: all bits / all pixels of the network's input images.
        bits_per_element: all bits / all elements of the features, of codecs that send features.
        estimated_bpp: the same as `bpp`, from the entropy model and without header.
        metric: the task's, 0..1.
        agreement: share of images on which the split network decides as the unsplit one.
        recall_at_1: of embeddings, share of images that are the nearest to themselves among all as the unsplit network
            sees them.
        neighbour_agreement: of embeddings, share of images whose nearest other image is the unsplit network's.
        knn_accuracy: of embeddings of images with classes, share whose nearest other images have theirs.
        encode_ms: features, or pixels, to bytes, per image, one thread.
        decode_ms: bytes to features, or pixels, per image, one thread.
        device_macs: head and encoder's network per image; 0 for plain codecs of the input image.
        server_macs: decoder's network and tail per image; all of the network for codecs of the input image.
        state_bytes: weights and tables that encoder and decoder hold.
    """

    codec: str
    setting: str
    lmbda: float | None
    payload_bytes: float
    session_bytes: float | None
    bpp: float
    bits_per_element: float | None
    estimated_bpp: float | None
    metric: float | None
    agreement: float
    recall_at_1: float | None
    neighbour_agreement: float | None
    knn_accuracy: float | None
    encode_ms: float
    decode_ms: float
    device_macs: int
    server_macs: int
    state_bytes: int


@dataclass(frozen=True)
class Evaluation:
    """What came out for a set of codecs on one set of images.

    Attributes:
        points: one a codec.
        unsplit: the unsplit network's metric.
        record: of every single image.
        image_shape: (3, H, W), or None where sizes vary.
        feature_shapes: (C, H, W) of one image's features, by the name of the tensor.
        unsplit_knn_accuracy: the unsplit network's, as in `Point`.
    """

    points: list[Point]
    unsplit: float | None
    record: Record
    image_shape: list[int] | None
    feature_shapes: dict[str, list[int]]
    unsplit_knn_accuracy: float | None


@torch.no_grad()
def evaluate(
    codecs: Sequence[Codec],
    network: SplitNetwork,
    batches: Iterable[tuple[Tensor, Tensor]],
    names: Sequence[str],
    task: Task,
    device: torch.device,
    workers: Workers,
    timed_images: int = 16,
) -> Evaluation:
    """Code every image with every codec, decode the bytes, and run the rest of the network on what was decoded.

    The head and the unsplit network run once for all codecs. Of several processes each codes its share, and all
    give the result for the whole.

    Args:
        codecs: the operating points.
        network: the cut network, on `device`, as the units are.
        batches: (images, targets) of images on which nothing was chosen.
        names: of the images, all processes' together.
        task: evaluates the outputs.
        device: where to run.
        workers: code for the baselines.
        timed_images: of the first batch, coded one by one for the times.
    """
    tally = Tally(len(codecs), names)
    first: dict[str, Features] = {}
    shapes = set()

    def steps() -> Iterator[None]:
        for images, targets in batches:
            images, targets = images.to(device), targets.to(device)
            features = features_of(network, images)
            side = network.side_information(images)
            reference = task.predict(network.finish_with(features, side))
            truth = task.truth(targets, reference)
            tally.begin(images, targets, task.statistics(reference, truth), task.vectors(reference))
            trips = workers.round_trips(codecs, features, images)
            for index, (streams, output) in enumerate(outputs_of(network, codecs, trips, side)):
                codec, own = codecs[index], task.predict(output)
                bits = codec.estimated_bits(features)
                agreement, statistics = task.agreement(own, reference), task.statistics(own, truth)
                tally.add(index, codec, streams, bits, agreement, statistics, task.vectors(own))
                yield
            first.setdefault("features", tuple(tensor[:timed_images] for tensor in features))
            first.setdefault("images", (images[:timed_images],))
            shapes.add(tuple(images.shape[1:]))

    num_steps = len(batches) * len(codecs) if isinstance(batches, Sized) else None
    for _ in progress(steps(), "Evaluating", num_steps):
        pass
    record = tally.gather(device)
    one = {name: split(batch, [1])[0] for name, batch in first.items()}
    macs = count_macs(network.head, *one["images"]), count_macs(network.finish, one["features"])
    points = [
        _point(codec, index, tally, _score(task, record.statistics[index]), macs, first)
        for index, codec in enumerate(progress(codecs, "Timing"))
    ]
    return Evaluation(
        points,
        _score(task, record.unsplit),
        record,
        list(shapes.pop()) if len(shapes) == 1 else None,
        {name: list(tensor.shape[1:]) for name, tensor in zip(names_of(network), one["features"], strict=True)},
        tally.knn_accuracy(-1),
    )


def names_of(network: SplitNetwork) -> list[str]:
    """Name the tensors that cross: a single one as the split point."""
    return [tensor.name for tensor in network.crossing] if len(network.crossing) > 1 else [network.split]


def features_of(network: SplitNetwork, images: Tensor) -> Features:
    """Run the head on images (N, 3, H, W).

    Raises:
        UsageError: features are not finite.
    """
    features: Features = tuple(tensor.contiguous() for tensor in network.head(images))
    if not all_finite(features):
        raise UsageError(f"split={network.split}: the features there are not finite; are the weights sound?")
    return features


def outputs_of(
    network: SplitNetwork, codecs: Sequence[Codec], trips: Iterable[RoundTrip], side: Sequence[int] = ()
) -> Iterator[tuple[list[bytes], Any]]:
    """Run the rest of the network on what codecs decoded, small batches of several codecs as one.

    Args:
        network: the cut network.
        codecs: that decoded.
        trips: what they wrote and decoded.
        side: sizes that travel with the features, see `SplitNetwork.side_information`.

    Yields:
        For each codec in turn its byte strings, and the network's output.
    """
    waiting: list[RoundTrip] = []
    for index, (codec, trip) in enumerate(zip(codecs, trips, strict=True)):
        waiting.append(trip)
        last = index + 1 == len(codecs) or codecs[index + 1].sends != codec.sends
        if last or sum(num_elements(decoded) for _, decoded in waiting) + num_elements(trip[1]) > ELEMENTS_PER_PASS:
            decoded = cat([decoded for _, decoded in waiting])
            features = codec.sends == "features"
            output = network.finish_with(decoded, side) if features else network(*decoded)
            outputs = split(output, [len(one) for one, _ in waiting])
            for (streams, _), own in zip(waiting, outputs, strict=True):
                yield [enclose(stream, side) for stream in streams] if features else streams, own
            waiting = []


def _score(task: Task, statistics: FloatArray) -> float | None:
    """Return the metric over all images, None where nothing was labelled."""
    (score,) = task.score(statistics, np.ones((1, len(statistics))))
    return None if math.isnan(score) else float(score)


def _point(
    codec: Codec, index: int, tally: Tally, metric: float | None, macs: tuple[int, int], first: dict[str, Features]
) -> Point:
    alone = split(first[codec.sends], [1] * num_images(first[codec.sends]))
    encode_ms, streams = _time_each(lambda one: codec.compress(one)[0], alone)
    decode_ms, _ = _time_each(lambda stream: codec.decompress([stream]), streams)
    sent, sends_features = alone[0], codec.sends == "features"
    head, tail = macs
    num_bits, num_pixels = 8 * float(tally.num_bytes[index].sum()), float(tally.num_pixels.sum())
    terms, count = codec.terms(), len(tally.names)
    estimated_bits, agreement = float(tally.bits[index].sum()), float(tally.agreement[index].mean())
    return Point(
        codec=codec.name,
        setting=codec.setting,
        lmbda=codec.lmbda,
        payload_bytes=num_bits / 8 / count,
        session_bytes=None if terms is None else tally.mean_session_bytes(index, terms),
        bpp=num_bits / num_pixels,
        bits_per_element=num_bits / count / num_elements(sent) if sends_features else None,
        estimated_bpp=None if math.isnan(estimated_bits) else estimated_bits / num_pixels,
        metric=metric,
        agreement=agreement,
        recall_at_1=tally.recall_at_1(index),
        neighbour_agreement=agreement if len(tally.vectors) else None,
        knn_accuracy=tally.knn_accuracy(index),
        encode_ms=encode_ms,
        decode_ms=decode_ms,
        device_macs=(head if sends_features else 0) + codec.encoder_macs(sent),
        server_macs=(tail if sends_features else head + tail) + codec.decoder_macs(sent),
        state_bytes=codec.state_bytes(),
    )


def _time_each(function: Callable[[Any], Any], items: Collection[Any]) -> tuple[float, list[Any]]:
    """Call a function on each item with one thread; give the median time in ms, and the results."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        times, results = [], []
        for index, item in enumerate([next(iter(items)), *items]):  # the first call warms up
            start = time.perf_counter()
            result = function(item)
            if torch.cuda.is_available():
                torch.cuda.synchronize()  # kernels run on after the call returns
            if index == 0:
                continue
            results.append(result)
            times.append(1e3 * (time.perf_counter() - start))
    finally:
        torch.set_num_threads(threads)
    return float(torch.tensor(times).median()), results
