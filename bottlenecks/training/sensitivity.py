"""What the tail listens to: random gradients whose outer products average to the distortion's curvature."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Generator, Tensor
from torch.autograd.graph import saved_tensors_hooks

from bottlenecks.errors import UsageError
from bottlenecks.settings.target import PERCENT
from bottlenecks.splitting.cut import SplitNetwork
from bottlenecks.splitting.features import Features, all_finite, num_elements
from bottlenecks.tasks import Task
from bottlenecks.training.loss import precise

MEMORY = 2**30
FLOAT_BYTES = 4


def score_draws(
    network: SplitNetwork,
    features: Features,
    task: Task,
    weights: Mapping[str, float],
    seeds: Sequence[int],
    num_draws: int,
    memory: int = MEMORY,
) -> Iterator[tuple[Tensor, ...]]:
    """Draw gradients g at each image's features so that the mean of `g g^T` is the distortion's Gauss-Newton matrix.

    For a small change dx of an image's features, half the mean of `(g . dx)^2` is what `kd` and `ce` add to the
    distortion of `RateDistortionLoss`, in percent. Cross-entropy counts like the divergence, whose matrix it has where
    labels are as the network expects them. Of several tensors that cross, `g . dx` is the sum over all of them.
    An image's draws depend on its features and its seed, not on the images beside it.

    Args:
        network: the cut network.
        features: what its head gave, (N, C, H, W) of each tensor, on any device.
        task: gives the distortion.
        weights: of `kd`, `ce` and `mse`, as in `RateDistortionLoss`; for `mse` see `identity_share`.
        seeds: one for each image.
        num_draws: gradients for each image.
        memory: bytes that a chunk of images may take on the network's device, as `_bytes_for_one` estimates them; a
            chunk has one image at least.

    Yields:
        For one chunk after another, in the order of the images, each tensor's gradients (num_draws, n, C, H, W) in
        float32, on the features' device.

    Raises:
        ValueError: not one seed for each image.
        UsageError: features or gradients are not finite.
        NotImplementedError: the task has no `probe`.
    """
    if len(seeds) != len(features[0]):
        raise ValueError(f"{len(seeds)} seeds for {len(features[0])} images; there has to be one for each")
    scale = math.sqrt(PERCENT * (weights.get("kd", 0.0) + weights.get("ce", 0.0)))
    size = max(1, memory // _bytes_for_one(network, features, task, num_draws))
    for start in range(0, len(seeds), size):
        chunk = [tensor[start : start + size] for tensor in features]
        _check_finite(chunk, f"split={network.split}: the features there")
        generators = [Generator().manual_seed(seed) for seed in seeds[start : start + size]]
        draws = _draw(network, chunk, task, generators, num_draws)
        _check_finite(draws, f"split={network.split}: the gradients of the output with respect to the features there")
        yield tuple((scale * own).to(features[0].device) for own in draws)


def identity_share(
    weights: Mapping[str, float], variances: Sequence[float], shapes: Sequence[tuple[int, ...]]
) -> list[float]:
    """Return what the weight of `mse` adds to the matrix of `score_draws`: for each tensor a multiple of the identity.

    Args:
        weights: of `kd`, `ce` and `mse`.
        variances: of the features, see `feature_error`.
        shapes: of each tensor that crosses, without the batch.
    """
    whole = 2 * PERCENT * weights.get("mse", 0.0) / len(shapes)
    return [whole / (math.prod(shape) * variance) for shape, variance in zip(shapes, variances, strict=True)]


def _check_finite(tensors: Sequence[Tensor], what: str) -> None:
    if not all_finite(tensors):
        raise UsageError(f"{what} are not finite; are the weights sound?")


@torch.enable_grad()
def _draw(
    network: SplitNetwork, chunk: Sequence[Tensor], task: Task, generators: Sequence[Generator], num_draws: int
) -> list[Tensor]:
    """Pass a chunk through the tail once and back for each draw; give each tensor's gradients (num_draws, n, …)."""
    leaves, output = _forward(network, chunk)
    untouched = 0 * sum(leaf.sum() for leaf in leaves)  # whatever does not reach the output has the gradient 0
    draws = []
    with torch.autocast(leaves[0].device.type, enabled=False):
        for left in reversed(range(num_draws)):
            value = task.probe(output, generators).sum() + untouched
            draws.append(torch.autograd.grad(value, leaves, retain_graph=left > 0))
    return [torch.stack(own) for own in zip(*draws, strict=True)]


def _forward(network: SplitNetwork, chunk: Sequence[Tensor]) -> tuple[tuple[Tensor, ...], object]:
    """Run the tail in single precision; give the features that want a gradient, and the output."""
    device = next(network.parameters()).device
    leaves = tuple(tensor.detach().to(device, torch.float32).requires_grad_() for tensor in chunk)
    with torch.autocast(device.type, enabled=False):
        return leaves, precise(network.finish(leaves))


@torch.enable_grad()
def _bytes_for_one(network: SplitNetwork, tensors: Sequence[Tensor], task: Task, num_draws: int) -> int:
    """Estimate what one image takes on the device.

    It is the sum of: what the graph keeps for the backward passes, besides the network's own weights, and as much
    again for the buffers of a pass; four times the output, for what a probe makes of it on the way; the features, and
    their gradients twice, for they are put together.
    """
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with saved_tensors_hooks(note, lambda tensor: tensor):
        leaves, output = _forward(network, [tensor[:1] for tensor in tensors])
        value = task.probe(output, [Generator()])
    there = {one.untyped_storage().data_ptr() for one in [*network.parameters(), *network.buffers(), *leaves]}
    activations = sum(count for place, count in kept.items() if place not in there)
    del value  # only now: what it kept had to have places of its own
    around = 4 * FLOAT_BYTES * num_elements(output) + (2 * num_draws + 1) * FLOAT_BYTES * num_elements(leaves)
    return 2 * activations + around
