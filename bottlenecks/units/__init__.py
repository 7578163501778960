"""The trainable units: one architecture a file, each a `Bottleneck`.

They, and torch with them, are imported when one is made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from bottlenecks.errors import UsageError, closest
from bottlenecks.lazy import importer

if TYPE_CHECKING:
    from bottlenecks.units.base import Bottleneck as Bottleneck
    from bottlenecks.units.base import UnitOutput as UnitOutput
    from bottlenecks.units.factorized import FactorizedUnit as FactorizedUnit
    from bottlenecks.units.joint import JointUnit as JointUnit
    from bottlenecks.units.single import BottleneckUnit as BottleneckUnit
    from bottlenecks.units.spic import SpicUnit as SpicUnit
    from bottlenecks.units.transform import TransformUnit as TransformUnit

    Factory = Callable[..., Bottleneck]

_CLASSES = {"transform": "TransformUnit", "factorized": "FactorizedUnit", "spic": "SpicUnit", "joint": "JointUnit"}

__getattr__ = importer(
    __name__,
    {
        **dict.fromkeys(("Bottleneck", "UnitOutput"), "base"),
        "BottleneckUnit": "single",
        **{own: module for module, own in _CLASSES.items()},
    },
)


def _make(module: str, **config: Any) -> Bottleneck:
    unit: Bottleneck = getattr(import_module(f"{__name__}.{module}"), _CLASSES[module])(**config)
    return unit


SINGLE = ("factorized", "spic")  # one for each tensor
UNITS: dict[str, Factory] = {name: partial(_make, name) for name in ("transform", *SINGLE)}
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
        config: its constructor's arguments; or `parts`, such arguments for each of several tensors.

    Raises:
        UsageError: an unknown architecture, or an argument it does not take.
    """
    check_architecture(architecture)
    try:
        if architecture in SINGLE and "parts" in config:
            return _make("joint", units=[UNITS[architecture](**part) for part in config["parts"]])
        return UNITS[architecture](**config)
    except TypeError as error:
        raise UsageError(f"unit: {architecture} was given {dict(config)} ({error})") from None
