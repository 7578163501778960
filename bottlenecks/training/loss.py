"""The rate-distortion loss: `lambda * distortion + bpp`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from bottlenecks.settings.target import PERCENT
from bottlenecks.settings.training import check_loss
from bottlenecks.splitting.features import Features
from bottlenecks.tasks import Task
from bottlenecks.training.frozen import FrozenBatch

T = TypeVar("T")


class RateDistortion(NamedTuple):
    """Loss and its parts, each per image, (N,).

    Attributes:
        loss: `lmbda * distortion + bpp`.
        bpp: estimated bits per pixel of the input image.
        distortion: weighted sum of the parts, in percent.
        parts: each distortion with a weight, in percent, unweighted.
    """

    loss: Tensor
    bpp: Tensor
    distortion: Tensor
    parts: dict[str, Tensor]


def feature_error(features_hat: Features, features: Features, variances: Sequence[float]) -> Tensor:
    """Share of the features' variance that is lost, per image; the mean of the tensors' shares.

    Args:
        features_hat: reconstruction, (N, C, H, W).
        features: what the head gave, (N, C, H, W).
        variances: of each tensor's elements about their channels' means, over the training images.

    Returns:
        MSE / variance, (N,).
    """
    tensors = zip(features_hat, features, variances, strict=True)
    shares = [(hat - true).square().flatten(1).mean(1) / variance for hat, true, variance in tensors]
    return torch.stack(shares).mean(0)


def precise(values: T) -> T:
    """Return floating-point tensors in float32 at least: losses are not taken in half precision."""
    return tree_map(
        lambda one: one.to(torch.promote_types(one.dtype, torch.float32)) if one.is_floating_point() else one, values
    )


class RateDistortionLoss:
    """CompressAI's convention: a larger `lmbda` buys fidelity with rate.

    The distortion is in percent, so that the familiar range of `lmbda` (0.0003 .. 0.1) spans the useful curve:
    `100 * KL(teacher || student)` for `kd`, `100 * cross-entropy` for `ce`, `100 * MSE / Var` for `mse`.

    Args:
        task: gives `kd` and `ce` their meaning.
        weights: of `kd`, `ce` and `mse`; those of weight 0 are not computed.
        variances: of the features, see `feature_error`.

    Raises:
        UsageError: an unknown or negative weight, or no weight above 0.
    """

    def __init__(self, task: Task, weights: Mapping[str, float], variances: Sequence[float] = (1.0,)) -> None:
        check_loss(weights)
        self.weights = {name: float(weight) for name, weight in weights.items() if weight > 0}
        self.task, self.variances = task, tuple(variances)

    def __call__(
        self,
        lmbda: float | Tensor,
        rate_bits: Tensor,
        output: Any,
        features_hat: Features,
        frozen: FrozenBatch,
    ) -> RateDistortion:
        """Compute the loss of each image.

        Args:
            lmbda: price of one percent of distortion in bits per pixel, for all images or one (N,) for each.
            rate_bits: estimated bits, (N,).
            output: of the split network.
            features_hat: reconstruction, (N, C, H, W).
            frozen: what the frozen network made of the images; its targets are not looked at unless `ce` has a
                weight.
        """
        parts: dict[str, Tensor] = {}
        for name in self.weights:
            if name == "kd":
                error = self.task.distillation(precise(output), precise(frozen.teacher))
            elif name == "ce":
                error = self.task.supervised(precise(output), frozen.targets)
            else:
                error = feature_error(precise(features_hat), precise(frozen.features), self.variances)
            parts[name] = PERCENT * error
        distortion = torch.stack([self.weights[name] * part for name, part in parts.items()]).sum(0)
        bpp = rate_bits / frozen.num_pixels
        return RateDistortion(lmbda * distortion + bpp, bpp, distortion, parts)
