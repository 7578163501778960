"""What the trainer and the judge ask of a task."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import numpy.typing as npt
from torch import Tensor
from torchmetrics import Metric

FloatArray = npt.NDArray[np.floating]


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
    def evidence(self, output: Tensor, targets: Tensor) -> Tensor:
        """Give what each picture adds to the metric, (N, E): sums over any pictures are what `score` takes."""

    @abstractmethod
    def score(self, evidence: FloatArray) -> FloatArray:
        """Turn sums of evidence (..., E) into the metric, 0..1, (...); not a number where nothing was labelled."""

    @abstractmethod
    def metric(self) -> Metric:
        """Make the metric that judges outputs against targets, 0..1."""
