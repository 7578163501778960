"""What crosses a cut, always a tuple of tensors; and what a network gives, whatever its structure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

Features = tuple[Tensor, ...]  # (N, C, H, W) each
FloatArray = npt.NDArray[np.float32]
Arrays = tuple[FloatArray, ...]
T = TypeVar("T")


def to_arrays(features: Features) -> Arrays:
    """Turn tensors into float32 arrays."""
    return tuple(tensor.float().cpu().numpy() for tensor in features)


def to_tensors(arrays: Arrays, device: torch.device | str = "cpu") -> Features:
    """Turn arrays into tensors on a device; on the CPU they share their memory."""
    return tuple(torch.from_numpy(array).to(device) for array in arrays)


def stack(images: Iterable[Arrays]) -> Arrays:
    """Put the arrays of images together to a batch."""
    return tuple(np.stack(own) for own in zip(*images, strict=True))


def cat(batches: Sequence[T]) -> T:
    """Put batches of the same structure together, along the images."""
    return tree_map(lambda *tensors: torch.cat(tensors), *batches)


def split(batch: T, counts: Sequence[int]) -> list[T]:
    """Take a batch apart into batches of so many images each."""
    ends = [sum(counts[: index + 1]) for index in range(len(counts))]
    return [
        tree_map(lambda tensor, a=end - count, b=end: tensor[a:b], batch)
        for end, count in zip(ends, counts, strict=True)
    ]


def num_images(batch: Any) -> int:
    """Count the images of a batch."""
    return len(tree_leaves(batch)[0])


def num_elements(batch: Any) -> int:
    """Count the elements of all tensors of a batch."""
    return sum(tensor.numel() for tensor in tree_leaves(batch))


def all_finite(batch: Any) -> bool:
    """Return whether every element is a finite number."""
    return all(bool(tensor.isfinite().all()) for tensor in tree_leaves(batch))
