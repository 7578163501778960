"""Units with a table for each latent channel: a part for each tensor that crosses, all coded into one frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from bottlenecks.coding.coder import Coder, SymbolTables
from bottlenecks.coding.framing import Framing
from bottlenecks.shapes import Sizes, sizes_of
from bottlenecks.units.base import MAX_SCALE, Bottleneck
from bottlenecks.units.channel_part import ChannelPart

FIRST = "units.0."  # in the names of a first part's state, which files leave out where there is no second


class ChannelUnit(Bottleneck):
    """One part for each tensor that crosses a cut, such as the taps of a feature pyramid before it.

    They share one loss, so that how the bits are divided between the tensors is learned. A single one stands in files
    without a number: its configuration, and the names of its state.

    Args:
        parts: in the order of the tensors.
    """

    def __init__(self, parts: Sequence[ChannelPart]) -> None:
        super().__init__()
        self.units = nn.ModuleList(parts)
        if len(parts) == 1:
            self.register_state_dict_post_hook(_without_number)
            self.register_load_state_dict_pre_hook(_with_number)

    @property
    def parts(self) -> list[ChannelPart]:
        """The parts, one for each tensor that crosses."""
        return [*self.units]

    def config(self) -> dict[str, Any]:
        """Return the arguments of the part's constructor; of several, those of each."""
        configs = [part.config() for part in self.parts]
        return configs[0] if len(configs) == 1 else {"parts": configs}

    def finalise(self, tables: Sequence[SymbolTables] | None = None) -> None:
        """Make each part ready for bytes.

        Raises:
            ValueError: tables have another number of channels than the latent.
        """
        own = [part.build_tables() for part in self.parts] if tables is None else tables
        for part, one in zip(self.parts, own, strict=True):
            part.settle(one)
        size = sizes_of(self.feature_shape)
        self._framing = Framing([Coder(one) for one in own], size, self.latent_size, MAX_SCALE)
        self.eval()

    def latent_size(self, size: Sizes) -> Sizes:
        """Return each latent's (h, w) for features of a size."""
        return tuple(part.latent_size(one) for part, one in zip(self.parts, size, strict=True))


def _without_number(unit: nn.Module, state: dict[str, Tensor], prefix: str, metadata: Any) -> None:
    for name in [name for name in state if name.startswith(prefix + FIRST)]:
        state[prefix + name.removeprefix(prefix + FIRST)] = state.pop(name)


def _with_number(unit: nn.Module, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
    for name in [name for name in state if name.startswith(prefix)]:
        state[prefix + FIRST + name.removeprefix(prefix)] = state.pop(name)
