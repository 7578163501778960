"""Whether what a network makes of an image depends on the other images of its batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

IMAGES = 5  # in two batches of three, with one image in the middle of both
BATCHES = ((0, 1, 2), (3, 1, 4))
TOLERANCE = 1e-3  # of the largest value


@torch.no_grad()
def is_mixed(run: Callable[..., Any], *inputs: Tensor) -> bool:
    """Return whether an image comes out otherwise beside other images, or alone.

    Two batches of one size are compared first: the arithmetic of an image is the same in both, to the last bit on most
    devices.

    Args:
        run: takes a batch of each input, gives tensors or arrays with a row for each image.
        inputs: of five images, (5, …).

    Returns:
        Whether any value of the image in the middle differs by more than rounding.
    """

    def leaves(*places: int) -> list[Tensor]:
        found = tree_leaves(run(*(one[list(places)] for one in inputs)))
        return [torch.as_tensor(leaf) for leaf in found if isinstance(leaf, (Tensor, np.ndarray))]

    first = leaves(*BATCHES[0])
    rows = [at for at, leaf in enumerate(first) if leaf.dim() and len(leaf) == len(BATCHES[0])]
    for places in (BATCHES[1], BATCHES[0][1:2]):
        other = leaves(*places)
        if any(_differ(first[at][1], other[at][len(places) // 2]) for at in rows):
            return True
    return False


def random_images(shape: tuple[int, ...], device: torch.device | str = "cpu") -> Tensor:
    """Return noise in the place of five images (5, C, H, W), the same each time."""
    return torch.randn(IMAGES, *shape, generator=torch.Generator().manual_seed(0)).to(device)


def _differ(one: Tensor, other: Tensor) -> bool:
    one, other = (torch.nan_to_num(tensor.double()) for tensor in (one, other))
    return bool(((one - other).abs() > TOLERANCE * one.abs().max()).any()) if one.numel() else False
