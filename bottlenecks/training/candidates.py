"""Which structures a transform unit may have: those within the caps, or as given."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from bottlenecks.errors import UsageError
from bottlenecks.splitting.cut import SplitNetwork
from bottlenecks.splitting.macs import count_macs
from bottlenecks.training.structure import LARGEST_BLOCK, Candidate
from bottlenecks.units.restorer import FEW_CHANNELS
from bottlenecks.units.settings import MOST_RANK, TransformSettings

ALWAYS_BYTES, ALWAYS_MACS = 2**16, 2**22  # that a unit may take, however small the network is
RESTORER_WIDTH, RESTORER_WIDTH_FEW = 192, 96


def list_candidates(network: SplitNetwork, settings: TransformSettings, image_shape: Sequence[int]) -> list[Candidate]:
    """List the structures that are within the caps, or as given.

    Raises:
        UsageError: what is given does not fit the features.
    """
    shapes = [tensor.shape for tensor in network.crossing]
    image = torch.zeros(1, *image_shape, device=next(network.parameters()).device)
    num_bytes = max(ALWAYS_BYTES, settings.max_bytes * 4 * sum(one.numel() for one in network.parameters()))
    macs = max(ALWAYS_MACS, settings.max_macs * count_macs(network.head, image))
    rounding = 0.5 if settings.rounding is None else settings.rounding
    found = []
    if settings.structure != "joint":
        sides = [settings.block] if settings.block else [1, 4, 8, LARGEST_BLOCK]
        blocks = dict.fromkeys(tuple(_fitting_block(shape, side) for shape in shapes) for side in sides)
        found += [_separable(shapes, own, num_bytes, macs, settings.rank, rounding) for own in blocks]
    if settings.structure == "joint" or (settings.structure is None and settings.block is None):
        found += _joint(shapes, num_bytes, macs, settings.rank, rounding)
        if not found:
            raise UsageError(
                "unit.structure=joint: one projection alone is larger than unit.max_bytes or unit.max_macs allow; "
                "raise them, or take unit.structure=separable"
            )
    return found


def _joint(
    shapes: Sequence[tuple[int, ...]], num_bytes: float, macs: float, rank: int | None, rounding: float
) -> list[Candidate]:
    """Project whole maps on as many directions as the caps allow; none where that is not one for each tensor."""
    sizes = [math.prod(shape) for shape in shapes]
    most = [int(min(num_bytes / len(shapes) / (4 * size) - 0.5, macs / len(shapes) / size)) for size in sizes]
    ranks = tuple(min(rank or own, MOST_RANK, size) for own, size in zip(most, sizes, strict=True))
    blocks = tuple((shape[1], shape[2]) for shape in shapes)
    return [Candidate("joint", ranks, blocks, rounding)] if min(*most, *ranks) > 0 else []


def _separable(
    shapes: Sequence[tuple[int, ...]],
    blocks: tuple[int, ...],
    num_bytes: float,
    macs: float,
    rank: int | None,
    rounding: float,
) -> Candidate:
    """Take as many channels as the caps allow, in the same share of each tensor's."""
    own_bytes = sum(shape[0] * (4 * shape[0] + 6 * block**2) for shape, block in zip(shapes, blocks, strict=True))
    own_macs = sum(shape[0] * math.prod(shape[1:]) * (shape[0] + shape[1] + shape[2]) for shape in shapes)
    share = min(1.0, num_bytes / own_bytes, macs / own_macs)
    ranks = tuple(min(shape[0], rank or max(1, int(share * shape[0]))) for shape in shapes)
    return Candidate("separable", ranks, tuple((block, block) for block in blocks), rounding)


def _fitting_block(shape: Sequence[int], side: int) -> int:
    """Return the smallest block that cuts the longer side of a map into as many as blocks of `side` would."""
    longest = max(shape[1:])
    return math.ceil(longest / math.ceil(longest / side))


def restorer_widths(network: SplitNetwork, settings: TransformSettings) -> list[int]:
    """Return the width of each tensor's restoring network."""
    if settings.restorer is not None:
        return [settings.restorer] * len(network.crossing)
    few = [tensor.shape[0] <= FEW_CHANNELS for tensor in network.crossing]
    return [RESTORER_WIDTH_FEW if own else RESTORER_WIDTH for own in few]
