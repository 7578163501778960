"""Which structures a transform unit may have: those within the caps, or as given."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

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


def list_candidates(network: SplitNetwork, settings: TransformSettings, image_shape: Sequence[int]) -> list[Candidate]:
    """List the structures that are within the caps, or as given.

    Raises:
        UsageError: what is given does not fit the features.
    """
    shapes = [tensor.shape for tensor in network.crossing]
    image = torch.zeros(1, *image_shape, device=next(network.parameters()).device)
    num_bytes = max(ALWAYS_BYTES, settings.max_bytes * 4 * sum(one.numel() for one in network.parameters()))
    macs = max(ALWAYS_MACS, settings.max_macs * count_macs(network.head, image))
    caps, found = (num_bytes, macs), list[Candidate]()
    if settings.structure != "joint":
        sides = [settings.block] if settings.block else [1, 4, 8, LARGEST_BLOCK]
        blocks = dict.fromkeys(tuple(_fitting_block(shape, side) for shape in shapes) for side in sides)
        found += [_separable(shapes, own, caps, settings.rank) for own in blocks]
    if settings.structure != "separable":
        whole = max(max(shape[1:]) for shape in shapes)
        sides = [settings.block] if settings.block else [whole] if settings.hidden else [whole, 8, 4]
        for own in dict.fromkeys(tuple(_joint_block(shape, side) for shape in shapes) for side in sides):
            found += _joint(shapes, own, caps, settings.rank)
        if not found:
            unfit = "" if settings.block is None else f", or blocks of unit.block={settings.block} do not fill maps"
            raise UsageError(
                "unit.structure=joint: one projection alone is larger than unit.max_bytes or unit.max_macs "
                f"allow{unfit}; raise them, or take unit.structure=separable"
            )
    return found if settings.rounding is None else [replace(one, rounding=settings.rounding) for one in found]


def _joint(
    shapes: Sequence[tuple[int, ...]], blocks: tuple[Size, ...], caps: tuple[float, float], rank: int | None
) -> list[Candidate]:
    """Project blocks on as many directions as the caps allow; none where they do not fill maps, or one is too much.

    A tensor's share goes by the root of its block's size: directions of few elements take little, and say little.
    """
    if any(shape[axis + 1] % block[axis] for shape, block in zip(shapes, blocks, strict=True) for axis in (0, 1)):
        return []
    sizes = [shape[0] * math.prod(block) for shape, block in zip(shapes, blocks, strict=True)]
    shares = [math.sqrt(size) / sum(map(math.sqrt, sizes)) for size in sizes]
    most = [
        int(min(share * caps[0] / (4 * size) - 0.5, share * caps[1] / math.prod(shape)))
        for share, size, shape in zip(shares, sizes, shapes, strict=True)
    ]
    ranks = tuple(min(rank or own, MOST_RANK, size) for own, size in zip(most, sizes, strict=True))
    return [Candidate("joint", ranks, blocks)] if min(*most, *ranks) > 0 else []


def _separable(
    shapes: Sequence[tuple[int, ...]], blocks: tuple[int, ...], caps: tuple[float, float], rank: int | None
) -> Candidate:
    """Take as many channels as the caps allow, in the same share of each tensor's."""
    own_bytes = sum(shape[0] * (4 * shape[0] + 6 * block**2) for shape, block in zip(shapes, blocks, strict=True))
    own_macs = sum(shape[0] * math.prod(shape[1:]) * (shape[0] + shape[1] + shape[2]) for shape in shapes)
    share = min(1.0, caps[0] / own_bytes, caps[1] / own_macs)
    ranks = tuple(min(shape[0], rank or max(1, int(share * shape[0]))) for shape in shapes)
    return Candidate("separable", ranks, tuple((block, block) for block in blocks))


def _fitting_block(shape: Sequence[int], side: int) -> int:
    """Return the smallest block that cuts the longer side of a map into as many as blocks of `side` would."""
    longest = max(shape[1:])
    return math.ceil(longest / math.ceil(longest / side))


def _joint_block(shape: Sequence[int], side: int) -> Size:
    """Return the same block, no longer than the map on either side."""
    fitting = _fitting_block(shape, side)
    return min(fitting, shape[1]), min(fitting, shape[2])


def restorer_widths(network: SplitNetwork, settings: TransformSettings) -> list[int]:
    """Return the width of each tensor's restoring network."""
    if settings.restorer is not None:
        return [settings.restorer] * len(network.crossing)
    few = [tensor.shape[0] <= FEW_CHANNELS for tensor in network.crossing]
    return [RESTORER_WIDTH_FEW if own else RESTORER_WIDTH for own in few]
