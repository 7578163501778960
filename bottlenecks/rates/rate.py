"""One operating point, and its file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from bottlenecks.coding.coder import SymbolTables
from bottlenecks.coding.rate_range import finest_within
from bottlenecks.errors import UsageError
from bottlenecks.rates.info import RateInfo
from bottlenecks.rates.places import CheckpointError, rate_name, text_of
from bottlenecks.splitting.features import Features
from bottlenecks.tensor_files import fingerprint, read_safetensors, write_safetensors
from bottlenecks.units import Bottleneck, make_unit

TABLES = ("frequencies", "lengths", "offsets")


@dataclass(frozen=True)
class Rate:
    """One operating point: a unit that is ready for bytes, and what is known of it.

    Attributes:
        unit: in eval mode, with tables.
        info: what its file says.
        folder: of its file, where it has one; a backbone's file is given relative to it.
        chosen: lambda within the range of a unit of any rate; None for its highest.
    """

    unit: Bottleneck
    info: RateInfo
    folder: Path = Path()
    chosen: float | None = None

    @property
    def lmbda(self) -> float:
        """The lambda that the rate is for."""
        own = self.info.lmbda
        return own if isinstance(own, float) else self.chosen or own[-1]

    @property
    def multiplier(self) -> int:
        """The multiplier of the unit's steps, 0 for a unit of one rate."""
        return 0 if self.unit.range is None else self.unit.range.multiplier(self.lmbda)

    def at(self, lmbda: float) -> Rate:
        """Return another rate of a unit of any rate.

        Raises:
            UsageError: it is outside of the range.
        """
        assert self.unit.range is not None
        self.unit.range.multiplier(lmbda)
        return replace(self, chosen=lmbda)

    def at_multiplier(self, multiplier: int) -> Rate:
        """Return the rate of a frame with this multiplier."""
        return self if self.unit.range is None else self.at(self.unit.range.lmbda(multiplier))

    def compress(self, features: Features, cuttable: bool = False) -> list[bytes]:
        """Code features at this rate."""
        return self.unit.compress(features, self.multiplier, cuttable)

    def compress_within(self, features: Features, budget_bytes: int) -> tuple[Rate, bytes]:
        """Code one image's features at the finest of the unit's rates whose frame fits, or at its coarsest."""
        rates = self.unit.range
        ends = (0, 0) if rates is None else (rates.lowest, rates.highest)
        multiplier, frame = finest_within(*ends, lambda one: self.unit.compress(features, one)[0], budget_bytes)
        return self.at_multiplier(multiplier), frame


def save_rate(path: Path, rate: Rate) -> None:
    """Write a rate, all or nothing."""
    tensors = {f"unit.{name}": tensor for name, tensor in rate.unit.stored_state().items()}
    for prefix, tables in zip(_table_names(len(rate.unit.tables)), rate.unit.tables, strict=True):
        tensors |= {prefix + name: torch.tensor(getattr(tables, name)) for name in TABLES}
    write_safetensors(path, tensors, {**rate.info.to_metadata(), "tensors": fingerprint(tensors)})


def read_info(path: Path) -> RateInfo:
    """Read what a rate checkpoint says of itself."""
    return _read(path)[1]


def load_rate(path: Path) -> Rate:
    """Read a rate: the unit in eval mode with its weights and tables.

    Raises:
        CheckpointError: damaged, of another version, or inconsistent.
    """
    tensors, info = _read(path)
    try:
        unit = make_unit(info.unit["architecture"], info.unit["config"])
        unit.load_state_dict(_with_prefix(tensors, "unit."))
        names = _table_names(sum(name.startswith("tables.") for name in tensors) // len(TABLES))
        unit.finalise([SymbolTables(**{name: tensors[own + name].numpy() for name in TABLES}) for own in names])
        if unit.range is not None and text_of(info.lmbda) != str(unit.range):
            raise ValueError(f"{rate_name(info.lmbda)}, and a range of {unit.range}")
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{path}: weights and description do not fit each other ({reason})") from None
    return Rate(unit.eval(), info, path.parent)


def _read(path: Path) -> tuple[dict[str, Tensor], RateInfo]:
    try:
        tensors, metadata = read_safetensors(path)
    except UsageError as error:
        raise CheckpointError(str(error)) from None
    written = metadata.pop("tensors", None)
    info = RateInfo.from_metadata(metadata, path)
    if written != fingerprint(tensors):
        raise CheckpointError(f"{path}: damaged, its tensors are not those that were written; train the rate anew")
    return tensors, info


def _table_names(count: int) -> list[str]:
    """Return under which names a unit's tables lie: of several each has its number."""
    return ["tables."] if count == 1 else [f"tables.{index}." for index in range(count)]


def _with_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
