"""Orthonormal cosine transforms on blocks of an axis of any length."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor


def block_lengths(length: int, block: int) -> list[int]:
    """Cut an axis into the fewest blocks of at most `block` positions, as equal as can be."""
    count = -(-length // block)
    return [length // count + (index < length % count) for index in range(count)]


def cosine_matrix(length: int) -> Tensor:
    """Return the orthonormal DCT-II of an axis, (length, length) float64, a frequency a row."""
    frequency = torch.arange(length, dtype=torch.float64)[:, None]
    place = torch.arange(length, dtype=torch.float64) + 0.5
    rows = torch.cos(math.pi / length * frequency * place) * math.sqrt(2 / length)
    rows[0] /= math.sqrt(2)
    return rows


@lru_cache(maxsize=256)
def axis_transform(length: int, block: int) -> tuple[Tensor, Tensor]:
    """Return the transform of an axis that is cut into blocks, each with the DCT of its own length.

    Args:
        length: n, positions of the axis.
        block: most positions of a block.

    Returns:
        The block-diagonal orthonormal matrix, (n, n) float32; and the frequency of each row on the scale of a full
        block, (n,) int64: frequency u of a block of b positions counts as u * block / b, rounded.
    """
    lengths = block_lengths(length, block)
    matrix = torch.block_diag(*(cosine_matrix(own) for own in lengths))
    frequencies = [min(block - 1, round(place * block / own)) for own in lengths for place in range(own)]
    return matrix.float(), torch.tensor(frequencies)
