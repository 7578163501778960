"""Object detection."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import Any, Literal, Protocol

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Generator, Tensor
from torch.nn import functional as F
from torchmetrics import Metric
from torchvision.ops import box_iou

from bottlenecks.errors import UsageError
from bottlenecks.tasks.base import FloatArray, Task
from bottlenecks.tasks.drawing import MOST_NAMED, name_of, palette
from bottlenecks.tasks.probing import probe_sigmoid, probe_softmax, random_signs

Tensors = Mapping[str, Tensor]

OVERLAP = 0.5  # intersection over union from which a box is the right one
CONFIDENT = 0.3  # score from which a box counts as a decision, and is drawn
RECALLS = np.linspace(0, 1, 101)  # at which COCO averages the precision
MOST_BOXES = 100  # of a class in an image that count, the surest ones: COCO's number
BACKENDS = ("faster_coco_eval", "pycocotools")


class DetectorLike(Protocol):
    """What the task asks of a network.

    Attributes:
        scores: entries of its output that are logits of classes (N, A, C), and how they are read.
        regressions: entries that are box regressions, (N, A, …).
    """

    scores: Mapping[str, Literal["sigmoid", "softmax"]]
    regressions: Sequence[str]

    def predict(self, outputs: Tensors) -> dict[str, Tensor]:
        """Return `boxes` (N, D, 4), `scores` (N, D) and `labels` (N, D), padded with label -1."""

    def loss(self, outputs: Tensors, targets: Tensor) -> Tensor:
        """Return the training loss of each image, (N,)."""


class MeanAveragePrecision(Metric):
    """Mean over the classes of the average precision at an overlap of 0.5, as torchmetrics and COCO take it."""

    full_state_update = False
    higher_is_better = True

    def __init__(self) -> None:
        super().__init__()
        from torchmetrics.detection import MeanAveragePrecision as Coco

        found = [name for name in BACKENDS if find_spec(name)]
        if not found:
            raise UsageError("task=detection: its metric needs faster-coco-eval; pip install 'bottlenecks[detection]'")
        most = [1, 10, MOST_BOXES]
        self.coco = Coco(iou_thresholds=[OVERLAP], max_detection_thresholds=most, backend=found[0])  # type: ignore[arg-type]
        self.coco.warn_on_many_detections = False
        logging.getLogger("faster_coco_eval").setLevel(logging.WARNING)  # it has a dozen lines to say each time

    def update(self, prediction: Tensors, targets: Tensor) -> None:
        """Take in predictions, and targets (N, M, 5)."""
        there = prediction["labels"] >= 0
        keys = ("boxes", "scores", "labels")
        found = [{key: prediction[key][index][own] for key in keys} for index, own in enumerate(there)]
        wanted = [one[one[:, 0] >= 0] for one in targets]
        self.coco.update(found, [{"boxes": one[:, 1:], "labels": one[:, 0].long()} for one in wanted])

    def compute(self) -> Tensor:
        """Return the mean; not a number where there was no object."""
        value: Tensor = self.coco.compute()["map"]
        return torch.where(value < 0, torch.nan, value)

    def reset(self) -> None:
        """Begin anew."""
        super().reset()
        self.coco.reset()


class Detection(Task):
    """Raw outputs for A places each, before any suppression; targets (N, M, 5) with rows of class and corners.

    Rows of padding have class -1; corners x1, y1, x2, y2 are in pixels of the network's input. Evaluated by the mean
    average precision at an overlap of 0.5 (mAP@50).
    """

    name = "detection"
    metric_name = "map"
    network: Any

    def distillation(self, output: Tensors, teacher: Tensors) -> Tensor:
        """Divergence of the class scores, in nats, plus the share of the boxes' variance that is lost, (N,).

        Each is a mean over the places, half of whose weight lies where the unsplit network sees an object: a plain
        mean over thousands of places would hardly notice the few that matter.
        """
        weights: dict[int, Tensor] = {}
        errors = []
        for name, kind in self.network.scores.items():
            own = weights.setdefault(teacher[name].shape[1], _weights(teacher[name], kind))
            errors.append((own * _divergence(output[name], teacher[name], kind)).sum(1))
        scores = torch.stack(errors).mean(0)
        lost = [_share_lost(output[name], teacher[name], weights) for name in self.network.regressions]
        return scores + torch.stack(lost).mean(0)

    def supervised(self, output: Tensors, targets: Tensor, smoothing: float = 0.0) -> Tensor:
        """Return the detector's own training loss of each image, (N,)."""
        loss: Tensor = self.network.loss(output, targets)
        return loss

    def probe(self, output: Tensors, generators: Sequence[Generator]) -> Tensor:
        """Probe the classes and the box of each place, under the weights of `distillation`, (N,)."""
        scores, regressions = self.network.scores, self.network.regressions
        weights: dict[int, Tensor] = {}
        parts = []
        for name, kind in scores.items():
            logits = output[name]
            own = weights.setdefault(logits.shape[1], _weights(logits.detach(), kind))
            probe = probe_softmax if kind == "softmax" else probe_sigmoid
            parts.append(((own / len(scores)).sqrt() * probe(logits.transpose(1, 2), generators)).sum(1))
        for name in regressions:
            boxes = output[name].flatten(2)
            own = weights[boxes.shape[1]]
            curvature = 2 * own / (len(regressions) * boxes.shape[2] * _variance(boxes.detach(), own)[:, None])
            parts.append((curvature.sqrt()[:, :, None] * random_signs(boxes, generators) * boxes).sum((1, 2)))
        return torch.stack(parts).sum(0)

    def predict(self, output: Tensors) -> Tensors:
        """Do the detector's own last steps: decode boxes, suppress doubles."""
        prediction: Tensors = self.network.predict(output)
        return prediction

    def last_steps(self, example: Tensors) -> Callable[[Tensors], tuple[Tensor, ...]]:
        """Return boxes (N, K, 4), scores (N, K), labels (N, K), and how doubles are suppressed, (N, 2)."""
        steps: Callable[[Tensors], tuple[Tensor, ...]] = self.network.last_steps(example)
        return steps

    def is_labelled(self, targets: Tensor) -> bool:
        """Return whether there are boxes; images without objects are labelled, too."""
        return targets.dim() == 3

    def agreement(self, prediction: Tensors, reference: Tensors) -> Tensor:
        """Share of confident boxes of both that have their like in the other, of one class and overlapping, (N,)."""
        shares = []
        for own, other in zip(_boxes(prediction, CONFIDENT), _boxes(reference, CONFIDENT), strict=True):
            right = _match(own[0], own[2], other[0], other[2])
            total = len(own[0]) + len(other[0])
            shares.append(2 * float(right.sum()) / total if total else 1.0)
        return prediction["scores"].new_tensor(shares)

    def statistics(self, prediction: Tensors, targets: Tensor) -> Tensor:
        """Each found box's score, class and rightness, and the class of each object, (N, 1 + 3 D + M)."""
        num_images, most = prediction["scores"].shape
        rows = torch.full((num_images, 3, most), -1.0, dtype=torch.float64)
        objects = targets if targets.dim() == 3 else targets.new_full((num_images, 1, 5), -1.0)
        for index, (boxes, scores, labels) in enumerate(_boxes(prediction)):
            wanted = objects[index][objects[index][:, 0] >= 0]
            right = _match(boxes, labels, wanted[:, 1:].to(boxes), wanted[:, 0].long().to(labels))
            labels = torch.where(_place_in_class(labels) < MOST_BOXES, labels, -1)
            rows[index, :, : len(scores)] = torch.stack([scores.cpu().double(), labels.cpu().double(), right.double()])
        head = torch.full((num_images, 1), float(most), dtype=torch.float64)
        return torch.cat([head, rows.flatten(1), objects[:, :, 0].cpu().double()], 1)

    def score(self, statistics: FloatArray, counts: FloatArray) -> FloatArray:
        """Return the mAP@50 with COCO's interpolation; an image drawn twice counts twice.

        torchmetrics gives the same value of one set of images; it has none for a thousand sets drawn from them.
        """
        most = int(statistics[0, 0])
        scores, labels, right = statistics[:, 1 : 1 + 3 * most].reshape(-1, 3, most).transpose(1, 0, 2)
        objects = statistics[:, 1 + 3 * most :]
        precisions = []
        for own in np.unique(objects[objects >= 0]):
            num_objects = counts @ (objects == own).sum(1)
            images, places = np.nonzero(labels == own)
            order = np.argsort(-scores[images, places], kind="stable")
            images, places = images[order], places[order]
            precisions.append(_average_precision(right[images, places] > 0, counts[:, images], num_objects))
        if not precisions:
            return np.full(len(counts), np.nan)
        stacked = np.stack(precisions)
        occurs = ~np.isnan(stacked)
        total = np.where(occurs, stacked, 0).sum(0)
        with np.errstate(invalid="ignore"):
            return np.divide(total, occurs.sum(0))

    def metric(self) -> Metric:
        """Make a mean average precision at 0.5."""
        return MeanAveragePrecision()

    def describe(self, prediction: Tensors, class_names: Sequence[str]) -> str:
        """Name the objects that were found with confidence, and their scores."""
        _, scores, labels = next(_boxes(prediction, CONFIDENT))
        found = zip(scores.tolist()[:MOST_NAMED], labels.tolist(), strict=False)
        more = " …" if len(scores) > MOST_NAMED else ""
        return ", ".join(f"{name_of(label, class_names)} {score:.0%}" for score, label in found) + more or "nothing"

    def draw(self, image: Image.Image, prediction: Tensors, class_names: Sequence[str]) -> Image.Image:
        """Draw the confident boxes with their classes."""
        drawn = image.copy()
        pen = ImageDraw.Draw(drawn)
        boxes, _, labels = next(_boxes(prediction, CONFIDENT))
        colours = palette(max(len(class_names), 1))
        for box, label in zip(boxes.tolist(), labels.tolist(), strict=True):
            colour = tuple(int(part) for part in colours[label % len(colours)])
            pen.rectangle(box, outline=colour)
            pen.text((box[0] + 2, box[1]), name_of(label, class_names), fill=colour)
        return drawn


