"""The running figures of one rate over an epoch."""

from __future__ import annotations

import math

from torch import Tensor, nn
from torchmetrics import MeanMetric, Metric

from bottlenecks.tasks import Task
from bottlenecks.training.loss import RateDistortion


class RateMetrics(nn.Module):
    """Means over pictures of loss, rate, distortion and agreement, and the task's metric.

    Args:
        task: gives metric and agreement their meaning.
        num_elements: of the features of one picture.
    """

    def __init__(self, task: Task, num_elements: int) -> None:
        super().__init__()
        self.task, self.num_elements = task, num_elements
        self.means = nn.ModuleDict()
        self.metric = task.metric()

    def update(
        self, losses: RateDistortion, rate_bits: Tensor, output: Tensor, teacher: Tensor, targets: Tensor
    ) -> None:
        """Take in a batch; every tensor's first dimension counts pictures."""
        values = {
            "loss": losses.loss,
            "bpp": losses.bpp,
            "bits_per_element": rate_bits / self.num_elements,
            "distortion": losses.distortion,
            "agreement": self.task.agreement(output, teacher),
            **{f"distortion_{name}": part for name, part in losses.parts.items()},
        }
        for name, value in values.items():
            self._mean(name, value).update(value.detach())
        if (targets >= 0).any():
            self.metric.update(output.detach(), targets)

    def compute(self) -> dict[str, float]:
        """Give the means; the task's metric is left out where nothing was labelled."""
        figures = {name: float(mean.compute()) for name, mean in self.means.items()}  # type: ignore[operator]
        if self.metric.update_called:
            figures[self.task.metric_name] = float(self.metric.compute())
        return figures

    def reset(self) -> None:
        """Begin anew."""
        for mean in self.means.values():
            mean.reset()  # type: ignore[operator]
        self.metric.reset()

    def _mean(self, name: str, value: Tensor) -> Metric:
        if name not in self.means:
            self.means[name] = MeanMetric(nan_strategy=math.inf).to(value.device)  # never the best, never hidden
        return self.means[name]  # type: ignore[return-value]
