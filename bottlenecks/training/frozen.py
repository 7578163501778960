"""What the frozen network makes of a batch: all that a unit trains on."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from bottlenecks.features import Features
from bottlenecks.split import SplitNetwork


class FrozenBatch(NamedTuple):
    """A batch of pictures after the frozen network.

    Attributes:
        features: what the head gives, (N, C, H, W), or one such a tensor that crosses.
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
    """Pass pictures (N, 3, H, W) through head and tail.

    Args:
        network: the cut network.
        images: on its device.
        targets: (N, …).
        precision: that a cache would keep the features in; they are rounded to it, cache or not.
    """
    features = network.head(images)
    teacher = network.finish(features)
    if precision != torch.float32:
        features = tree_map(lambda tensor: tensor.to(precision).float(), features)
    return FrozenBatch(features, teacher, targets, images.shape[-2] * images.shape[-1])