def _weights(teacher: Tensor, kind: str) -> Tensor:
    """Weigh places (N, A): half evenly, half by how sure the teacher is of an object there."""
    sure = teacher.sigmoid().amax(2) if kind == "sigmoid" else 1 - teacher.softmax(2)[..., 0]
    return 0.5 / sure.shape[1] + 0.5 * sure / sure.sum(1, keepdim=True).clamp_min(1e-9)


def _divergence(output: Tensor, teacher: Tensor, kind: str) -> Tensor:
    """Kullback-Leibler divergence of the classes at each place, (N, A)."""
    if kind == "softmax":
        log_teacher, log_output = F.log_softmax(teacher, 2), F.log_softmax(output, 2)
        return (log_teacher.exp() * (log_teacher - log_output)).sum(2)
    probability = teacher.sigmoid()
    there = probability * (F.logsigmoid(teacher) - F.logsigmoid(output))
    absent = (1 - probability) * (F.logsigmoid(-teacher) - F.logsigmoid(-output))
    return (there + absent).sum(2)


def _share_lost(output: Tensor, teacher: Tensor, weights: Mapping[int, Tensor]) -> Tensor:
    """Return MSE / Var of box regressions (N, A, …) under the places' weights, (N,)."""
    own = weights[teacher.shape[1]]
    output, teacher = output.flatten(2), teacher.flatten(2)
    return (own[:, :, None] * (output - teacher).square()).sum(1).mean(1) / _variance(teacher, own)


