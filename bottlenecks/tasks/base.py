"""What the trainer and the judge ask of a task."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor
from torchmetrics import Metric


class Task(ABC):
    """The part of training and judging that depends on what the network's output means.

    Attributes:
        name: as in `model.task`.
        metric_name: key of the metric in logs and curves.
    """

    name: str
    metric_name: str

    @abstractmethod
    def distillation(self, output: Tensor, teacher: Tensor) -> Tensor:
        """Label-free distortion of each picture against the unsplit network's output, (N,)."""

    @abstractmethod
    def supervised(self, output: Tensor, targets: Tensor) -> Tensor:
        """Distortion of each picture against its labels, (N,)."""

    @abstractmethod
    def agreement(self, output: Tensor, teacher: Tensor) -> Tensor:
        """Share of decisions that are the unsplit network's, per picture, (N,)."""

    @abstractmethod
    def metric(self) -> Metric:
        """Make the metric that judges outputs against targets, 0..1."""
