"""Semantic segmentation."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Generator, Tensor
from torch.nn import functional as F
from torchmetrics import Metric

from bottlenecks.tasks.base import FloatArray, Task
from bottlenecks.tasks.drawing import MOST_NAMED, name_of, palette
from bottlenecks.tasks.logits import check_logits, check_targets, logits_of, outputs_of
from bottlenecks.tasks.probing import probe_softmax

VOID = -1  # in targets: pixels that do not count
OPACITY = 0.6


class MeanIoU(Metric):
    """Mean over the classes that occur of intersection over union, over all pixels of all images.

    The definition of Pascal VOC; torchmetrics' own takes the mean over images.
    """

    full_state_update = False
    higher_is_better = True
    counts: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("counts", torch.zeros(0, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, prediction: Any, targets: Tensor) -> None:
        """Take in logits (N, classes, H, W) and masks (N, H, W)."""
        counts = _counts(logits_of(prediction), targets).sum(0)
        self.counts = counts + (self.counts if len(self.counts) else torch.zeros_like(counts))

    def compute(self) -> Tensor:
        """Return the mean, not a number where nothing was labelled."""
        right, union = self.counts.view(2, -1)
        return (right / union)[union > 0].mean().float()


class Segmentation(Task):
    """Logits (N, classes, H, W), alone or by name; masks (N, H, W), -1 where there is no label.

    Evaluated by the mean intersection over union (mIoU) of the classes over all pixels of all images.
    """

    name = "segmentation"
    metric_name = "miou"

    def distillation(self, output: Any, teacher: Any) -> Tensor:
        """Kullback-Leibler divergence KL(teacher || output) in nats, the mean over the pixels, (N,)."""
        log_teacher, log_output = F.log_softmax(logits_of(teacher), 1), F.log_softmax(logits_of(output), 1)
        return F.kl_div(log_output, log_teacher, reduction="none", log_target=True).sum(1).mean((1, 2))

    def supervised(self, output: Any, targets: Tensor, smoothing: float = 0.0) -> Tensor:
        """Cross-entropy in nats, the mean over the labelled pixels, (N,); 0 where there are none."""
        logits = logits_of(output)
        targets = check_targets(targets, logits)
        errors = F.cross_entropy(logits, targets, reduction="none", ignore_index=VOID, label_smoothing=smoothing)
        return errors.sum((1, 2)) / (targets != VOID).sum((1, 2)).clamp_min(1)

    def probe(self, output: Any, generators: Sequence[Generator]) -> Tensor:
        """Probe the class of each pixel, all with one weight, (N,)."""
        pixels = probe_softmax(logits_of(output), generators)
        return pixels.sum((1, 2)) / math.sqrt(pixels[0].numel())

    def last_steps(self, example: Any) -> Callable[[Any], Tensor]:
        """Return the class of each pixel, (N, H, W) int32."""
        return lambda output: logits_of(output).argmax(1).to(torch.int32)

    def is_labelled(self, targets: Tensor) -> bool:
        """Return whether there are masks, and a pixel with a label."""
        return targets.dim() == 3 and bool((targets != VOID).any())

    def training_outputs(self, output: Any) -> list[Tensor]:
        """List the logits, and those of an auxiliary head where there is one."""
        return outputs_of(output, 4)

    def check_output(self, output: Any, num_classes: int | None) -> None:
        """Refuse what has no logits for each pixel, or those of other classes.

        Raises:
            UsageError: it has not.
        """
        check_logits(output, 4, num_classes)

    def can_evaluate(self, targets: Tensor) -> bool:
        """Return whether there are masks, whatever they say."""
        return targets.dim() == 3

    def truth(self, targets: Tensor, reference: Any) -> Tensor:
        """Return the masks (N, H, W), -1 where there is no label; without masks whatever is in their place."""
        return check_targets(targets, reference)

    def agreement(self, prediction: Any, reference: Any) -> Tensor:
        """Share of pixels whose class is the unsplit network's, (N,)."""
        return (logits_of(prediction).argmax(1) == logits_of(reference).argmax(1)).float().mean((1, 2))

    def statistics(self, prediction: Any, targets: Tensor) -> Tensor:
        """Pixels of each class that were right, then those of either its prediction or its mask, (N, 2 * classes)."""
        logits = logits_of(prediction)
        if targets.dim() != 3:  # images without masks
            return logits.new_zeros(len(logits), 2 * logits.shape[1], dtype=torch.float64)
        return _counts(logits, targets)

    def score(self, statistics: FloatArray, counts: FloatArray) -> FloatArray:
        """Return the mIoU over the classes that occur."""
        right, union = np.split(counts @ statistics, 2, axis=1)
        occurs = union > 0
        ratios = np.divide(right, union, out=np.zeros_like(right), where=occurs)
        with np.errstate(invalid="ignore"):
            return np.divide(ratios.sum(1), occurs.sum(1))

    def metric(self) -> Metric:
        """Make a mean intersection over union."""
        return MeanIoU()

    def describe(self, prediction: Any, class_names: Sequence[str]) -> str:
        """Name the classes with the most pixels, and their shares."""
        classes, counts = logits_of(prediction)[0].argmax(0).unique(return_counts=True)
        shares = sorted(zip((counts / counts.sum()).tolist(), classes.tolist(), strict=True), reverse=True)
        return ", ".join(f"{name_of(number, class_names)} {share:.0%}" for share, number in shares[:MOST_NAMED])

    def draw(self, image: Image.Image, prediction: Any, class_names: Sequence[str]) -> Image.Image:
        """Lay each class's colour over the image; the first class stays clear where it is a background."""
        logits = logits_of(prediction)[0]
        classes = logits.argmax(0).cpu().numpy()
        colours = palette(len(logits))
        ground = bool(class_names) and class_names[0].strip("_") == "background"
        opacity = np.where((classes == 0) & ground, 0.0, OPACITY)[..., None]
        pixels = np.asarray(image) * (1 - opacity) + colours[classes - ground] * opacity
        return Image.fromarray(np.rint(pixels).astype(np.uint8))


def _counts(logits: Tensor, targets: Tensor) -> Tensor:
    """Count, per image and class, the right pixels and those of the union, (N, 2 * classes)."""
    num_images, num_classes = logits.shape[:2]
    there = targets != VOID
    images = torch.arange(num_images, device=logits.device).view(-1, 1, 1).expand_as(targets)[there]
    classes, found = targets[there], logits.argmax(1)[there]

    def histogram(where: Tensor, values: Tensor) -> Tensor:
        flat = torch.bincount(where * num_classes + values, minlength=num_images * num_classes)
        return flat.view(num_images, num_classes).double()

    hit = classes == found
    right = histogram(images[hit], classes[hit])
    return torch.cat([right, histogram(images, classes) + histogram(images, found) - right], 1)
