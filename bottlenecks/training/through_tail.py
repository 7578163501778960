"""The tail as the fit of a unit asks it: draws of the score, and the distortion of features that were changed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from bottlenecks.console.terminal import progress
from bottlenecks.errors import UsageError
from bottlenecks.splitting.cut import SplitNetwork
from bottlenecks.splitting.features import Features
from bottlenecks.tasks import Task
from bottlenecks.training.closed_form import Sample
from bottlenecks.training.frozen import FrozenBatch, rows_of
from bottlenecks.training.loss import RateDistortionLoss
from bottlenecks.training.seeds import seed_for
from bottlenecks.training.sensitivity import identity_share, score_draws
from bottlenecks.training.structure import MOST_DRAWS, Distort
from bottlenecks.training.target import PointsLost

CHUNK = 64  # images that pass through the tail at once


def draw_samples(
    network: SplitNetwork, task: Task, loss: RateDistortionLoss, frozen: FrozenBatch, seed: int
) -> list[Sample]:
    """Draw the score at some images, and put it beside the features of each tensor."""
    tensors = frozen.features
    shapes = [tuple(one.shape[1:]) for one in tensors]
    count = min(len(tensors[0]), MOST_DRAWS)
    num_draws = max(1, min(4, MOST_DRAWS // 2 // count))
    weights = dict(loss.weights)
    parts: list[tuple[Tensor, ...]] = []
    if weights.get("kd", 0) + weights.get("ce", 0) > 0:
        seeds = [seed_for(seed, index, "sensitivity") for index in range(count)]
        chosen = tuple(one[:count] for one in tensors)
        try:
            chunks = score_draws(network, chosen, task, weights, seeds, num_draws)
            parts = list(progress(chunks, "Asking the tail what it listens to", None))
        except NotImplementedError:
            weights = {"mse": 1.0}
        if not any(own.any() for chunk in parts for own in chunk):
            _refuse_without_gradient(network, chosen)
    draws = [torch.cat(own, 1) for own in zip(*parts, strict=True)] or [_no_draws(one) for one in tensors]
    identity = identity_share(weights, loss.variances, shapes)
    return [Sample(*own) for own in zip(tensors, draws, identity, strict=True)]


@torch.enable_grad()
def _refuse_without_gradient(network: SplitNetwork, features: Features) -> None:
    """Refuse a tail whose output depends on the features without a gradient; one that ignores them is right.

    Raises:
        UsageError: it does.
    """
    device = next(network.parameters()).device
    leaves = tuple(one[[0, -1]].to(device).requires_grad_() for one in features)
    own, others = (tree_leaves(network.finish(given)) for given in (leaves, tuple(one.flip(0) for one in leaves)))
    value = sum(one.square().sum() for one in own if one.requires_grad) + 0 * sum(leaf.sum() for leaf in leaves)
    has_gradient = any(one.any() for one in torch.autograd.grad(value, leaves))
    if not has_gradient and not all(torch.equal(one, other) for one, other in zip(own, others, strict=True)):
        raise UsageError(
            f"split={network.split}: the output depends on the features there, but has no gradient with respect to "
            "them, as where something behind the cut rounds or detaches them; cut behind that, or train on the "
            "features' own error with loss.kd=0 loss.mse=1"
        )


def _no_draws(features: Tensor) -> Tensor:
    """Return zeros in the place of draws, (1, N, C, H, W), in the memory of one number."""
    return features.new_zeros((1,) * (features.dim() + 1)).expand(1, *features.shape)


def distortion_through(
    network: SplitNetwork, loss: RateDistortionLoss, frozen: FrozenBatch, watch: PointsLost | None = None
) -> Distort:
    """Return what passes features of some images through the tail, to their distortion in percent; `watch` looks on."""
    device = next(network.parameters()).device

    @torch.no_grad()
    def distort(features_hat: Sequence[Tensor], images: Tensor) -> Tensor:
        found = []
        for start in range(0, len(images), CHUNK):
            rows = rows_of(frozen, images[start : start + CHUNK], device)
            hats = tuple(one[start : start + CHUNK].to(device) for one in features_hat)
            nothing = torch.zeros(len(images[start : start + CHUNK]), device=device)
            output = network.finish(hats)
            found.append(loss(1.0, nothing, output, hats, rows).distortion.cpu())
            if watch is not None:
                watch(output, rows)
        return torch.cat(found)

    return distort
