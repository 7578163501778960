"""The trainable units: one architecture a file, each a `Bottleneck`."""

from collections.abc import Mapping
from typing import Any

from bottlenecks.errors import UsageError, closest
from bottlenecks.units.base import Bottleneck, BottleneckUnit, UnitOutput
from bottlenecks.units.factorized import FactorizedUnit
from bottlenecks.units.joint import JointUnit
from bottlenecks.units.spic import SpicUnit
from bottlenecks.units.transform import TransformUnit

SINGLE: dict[str, type[BottleneckUnit]] = {"factorized": FactorizedUnit, "spic": SpicUnit}  # one for each tensor
UNITS: dict[str, type[Bottleneck]] = {"transform": TransformUnit, **SINGLE}
DEFAULT_UNIT = "transform"


def make_unit(architecture: str, config: Mapping[str, Any]) -> Bottleneck:
    """Build a unit with fresh weights.

    Args:
        architecture: one of `UNITS`.
        config: its constructor's arguments; or `parts`, such arguments for each of several tensors.

    Raises:
        UsageError: an unknown architecture, or an argument it does not take.
    """
    if architecture not in UNITS:
        raise UsageError(f"unit.architecture={architecture}: no such unit; there are {closest(architecture, [*UNITS])}")
    try:
        if architecture in SINGLE and "parts" in config:
            return JointUnit([SINGLE[architecture](**part) for part in config["parts"]])
        return UNITS[architecture](**config)
    except TypeError as error:
        raise UsageError(f"unit: {architecture} was given {dict(config)} ({error})") from None


__all__ = [
    "DEFAULT_UNIT",
    "UNITS",
    "Bottleneck",
    "BottleneckUnit",
    "FactorizedUnit",
    "JointUnit",
    "SpicUnit",
    "TransformUnit",
    "UnitOutput",
    "make_unit",
]
