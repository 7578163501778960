"""Which structures a transform unit may have: those within the caps, or as given."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from bottlenecks.errors import UsageError, check_number
from bottlenecks.macs import count_macs
from bottlenecks.split import SplitNetwork
from bottlenecks.training.structure import LARGEST_BLOCK, Candidate
from bottlenecks.units.restorer import FEW_CHANNELS
from bottlenecks.units.transform_part import STRUCTURES

MOST_RANK = 64  # directions of a joint transform
ALWAYS_BYTES, ALWAYS_MACS = 2**16, 2**22  # that a unit may take, however small the network is
RESTORER_WIDTH, RESTORER_WIDTH_FEW = 192, 96


@dataclass(frozen=True)
class TransformSettings:
    """The settings of `unit` for `transform`, checked; None is for what is chosen by measurement.

    Attributes:
        structure: `separable` or `joint`.
        block: positions of a separable transform's block, a side.
        rank: channels of the latent.
        rounding: the quantiser's offset.
        restorer: width of the restoring network, 0 for none.
        max_bytes: share of the network's parameters, at 32 bits, that a rate may take without its restoring network.
        max_macs: share of the head's work that the encoder may take.
    """

    structure: str | None
    block: int | None
    rank: int | None
    rounding: float | None
    restorer: int | None
    max_bytes: float
    max_macs: float

    @classmethod
    def of(cls, unit: Mapping[str, Any]) -> TransformSettings:
        """Read and check the settings.

        Raises:
            UsageError: one cannot be used.
        """
        names = ("structure", "block", "rank", "rounding", "restorer", "max_bytes", "max_macs")
        unknown = set(unit) - {"name", "architecture", "range", *names}
        if unknown:
            raise UsageError(f"unit.{min(unknown)}: no such setting of this unit; there are {', '.join(names)}")
        chosen: dict[str, Any] = {name: unit.get(name) for name in names}
        settings = cls(**chosen)
        if settings.structure not in (None, *STRUCTURES):
            raise UsageError(f"unit.structure={settings.structure}: expected {', '.join(STRUCTURES)}, or null")
        for name, least in (("block", 1), ("rank", 1), ("restorer", 0)):
            if getattr(settings, name) is not None:
                check_number(f"unit.{name}", getattr(settings, name), least, whole=True)
        if settings.rounding is not None and not 0 < settings.rounding <= 0.5:
            raise UsageError(f"unit.rounding={settings.rounding}: expected a number above 0, and 0.5 at the most")
        if settings.structure == "joint" and settings.block is not None:
            raise UsageError(
                f"unit.block={settings.block}: a joint transform takes whole maps; leave it out, or give "
                "unit.structure=separable"
            )
        if settings.structure == "joint" and (settings.rank or 0) > MOST_RANK:
            raise UsageError(
                f"unit.rank={settings.rank}: a joint transform has {MOST_RANK} channels at the most; give fewer, or "
                "unit.structure=separable"
            )
        for name in ("max_bytes", "max_macs"):
            check_number(f"unit.{name}", getattr(settings, name))
        return settings


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
