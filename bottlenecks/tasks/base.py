"""What the trainer and the evaluate ask of a task."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from torch import Generator, Tensor, nn
from torchmetrics import Metric

FloatArray = npt.NDArray[np.float64]


class Task(ABC):
    """The part of training and evaluation that depends on what the network's output means.

    An *output* is what the network gives: a tensor, or a dict of tensors, each (N, …). A *prediction* is what a user
    gets: the same, or what the network's own last steps make of it.

    Args:
        network: whose outputs these are; None where only scores are wanted.

    Attributes:
        name: as in `model.task`.
        metric_name: key of the metric in logs and curves.
    """

    name: str
    metric_name: str

    def __init__(self, network: nn.Module | None = None) -> None:
        self.network = network

    @abstractmethod
    def distillation(self, output: Any, teacher: Any) -> Tensor:
        """Label-free distortion of each image against the unsplit network's output, (N,)."""

    @abstractmethod
    def supervised(self, output: Any, targets: Tensor, smoothing: float = 0.0) -> Tensor:
        """Distortion of each image against its labels, (N,).

        Args:
            output: of the network.
            targets: labels.
            smoothing: share of each label that is spread over the other classes, where the task has such labels.
        """

    def probe(self, output: Any, generators: Sequence[Generator]) -> Tensor:
        """Draw a random number for each image whose gradient shows what `distillation` is sensitive to.

        With respect to anything that the output was computed from, the gradient g is a random vector, and the mean of
        its outer products is the Gauss-Newton matrix: for a small dx, half the mean of `(g . dx)^2` is what
        `distillation` of the changed output against the unchanged one comes to.

        A task need not have it. Without it nothing is known of what the tail listens to, and units are fitted to the
        mean squared error of the features.

        Args:
            output: of the network.
            generators: on the CPU, one for each image.

        Returns:
            (N,).

        Raises:
            NotImplementedError: the task has none.
        """
        raise NotImplementedError(f"model.task={self.name}: {type(self).__name__} has no `probe` of its sensitivity")

    def predict(self, output: Any) -> Any:
        """Turn the network's output into a prediction; without further ado they are the same."""
        return output

    def last_steps(self, example: Any) -> Callable[[Any], Any]:
        """Return what a bundle's tail does with the network's output, so that no torch is needed after it.

        Args:
            example: output for one image of the size that the bundle is for.

        Returns:
            A function that `torch.export` takes, from an output to a tensor or a tuple of tensors, each (N, …), as
            `bottlenecks.deploy.answers` wants them.
        """
        return lambda output: output

    def truth(self, targets: Tensor, reference: Any) -> Any:
        """Return what the metric compares predictions with: labels, or where a task has none the unsplit network's.

        Args:
            targets: labels.
            reference: the unsplit network's prediction for the same images.
        """
        return targets

    @abstractmethod
    def is_labelled(self, targets: Tensor) -> bool:
        """Return whether the metric can be taken: whether a batch has labels, for tasks that need any."""

    def training_outputs(self, output: Any) -> list[Any]:
        """List what a network gives while it is trained: its output, and those of auxiliary heads.

        Args:
            output: in training mode, where networks with such heads give a dict or a tuple of several.
        """
        return [output]

    def check_output(self, output: Any, num_classes: int | None) -> None:  # noqa: B027  a task need not have it
        """Refuse what is no output of this task.

        Args:
            output: of a network in eval mode.
            num_classes: that the data has; None where it has no labels.

        Raises:
            UsageError: it has another form, or is for other classes.
        """

    def can_evaluate(self, targets: Tensor) -> bool:
        """Return whether the metric takes a batch's targets, though they may hold no label.

        Of several processes, all have to take part in evaluation, those among them that met no label, too.
        """
        return self.is_labelled(targets)

    @abstractmethod
    def agreement(self, prediction: Any, reference: Any) -> Tensor:
        """Share of decisions that are the unsplit network's, per image, (N,)."""

    def vectors(self, prediction: Any) -> Tensor | None:
        """Return what stands for each image among others, (N, D) of length 1; None where a task has no such thing.

        Where it has, images are looked for among all that are evaluated, and agreement is that of the nearest ones.
        """
        return None

    @abstractmethod
    def statistics(self, prediction: Any, targets: Any) -> Tensor:
        """Return what each image adds to the metric, (N, E), from which `score` makes it for any set of images.

        Args:
            prediction: for N images.
            targets: what `truth` gives.
        """

    @abstractmethod
    def score(self, statistics: FloatArray, counts: FloatArray) -> FloatArray:
        """Make the metric of sets of images.

        Args:
            statistics: of each image, (N, E).
            counts: how often each image is in each of B sets, (B, N).

        Returns:
            The metric of each set, 0..1, (B,); not a number where nothing was labelled.
        """

    @abstractmethod
    def metric(self) -> Metric:
        """Make the metric that evaluates predictions against what `truth` gives, 0..1."""

    @abstractmethod
    def describe(self, prediction: Any, class_names: Sequence[str]) -> str:
        """Describe in a line what was predicted for one image, a batch of one."""

    @abstractmethod
    def draw(self, image: Image.Image, prediction: Any, class_names: Sequence[str]) -> Image.Image:
        """Draw the prediction for one image on it.

        Args:
            image: as the network saw it, in RGB.
            prediction: a batch of one.
            class_names: of the network's outputs, () where unknown.
        """
