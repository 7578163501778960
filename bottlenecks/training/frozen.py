"""What the frozen network makes of a batch: all that a unit trains on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from bottlenecks.splitting.cut import SplitNetwork
from bottlenecks.splitting.features import Features, cat, num_elements, num_images


class FrozenBatch(NamedTuple):
    """A batch of images after the frozen network.

    Attributes:
        features: what the head gives, (N, C, H, W) of each tensor that crosses.
        teacher: the unsplit network's output: a tensor, or a dict of tensors, each (N, …).
        targets: what the task compares with, (N, …).
        num_pixels: height times width of the network's input.
    """

    features: Features
    teacher: Any
    targets: Tensor
    num_pixels: int


@torch.no_grad()
def pass_frozen(
    network: SplitNetwork, images: Tensor, targets: Tensor, precision: torch.dtype = torch.float32
) -> FrozenBatch:
    """Pass images (N, 3, H, W) through head and tail.

    Args:
        network: the cut network.
        images: on its device.
        targets: (N, …).
        precision: that a cache would keep the features in; they are rounded to it, cache or not.
    """
    features = network.head(images)
    teacher = network.finish(features)
    features = tuple(tensor.contiguous() for tensor in features)  # as a cache gives them, to the last bit
    if precision != torch.float32:
        features = tuple(tensor.to(precision).float() for tensor in features)
    return FrozenBatch(features, teacher, targets, images.shape[-2] * images.shape[-1])


@torch.no_grad()
def gather_frozen(
    network: SplitNetwork,
    batches: Iterable[tuple[Tensor, Tensor]],
    device: torch.device,
    most: int,
    memory: int,
    precision: torch.dtype = torch.float32,
) -> FrozenBatch:
    """Pass images through the frozen network and hold what it made of them, on the CPU.

    Args:
        network: on `device`.
        batches: (images, targets).
        device: where to run.
        most: images at the most.
        memory: bytes that features and outputs may take; one batch is taken in any case.
        precision: that a cache would keep the features in.
    """
    parts: list[FrozenBatch] = []
    room = memory
    for images, targets in batches:
        batch = pass_frozen(network, images.to(device), targets, precision)
        parts.append(tree_map(lambda one: one.cpu() if isinstance(one, Tensor) else one, batch))
        room -= 4 * num_elements((batch.features, batch.teacher))
        most -= num_images(batch.features)
        if most <= 0 or room <= 4 * num_elements((batch.features, batch.teacher)):
            break
    features, teacher, targets = cat([(part.features, part.teacher, part.targets) for part in parts])
    whole = FrozenBatch(features, teacher, targets, parts[0].num_pixels)
    return whole if most >= 0 else rows_of(whole, torch.arange(num_images(whole.features) + most))


def rows_of(frozen: FrozenBatch, images: Tensor, device: torch.device | None = None) -> FrozenBatch:
    """Take some images out of a batch, to a device."""
    whole = (frozen.features, frozen.teacher, frozen.targets)
    features, teacher, targets = tree_map(lambda one: one[images].to(device or one.device), whole)
    return FrozenBatch(features, teacher, targets, frozen.num_pixels)
