"""Measure codecs at the cut: real bytes, really decoded, through the rest of the network."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torchmetrics import MeanMetric

from bottlenecks.codec import Codec
from bottlenecks.macs import count_macs
from bottlenecks.processes import add_up
from bottlenecks.split import SplitNetwork
from bottlenecks.tasks import Task
from bottlenecks.terminal import progress


@dataclass(frozen=True)
class Point:
    """One operating point; None where a figure has no meaning.

    Attributes:
        codec: name of the codec.
        setting: of the operating point.
        lmbda: of a unit.
        payload_bytes: mean bytes on the wire per image, header and side information included.
        bpp: all bits / all pixels of the network's input images.
        bits_per_element: all bits / all elements of the features.
        estimated_bpp: the same as `bpp`, from the entropy model and without header.
        metric: the task's, 0..1.
        agreement: share of images on which the split network decides as the unsplit one.
        encode_ms: features to bytes, per image, one thread.
        decode_ms: bytes to features, per image, one thread.
        device_macs: head and encoder per image.
    """

    codec: str
    setting: str
    lmbda: float | None
    payload_bytes: float
    bpp: float
    bits_per_element: float
    estimated_bpp: float | None
    metric: float | None
    agreement: float
    encode_ms: float
    decode_ms: float
    device_macs: int


class Tally:
    """What one codec, or the unsplit network (None), gathers over the pictures."""

    def __init__(self, codec: Codec | None, task: Task) -> None:
        self.codec, self.task = codec, task
        self.metric, self.agreement = task.metric(), MeanMetric()
        self.num_bytes = self.num_elements = self.num_pixels = self.num_images = 0
        self.estimated_bits = 0.0  # not a number where the codec has no estimate

    def add_output(self, output: Tensor, reference: Tensor, targets: Tensor) -> None:
        """Take in a batch of outputs."""
        self.agreement.update(self.task.agreement(output, reference).cpu())
        if (targets >= 0).any():
            self.metric.update(output.cpu(), targets.cpu())

    def add_streams(self, streams: Sequence[bytes], features: Tensor, images: Tensor, estimate: Tensor | None) -> None:
        """Take in the byte strings of a batch."""
        self.num_images += len(streams)
        self.num_bytes += sum(map(len, streams))
        self.num_elements += features.numel()
        self.num_pixels += len(images) * images.shape[-2] * images.shape[-1]
        self.estimated_bits += math.nan if estimate is None else float(estimate.cpu().double().sum())

    def gather(self) -> None:
        """Add up what all processes have counted; metrics do so by themselves."""
        names = ("num_bytes", "num_elements", "num_pixels", "num_images", "estimated_bits")
        total = add_up(torch.tensor([getattr(self, name) for name in names], dtype=torch.float64)).tolist()
        for name, value in zip(names, total, strict=True):
            setattr(self, name, value if name == "estimated_bits" else int(value))

    def score(self) -> float | None:
        """Give the task's metric, None where nothing was labelled."""
        return float(self.metric.compute()) if self.metric.update_called else None


@dataclass(frozen=True)
class Judgement:
    """What came out for a set of codecs on one set of pictures.

    Attributes:
        points: one a codec.
        unsplit: the unsplit network's metric.
        num_images: how many pictures.
        image_shape: (3, H, W), or None where sizes vary.
        feature_shape: (C, H, W) of one image's features.
    """

    points: list[Point]
    unsplit: float | None
    num_images: int
    image_shape: list[int] | None
    feature_shape: list[int]


@torch.no_grad()
def judge(
    codecs: Sequence[Codec],
    network: SplitNetwork,
    batches: Iterable[tuple[Tensor, Tensor]],
    task: Task,
    device: torch.device,
    timed_images: int = 16,
) -> Judgement:
    """Code every picture with every codec, decode the bytes, and run the tail on what was decoded.

    The head and the unsplit network run once for all codecs. Of several processes each codes its share, and all
    give the result for the whole.

    Args:
        codecs: the operating points.
        network: the cut network, on `device`, as the codecs are.
        batches: (images, targets) of pictures on which nothing was chosen.
        task: judges the outputs.
        device: where to run.
        timed_images: of the first batch, coded one by one for the times.
    """
    unsplit, tallies = Tally(None, task), [Tally(codec, task) for codec in codecs]
    first: Tensor | None = None
    shapes = set()
    for images, targets in progress(batches, "Judging"):
        features = network.head(images.to(device))
        reference = network.tail(features)
        unsplit.add_output(reference, reference, targets)
        for tally, codec in zip(tallies, codecs, strict=True):
            streams = codec.compress(features)
            tally.add_streams(streams, features, images, codec.estimated_bits(features))
            tally.add_output(network.tail(codec.decompress(streams)), reference, targets)
        first = features if first is None else first
        shapes.add(tuple(images.shape[1:]))
    assert first is not None, "datamodules refuse to be empty"
    for tally in tallies:
        tally.gather()
    head_macs = count_macs(network.head, torch.zeros(1, *min(shapes), device=device))
    return Judgement(
        [_point(tally, first[:timed_images], head_macs) for tally in tallies],
        unsplit.score(),
        tallies[0].num_images,
        list(shapes.pop()) if len(shapes) == 1 else None,
        list(first.shape[1:]),
    )


def _point(tally: Tally, features: Tensor, head_macs: int) -> Point:
    codec = tally.codec
    assert codec is not None
    encode_ms, streams = _time_each(lambda one: codec.compress(one[None])[0], features)
    decode_ms, _ = _time_each(lambda stream: codec.decompress([stream]), streams)
    num_bits = 8 * tally.num_bytes
    return Point(
        codec=codec.name,
        setting=codec.setting,
        lmbda=codec.lmbda,
        payload_bytes=tally.num_bytes / tally.num_images,
        bpp=num_bits / tally.num_pixels,
        bits_per_element=num_bits / tally.num_elements,
        estimated_bpp=None if math.isnan(tally.estimated_bits) else tally.estimated_bits / tally.num_pixels,
        metric=tally.score(),
        agreement=float(tally.agreement.compute()),
        encode_ms=encode_ms,
        decode_ms=decode_ms,
        device_macs=head_macs + codec.device_macs(features[:1]),
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