def _variance(boxes: Tensor, weights: Tensor) -> Tensor:
    """Return the variance of box regressions (N, A, D) under the places' weights (N, A), (N,)."""
    own = weights[:, :, None]
    mean = (own * boxes).sum(1, keepdim=True)
    return (own * (boxes - mean).square()).sum(1).mean(1).clamp_min(1e-6)


def _boxes(prediction: Tensors, least: float = 0.0) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield boxes (D, 4), scores (D,) and labels (D,) of each image, without padding, from a score on."""
    for boxes, scores, labels in zip(prediction["boxes"], prediction["scores"], prediction["labels"], strict=True):
        there = (labels >= 0) & (scores >= least)
        yield boxes[there], scores[there], labels[there]


def _match(boxes: Tensor, labels: Tensor, wanted: Tensor, wanted_labels: Tensor) -> Tensor:
    """Return which boxes, from the surest on, find an object that none before has found, (D,)."""
    overlaps = box_iou(boxes, wanted) * (labels[:, None] == wanted_labels[None])
    table, right = overlaps.cpu().numpy().copy(), torch.zeros(len(boxes), dtype=torch.bool)
    for index in range(len(table) if table.shape[1] else 0):
        best = int(table[index].argmax())
        if table[index, best] >= OVERLAP:
            right[index], table[:, best] = True, 0
    return right


def _place_in_class(labels: Tensor) -> Tensor:
    """Count the boxes before each that are of its class, (D,)."""
    same = labels[:, None] == labels[None]
    return same.tril(-1).sum(1)


def _average_precision(right: np.ndarray, weights: FloatArray, num_objects: FloatArray) -> FloatArray:
    """Return COCO's average precision of one class for each of B sets, (B,).

    Args:
        right: of each found box, from the surest on, (D,).
        weights: how often each is in each set, (B, D).
        num_objects: in each set, (B,); where there are none, the result is not a number.
    """
    hits, all_found = np.cumsum(weights * right, 1), np.cumsum(weights, 1)
    precision = np.divide(hits, all_found, out=np.zeros_like(hits), where=all_found > 0)
    precision = np.maximum.accumulate(precision[:, ::-1], 1)[:, ::-1]
    results = np.full(len(weights), np.nan)
    for index in np.flatnonzero(num_objects > 0):
        recall = hits[index] / num_objects[index]
        places = np.searchsorted(recall, RECALLS - 1e-12, side="left")
        inside = places < len(recall)
        results[index] = precision[index][places[inside]].sum() / len(RECALLS)
    return results
