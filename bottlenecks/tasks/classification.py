"""Image classification."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Generator, Tensor
from torch.nn import functional as F
from torchmetrics import MeanMetric, Metric

from bottlenecks.tasks.base import FloatArray, Task
from bottlenecks.tasks.drawing import name_of, write
from bottlenecks.tasks.logits import check_logits, check_targets, logits_of, outputs_of
from bottlenecks.tasks.probing import probe_softmax


class TopOne(MeanMetric):
    """Share of images whose highest logit is the label's; images without a label (-1) do not count."""

    def update(self, output: Any, targets: Tensor) -> None:  # type: ignore[override]
        """Take in logits (N, classes) and labels (N,)."""
        labelled = targets >= 0
        super().update((logits_of(output).argmax(1) == targets)[labelled].float())


class Classification(Task):
    """Logits (N, classes), alone or by name; labels (N,). Evaluated by top-1 accuracy."""

    name = "classification"
    metric_name = "accuracy"

    def distillation(self, output: Any, teacher: Any) -> Tensor:
        """Kullback-Leibler divergence KL(teacher || output) in nats, (N,)."""
        log_teacher, log_output = F.log_softmax(logits_of(teacher), 1), F.log_softmax(logits_of(output), 1)
        return (log_teacher.exp() * (log_teacher - log_output)).sum(1)

    def supervised(self, output: Any, targets: Tensor, smoothing: float = 0.0) -> Tensor:
        """Cross-entropy in nats, (N,); 0 for images without a label (-1)."""
        logits = logits_of(output)
        targets = check_targets(targets, logits)
        return F.cross_entropy(logits, targets, reduction="none", ignore_index=-1, label_smoothing=smoothing)

    def probe(self, output: Any, generators: Sequence[Generator]) -> Tensor:
        """Probe the class, (N,)."""
        return probe_softmax(logits_of(output), generators)

    def last_steps(self, example: Any) -> Callable[[Any], Tensor]:
        """Return the logits."""
        return logits_of

    def is_labelled(self, targets: Tensor) -> bool:
        """Return whether any image has a label."""
        return bool((targets >= 0).any())

    def training_outputs(self, output: Any) -> list[Tensor]:
        """List the logits, and those of auxiliary heads behind them in a dict or a tuple."""
        return outputs_of(output, 2)

    def check_output(self, output: Any, num_classes: int | None) -> None:
        """Refuse an output without logits, or one for other classes.

        Raises:
            UsageError: it is.
        """
        check_logits(output, 2, num_classes)

    def can_evaluate(self, targets: Tensor) -> bool:
        """Return whether there are labels, whatever they say."""
        return targets.dim() == 1

    def truth(self, targets: Tensor, reference: Any) -> Tensor:
        """Return the labels (N,), below 0 where there is none."""
        return check_targets(targets, reference)

    def agreement(self, prediction: Any, reference: Any) -> Tensor:
        """1 where the top class is the unsplit network's, else 0, (N,)."""
        return (logits_of(prediction).argmax(1) == logits_of(reference).argmax(1)).float()

    def statistics(self, prediction: Any, targets: Tensor) -> Tensor:
        """1 where the top class is the label, and 1 where there is a label, (N, 2)."""
        labelled = targets >= 0
        return torch.stack([(logits_of(prediction).argmax(1) == targets) & labelled, labelled], 1).double()

    def score(self, statistics: FloatArray, counts: FloatArray) -> FloatArray:
        """Share of the labelled images whose top class is the label."""
        right, labelled = (counts @ statistics).T
        with np.errstate(invalid="ignore"):
            return np.divide(right, labelled)

    def metric(self) -> Metric:
        """Make a top-1 accuracy."""
        return TopOne()

    def describe(self, prediction: Any, class_names: Sequence[str]) -> str:
        """Name the most probable class and its probability."""
        shares = logits_of(prediction)[0].softmax(0)
        return f"{name_of(int(shares.argmax()), class_names)} ({float(shares.max()):.1%})"

    def draw(self, image: Image.Image, prediction: Any, class_names: Sequence[str]) -> Image.Image:
        """Write the top class on the image."""
        return write(image, name_of(int(logits_of(prediction)[0].argmax()), class_names))
