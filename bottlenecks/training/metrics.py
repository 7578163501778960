"""The running figures of one rate over an epoch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import MaxMetric, MeanMetric

from bottlenecks.tasks import Task
from bottlenecks.training.frozen import FrozenBatch
from bottlenecks.training.loss import RateDistortion, precise

NAMES = ("loss", "bpp", "bits_per_element", "distortion")


class RateMetrics(nn.Module):
    """Means over images of loss, rate and distortion; where images are evaluated, agreement and the task's metric.

    Args:
        task: gives metric and agreement their meaning.
        num_elements: of the features of one image.
        distortions: names of the distortion's parts.
        evaluated: whether predictions are made and evaluated, which for some tasks is long work.
    """

    def __init__(self, task: Task, num_elements: int, distortions: Sequence[str], evaluated: bool) -> None:
        super().__init__()
        self.task, self.num_elements = task, num_elements
        names = [*NAMES, *(f"distortion_{name}" for name in distortions), *(["agreement"] if evaluated else [])]
        # An infinite loss is never the best; a value that is no number is never hidden.
        self.means = nn.ModuleDict({name: MeanMetric(nan_strategy=math.inf) for name in names})
        self.metric = task.metric() if evaluated else None
        self.labelled = MaxMetric()  # 1 where any process met a label

    def update(self, losses: RateDistortion, rate_bits: Tensor, output: Any, frozen: FrozenBatch) -> None:
        """Take in a batch; every tensor's first dimension counts images."""
        values = {
            "loss": losses.loss,
            "bpp": losses.bpp,
            "bits_per_element": rate_bits / self.num_elements,
            "distortion": losses.distortion,
            **{f"distortion_{name}": part for name, part in losses.parts.items()},
        }
        if self.metric is not None:
            with torch.no_grad():
                prediction, reference = self.task.predict(precise(output)), self.task.predict(frozen.teacher)
                values["agreement"] = self.task.agreement(prediction, reference)
                self.labelled.update(float(self.task.is_labelled(frozen.targets)))
                if self.task.can_evaluate(frozen.targets):
                    self.metric.update(prediction, self.task.truth(frozen.targets, reference))
        for name, value in values.items():
            self.means[name].update(value.detach())  # type: ignore[operator]

    def compute(self) -> dict[str, float]:
        """Return the means, none where nothing was taken in; without labels, the task's metric is left out."""
        figures = {name: float(mean.compute()) for name, mean in self.means.items() if mean.update_called}  # type: ignore[operator]
        if self.metric is not None and self.labelled.update_called and self.labelled.compute() > 0:
            figures[self.task.metric_name] = float(self.metric.compute())
        return figures

    def reset(self) -> None:
        """Begin anew."""
        for mean in self.means.values():
            mean.reset()  # type: ignore[operator]
        self.labelled.reset()
        if self.metric is not None:
            self.metric.reset()
