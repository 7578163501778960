"""The trainable units: one architecture a file, each a `Bottleneck`.

They, and torch with them, are imported when one is made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from bottlenecks.errors import UsageError, closest
from bottlenecks.lazy import importer

if TYPE_CHECKING:
    from bottlenecks.units.base import Bottleneck as Bottleneck
    from bottlenecks.units.base import UnitOutput as UnitOutput
    from bottlenecks.units.channel_part import ChannelPart as ChannelPart
    from bottlenecks.units.channels import ChannelUnit as ChannelUnit
    from bottlenecks.units.factorized import FactorizedPart as FactorizedPart
    from bottlenecks.units.spic import SpicPart as SpicPart
    from bottlenecks.units.transform import TransformUnit as TransformUnit

    Factory = Callable[..., Bottleneck]

_PARTS = {"factorized": "FactorizedPart", "spic": "SpicPart"}  # of units with a table for each channel
_MODULES = {
    "Bottleneck": "base",
    "UnitOutput": "base",
    "ChannelPart": "channel_part",
    "ChannelUnit": "channels",
    "TransformUnit": "transform",
    **{own: module for module, own in _PARTS.items()},
}

__getattr__ = importer(__name__, _MODULES)


def _transform(**config: Any) -> Bottleneck:
    from bottlenecks.units.transform import TransformUnit

    return TransformUnit(**config)


def _channels(name: str, parts: Sequence[Mapping[str, Any]] | None = None, **alone: Any) -> Bottleneck:
    from bottlenecks.units.channels import ChannelUnit

    return ChannelUnit([__getattr__(name)(**part) for part in parts or [alone]])


UNITS: dict[str, Factory] = {
    "transform": _transform,
    **{architecture: partial(_channels, name) for architecture, name in _PARTS.items()},
}
DEFAULT_UNIT = "transform"


def check_architecture(architecture: object) -> None:
    """Refuse an architecture that there is not.

    Raises:
        UsageError: there is none of this name.
    """
    if architecture not in [*UNITS]:
        known = closest(str(architecture), [*UNITS])
        raise UsageError(f"unit.architecture={architecture}: no such unit; there are {known}")


def make_unit(architecture: str, config: Mapping[str, Any]) -> Bottleneck:
    """Build a unit with fresh weights.

    Args:
        architecture: one of `UNITS`.
        config: `parts`, the arguments of the part for each tensor; or those of a single one, where an architecture has
            a table for each channel.

    Raises:
        UsageError: an unknown architecture, or an argument it does not take.
    """
    check_architecture(architecture)
    try:
        return UNITS[architecture](**config)
    except TypeError as error:
        raise UsageError(f"unit: {architecture} was given {dict(config)} ({error})") from None
