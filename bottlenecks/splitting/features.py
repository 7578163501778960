"""What crosses a cut: one tensor, or a tuple of several; and the same for whatever a network gives."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

Features = Tensor | tuple[Tensor, ...]
T = TypeVar("T")


def tensors_of(features: Features) -> tuple[Tensor, ...]:
    """Return the tensors that cross, each (N, …)."""
    return features if isinstance(features, tuple) else (features,)


def like(features: Features, tensors: Sequence[Tensor]) -> Features:
    """Put tensors together as these features are: one alone, several in a tuple."""
    return tuple(tensors) if isinstance(features, tuple) else tensors[0]


def flat(parts: tuple[T, ...]) -> Any:
    """Take what there is one of for each tensor that crosses: one alone as it is, several as they are."""
    return parts if len(parts) > 1 else parts[0]


def to_arrays(batch: T) -> Any:
    """Turn tensors into float32 arrays."""
    return tree_map(lambda tensor: tensor.float().cpu().numpy(), batch)


def to_tensors(batch: Any) -> Any:
    """Turn arrays into tensors that share their memory."""
    return tree_map(torch.from_numpy, batch)


def unbind(batch: Any) -> list[Any]:
    """Take a batch of arrays or tensors apart into its images, without the batch's dimension."""
    return [tree_map(lambda one, place=index: one[place], batch) for index in range(num_images(batch))]


def stack(images: Sequence[Any]) -> Any:
    """Put the arrays of images together to a batch."""
    return tree_map(lambda *arrays: np.stack(arrays), *images)


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


def elements_of(shape: Any) -> int:
    """Count the elements of a shape, or of a tuple of shapes."""
    return sum(map(elements_of, shape)) if shape and not isinstance(shape[0], int) else math.prod(shape)


def all_finite(batch: Any) -> bool:
    """Return whether every element is a finite number."""
    return all(bool(tensor.isfinite().all()) for tensor in tree_leaves(batch))
