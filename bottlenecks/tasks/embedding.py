"""Embeddings: vectors or tokens that stand for an image."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Generator, Tensor, nn
from torch.nn import functional as F
from torchmetrics import MeanMetric, Metric

from bottlenecks.errors import UsageError
from bottlenecks.tasks.base import FloatArray, Task
from bottlenecks.tasks.neighbours import same_nearest
from bottlenecks.tasks.probing import random_signs

ONLY = ""  # name of an output that has none
STRIP = 8  # part of an image's height that its vector is drawn on


class Embedding(Task):
    """Vectors (N, D), tokens (N, T, D) or maps (N, D, H, W), or several of these by name; no labels.

    Evaluated by the mean cosine with the unsplit network's, of tokens and places the mean over them.

    Args:
        network: whose outputs these are.
        distortion: `cosine`: 1 - cosine; `mse`: the squared error as a share of the embedding's own squared length.
        outputs: weights of several outputs by name; None weighs all alike.
    """

    name = "embedding"
    metric_name = "cosine"

    def __init__(
        self,
        network: nn.Module | None = None,
        distortion: str = "cosine",
        outputs: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(network)
        self.distortion, self.outputs = distortion, outputs

    def distillation(self, output: Any, teacher: Any) -> Tensor:
        """Distortion of the outputs under their weights, (N,)."""
        error = {"cosine": _angular_error, "mse": _squared_error}[self.distortion]
        return self._weighed(error, output, teacher)

    def supervised(self, output: Any, targets: Tensor, smoothing: float = 0.0) -> Tensor:
        """Refuse to: there are no labels of embeddings.

        Raises:
            UsageError: always.
        """
        raise UsageError("model.task=embedding: learns from no labels; leave loss.ce and stage=backbone, use loss.kd")

    def probe(self, output: Any, generators: Sequence[Generator]) -> Tensor:
        """Probe each output under its weight, (N,)."""
        parts = []
        for name, weight in self._weights(output).items():
            tokens = tokens_of(_named(output)[name])
            if self.distortion == "cosine":
                probed = F.normalize(tokens, dim=2) / math.sqrt(tokens.shape[1])
            else:
                energy = tokens.detach().square().sum((1, 2), keepdim=True)
                probed = tokens * (2 / energy.clamp_min(torch.finfo(energy.dtype).tiny)).sqrt()
            parts.append(math.sqrt(weight) * (random_signs(probed, generators) * probed).sum((1, 2)))
        return torch.stack(parts).sum(0)

    def truth(self, targets: Tensor, reference: Any) -> Any:
        """Return the unsplit network's embeddings."""
        return reference

    def is_labelled(self, targets: Tensor) -> bool:
        """Return that embeddings can always be evaluated."""
        return True

    def check_output(self, output: Any, num_classes: int | None) -> None:
        """Refuse what is no embedding, and weights of outputs that there are not.

        Raises:
            UsageError: it is none, or there are some.
        """
        tensors = _named(output)
        for name in self.outputs or ():
            if name not in tensors:
                known = (
                    ", ".join(tensors) if isinstance(output, Mapping) else "one without a name; leave the setting out"
                )
                raise UsageError(f"model.outputs: there is no output {name}; there is {known}")
        for name in self._weights(output):
            one = tensors[name]
            if not (isinstance(one, Tensor) and one.is_floating_point() and 2 <= one.dim() <= 4):
                found = f"a tensor {tuple(one.shape)}" if isinstance(one, Tensor) else f"a {type(one).__name__}"
                which = f" as {name}" if name else ""
                raise UsageError(
                    f"it gives {found}{which}, where vectors (N, D), tokens (N, T, D) or maps (N, D, H, W) are "
                    "expected, alone or in a dict; wrap it, or choose outputs as model.outputs={NAME: 1}"
                )

    def last_steps(self, example: Any) -> Callable[[Any], Tensor]:
        """Return the embedding; of several, the one that stands for the image."""
        name = self._main(example)
        return lambda output: _named(output)[name]

    def agreement(self, prediction: Any, reference: Any) -> Tensor:
        """1 where the nearest of the other images, as the unsplit network sees them, is the same, else 0, (N,)."""
        return same_nearest(self.vectors(prediction), self.vectors(reference))

    def vectors(self, prediction: Any) -> Tensor:
        """Return what stands for each image, (N, D) of length 1; of tokens and places the mean."""
        return F.normalize(tokens_of(_named(prediction)[self._main(prediction)]).float().mean(1), dim=1)

    def statistics(self, prediction: Any, targets: Any) -> Tensor:
        """Cosine with the unsplit network's embedding, (N, 1)."""
        return (1 - self._weighed(_angular_error, prediction, targets))[:, None].double()

    def score(self, statistics: FloatArray, counts: FloatArray) -> FloatArray:
        """Mean cosine; 0 where it is negative."""
        mean: FloatArray = np.clip((counts @ statistics)[:, 0] / counts.sum(1), 0, 1)
        return mean

    def metric(self) -> Metric:
        """Make a mean cosine."""
        return MeanCosine(self)

    def describe(self, prediction: Any, class_names: Sequence[str]) -> str:
        """State how many values stand for the image, and their length."""
        tokens = tokens_of(_named(prediction)[self._main(prediction)])
        count = f"{tokens.shape[1]} x " if tokens.shape[1] > 1 else ""
        return f"embedding of {count}{tokens.shape[2]} values, length {float(tokens[0].norm()):.4g}"

    def draw(self, image: Image.Image, prediction: Any, class_names: Sequence[str]) -> Image.Image:
        """Draw the vector as a strip of grey values along the lower edge: what changes between rates is seen there."""
        values = self.vectors(prediction)[0].cpu().numpy()
        grey = np.rint(127.5 * (1 + values / max(float(np.abs(values).max()), 1e-9))).astype(np.uint8)
        size = (image.width, max(1, image.height // STRIP))
        drawn = image.copy()
        drawn.paste(Image.fromarray(grey[None]).resize(size, Image.Resampling.BOX), (0, image.height - size[1]))
        return drawn

    def _weighed(self, error: Callable[[Tensor, Tensor], Tensor], output: Any, teacher: Any) -> Tensor:
        """Take the mean of an error over the outputs, under their weights, (N,)."""
        own, other = _named(output), _named(teacher)
        weights = self._weights(teacher)
        return torch.stack(
            [weight * error(tokens_of(own[name]), tokens_of(other[name])) for name, weight in weights.items()]
        ).sum(0)

    def _weights(self, output: Any) -> dict[str, float]:
        """Return the share of each output that counts."""
        weights = self.outputs or dict.fromkeys(_named(output), 1.0)
        total = sum(weights.values())
        return {name: weight / total for name, weight in weights.items() if weight > 0}

    def _main(self, output: Any) -> str:
        """Name the output that stands for an image: the first that is a vector, else the first."""
        tensors, names = _named(output), [*self._weights(output)]
        return next((name for name in names if tokens_of(tensors[name]).shape[1] == 1), names[0])


class MeanCosine(MeanMetric):
    """Mean cosine with the unsplit network's embeddings, 0 where it is negative.

    Args:
        task: takes the cosines.
    """

    def __init__(self, task: Embedding) -> None:
        super().__init__()
        self.task = task

    def update(self, prediction: Any, reference: Any) -> None:  # type: ignore[override]
        """Take in embeddings, and the unsplit network's."""
        super().update(self.task.statistics(prediction, reference).float())

    def compute(self) -> Tensor:
        """Return the mean."""
        return super().compute().clamp(0, 1)


def tokens_of(tensor: Tensor) -> Tensor:
    """Read vectors (N, D) as one token each, and maps (N, D, H, W) as one a place: (N, T, D)."""
    return tensor[:, None] if tensor.dim() == 2 else tensor.flatten(2).transpose(1, 2) if tensor.dim() == 4 else tensor


def _named(output: Any) -> Mapping[str, Any]:
    return output if isinstance(output, Mapping) else {ONLY: output}


def _angular_error(tokens: Tensor, teacher: Tensor) -> Tensor:
    """1 - cosine of each token, the mean over them, (N,)."""
    return 1 - F.cosine_similarity(tokens, teacher, dim=2).mean(1)


def _squared_error(tokens: Tensor, teacher: Tensor) -> Tensor:
    """Squared error over the teacher's squared length, both over all tokens, (N,)."""
    energy = teacher.square().sum((1, 2))
    return (tokens - teacher).square().sum((1, 2)) / energy.clamp_min(torch.finfo(energy.dtype).tiny)
