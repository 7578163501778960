"""Which structures a transform unit may have: those within the caps, or as given."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch

from bottlenecks.errors import UsageError
from bottlenecks.shapes import Size
from bottlenecks.splitting.cut import SplitNetwork
from bottlenecks.splitting.macs import count_macs
from bottlenecks.training.structure import LARGEST_BLOCK, Candidate
from bottlenecks.units.restorer import FEW_CHANNELS
from bottlenecks.units.settings import MOST_RANK, TransformSettings

ALWAYS_BYTES, ALWAYS_MACS = 2**16, 2**22  # that a unit may take, however small the network is
RESTORER_WIDTH, RESTORER_WIDTH_FEW = 192, 96


class Caps(NamedTuple):
    """What a unit may take at the most: bytes of a rate, and multiply-accumulates of its encoder."""

    num_bytes: float
    macs: float


def list_candidates(network: SplitNetwork, settings: TransformSettings, image_shape: Sequence[int]) -> list[Candidate]:
    """List the structures that are within the caps, or as given.

    Raises:
        UsageError: what is given does not fit the features.
    """
    shapes = [tensor.shape for tensor in network.crossing]
    image = torch.zeros(1, *image_shape, device=next(network.parameters()).device)
    caps = Caps(
        max(ALWAYS_BYTES, settings.max_bytes * 4 * sum(one.numel() for one in network.parameters())),
        max(ALWAYS_MACS, settings.max_macs * count_macs(network.head, image)),
    )
    found = list[Candidate]()
    if settings.structure != "joint":
        sides = [settings.block] if settings.block else [1, 4, 8, LARGEST_BLOCK]
        blocks = dict.fromkeys(tuple(_fitting_block(shape, side) for shape in shapes) for side in sides)
        found += [_separable(shapes, own, caps, settings.rank) for own in blocks]
    if settings.structure != "separable":
        whole = max(max(shape[1:]) for shape in shapes)
        sides = [settings.block] if settings.block else [whole] if settings.hidden else [whole, 8, 4]
        filling = [own for own in dict.fromkeys(_joint_blocks(shapes, side) for side in sides) if _fill(own, shapes)]
        if settings.structure == "joint" and not filling:
            maps = " and ".join(f"{shape[1]}x{shape[2]}" for shape in shapes)
            raise UsageError(
                f"unit.block={settings.block}: blocks of a joint transform have to fill the features, which are "
                f"{maps}; give a divisor of both sides, or take unit.structure=separable"
            )
        for own in filling:
            found += _joint(shapes, own, caps, settings.rank)
        if not found:
            raise UsageError(
                "unit.structure=joint: one projection alone is larger than unit.max_bytes or unit.max_macs allow; "
                "raise them, or take unit.structure=separable"
            )
    return found if settings.rounding is None else [replace(one, rounding=settings.rounding) for one in found]


def _joint(
    shapes: Sequence[tuple[int, ...]], blocks: tuple[Size, ...], caps: Caps, rank: int | None
) -> list[Candidate]:
    """Project blocks on as many directions as the caps allow; none where that is not one for each tensor.

    A tensor's share goes by the root of its block's size: directions of few elements take little, and say little.
    """
    sizes = [shape[0] * math.prod(block) for shape, block in zip(shapes, blocks, strict=True)]
    shares = [math.sqrt(size) / sum(map(math.sqrt, sizes)) for size in sizes]
    most = [
        int(min(share * caps.num_bytes / (4 * size) - 0.5, share * caps.macs / math.prod(shape)))
        for share, size, shape in zip(shares, sizes, shapes, strict=True)
    ]
    ranks = tuple(min(rank or own, MOST_RANK, size) for own, size in zip(most, sizes, strict=True))
    return [Candidate("joint", ranks, blocks)] if min(*most, *ranks) > 0 else []


def _separable(shapes: Sequence[tuple[int, ...]], blocks: tuple[int, ...], caps: Caps, rank: int | None) -> Candidate:
    """Take as many channels as the caps allow, in the same share of each tensor's."""
    own_bytes = sum(shape[0] * (4 * shape[0] + 6 * block**2) for shape, block in zip(shapes, blocks, strict=True))
    own_macs = sum(shape[0] * math.prod(shape[1:]) * (shape[0] + shape[1] + shape[2]) for shape in shapes)
    share = min(1.0, caps.num_bytes / own_bytes, caps.macs / own_macs)
    ranks = tuple(min(shape[0], rank or max(1, int(share * shape[0]))) for shape in shapes)
    return Candidate("separable", ranks, tuple((block, block) for block in blocks))


def _fitting_block(shape: Sequence[int], side: int) -> int:
    """Return the smallest block that cuts the longer side of a map into as many as blocks of `side` would."""
    longest = max(shape[1:])
    return math.ceil(longest / math.ceil(longest / side))


def _joint_blocks(shapes: Sequence[tuple[int, ...]], side: int) -> tuple[Size, ...]:
    """Return such blocks of every tensor, (height, width), no longer than its map either way."""
    fitting = [_fitting_block(shape, side) for shape in shapes]
    return tuple((min(own, shape[1]), min(own, shape[2])) for own, shape in zip(fitting, shapes, strict=True))


def _fill(blocks: tuple[Size, ...], shapes: Sequence[tuple[int, ...]]) -> bool:
    """Return whether every map is a whole number of its blocks."""
    return not any(shape[1] % height or shape[2] % width for (height, width), shape in zip(blocks, shapes, strict=True))


def restorer_widths(network: SplitNetwork, settings: TransformSettings) -> list[int]:
    """Return the width of each tensor's restoring network."""
    if settings.restorer is not None:
        return [settings.restorer] * len(network.crossing)
    few = [tensor.shape[0] <= FEW_CHANNELS for tensor in network.crossing]
    return [RESTORER_WIDTH_FEW if own else RESTORER_WIDTH for own in few]
