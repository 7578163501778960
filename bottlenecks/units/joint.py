"""Several tensors at one cut: one unit each, trained together, coded into one frame."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Generator, Tensor, nn

from bottlenecks.coding.coder import Int32Array, SymbolTables
from bottlenecks.coding.framing import JointFraming, Sizes
from bottlenecks.units.base import Bottleneck
from bottlenecks.units.single import BottleneckUnit

Tensors = tuple[Tensor, ...]


class JointUnit(Bottleneck):
    """One unit for each tensor that crosses a cut, such as the taps of a feature pyramid before it.

    They share one loss, so that how the bits are divided between the tensors is learned.

    Args:
        units: in the order of the tensors.
    """

    def __init__(self, units: Sequence[BottleneckUnit]) -> None:
        super().__init__()
        self.units = nn.ModuleList(units)
        self.feature_shape = tuple(unit.feature_shape for unit in units)
        self._framing: JointFraming | None = None

    @property
    def parts(self) -> list[BottleneckUnit]:
        """The units, one for each tensor that crosses."""
        return [*self.units]

    def config(self) -> dict[str, Any]:
        """Return the arguments of each unit's constructor."""
        return {"parts": [unit.config() for unit in self.parts]}

    def encode(self, features: Tensors) -> Tensors:
        """Turn each tensor (N, C, H, W) into a latent (N, K, h, w)."""
        return tuple(unit.encode(one) for unit, one in zip(self.parts, features, strict=True))

    def quantise(self, y: Tensors, generator: Generator | None = None) -> tuple[Tensors, Tensor]:
        """Turn latents into `y_hat` and the sum of their bits (N,)."""
        quantised = [unit.quantise(one, generator) for unit, one in zip(self.parts, y, strict=True)]
        return tuple(y_hat for y_hat, _ in quantised), torch.stack([bits for _, bits in quantised]).sum(0)

    def decode(self, y_hat: Tensors, size: Sizes) -> Tensors:
        """Turn each `y_hat` into features (N, C, H, W)."""
        return tuple(unit.decode(one, own) for unit, one, own in zip(self.parts, y_hat, size, strict=True))

    def size_of(self, features: Tensors) -> Sizes:
        """Return (H, W) of each tensor."""
        return tuple(unit.size_of(one) for unit, one in zip(self.parts, features, strict=True))

    def start_from(self, features: Tensors) -> None:
        """Begin each unit from its tensor's sample."""
        for unit, one in zip(self.parts, features, strict=True):
            unit.start_from(one)

    def bits_per_channel(self, features: Tensors) -> Tensor:
        """Return those of the units one after the other, (sum of K,)."""
        return torch.cat([unit.bits_per_channel(one) for unit, one in zip(self.parts, features, strict=True)])

    def refresh(self) -> None:
        """Refresh each unit."""
        for unit in self.parts:
            unit.refresh()

    def finalise(self, tables: Sequence[SymbolTables] | None = None) -> None:
        """Make each unit ready for bytes."""
        given = [None] * len(self.parts) if tables is None else [(own,) for own in tables]
        for unit, own in zip(self.parts, given, strict=True):
            unit.finalise(own)
        self._framing = JointFraming([unit.framing for unit in self.parts])
        self.eval()

    @property
    def framing(self) -> JointFraming:
        """What turns the symbols of all tensors into one frame and back."""
        if self._framing is None:
            raise RuntimeError("the units have no tables yet; call finalise() after training, or load a checkpoint")
        return self._framing

    @property
    def tables(self) -> tuple[SymbolTables, ...]:
        """The tables of each unit."""
        return tuple(unit.coder.tables for unit in self.parts)

    def symbols(self, features: Tensors) -> Iterator[tuple[Int32Array, ...]]:
        """Quantise features to the symbols that are coded, one (K, h, w) a tensor for each image."""
        return zip(*[unit.symbols(one) for unit, one in zip(self.parts, features, strict=True)], strict=True)

    def restore(self, symbols: Sequence[tuple[Int32Array, ...]], size: Sizes) -> Tensors:
        """Turn the latents of some images back into features."""
        latents = zip(*symbols, strict=True)
        return tuple(unit.restore(one, own) for unit, one, own in zip(self.parts, latents, size, strict=True))
