"""The unit that a configuration names, and what it is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from bottlenecks.errors import UsageError, check_number
from bottlenecks.units import check_architecture

STRUCTURES = ("separable", "joint")  # of a transform unit
MOST_RANK = 64  # directions of a joint transform


@dataclass(frozen=True)
class TransformSettings:
    """The settings of `unit` for `transform`, checked; None is for what is chosen by measurement.

    Attributes:
        structure: `separable` or `joint`.
        block: positions of a transform's block, a side.
        rank: channels of the latent.
        rounding: the quantiser's offset.
        restorer: width of the restoring network, 0 for none.
        hidden: width of the layer that makes a joint transform's encoder nonlinear, 0 for none.
        max_bytes: share of the network's parameters, at 32 bits, that a rate may take without its restoring network.
        max_macs: share of the head's work that the encoder may take.
    """

    structure: str | None
    block: int | None
    rank: int | None
    rounding: float | None
    restorer: int | None
    hidden: int | None
    max_bytes: float
    max_macs: float

    @classmethod
    def of(cls, unit: Mapping[str, Any]) -> TransformSettings:
        """Read and check the settings.

        Raises:
            UsageError: one cannot be used.
        """
        names = ("structure", "block", "rank", "rounding", "restorer", "hidden", "max_bytes", "max_macs")
        unknown = set(unit) - {"name", "architecture", "range", *names}
        if unknown:
            raise UsageError(f"unit.{min(unknown)}: no such setting of this unit; there are {', '.join(names)}")
        chosen: dict[str, Any] = {name: unit.get(name) for name in names}
        settings = cls(**chosen)
        if settings.structure not in (None, *STRUCTURES):
            raise UsageError(f"unit.structure={settings.structure}: expected {', '.join(STRUCTURES)}, or null")
        for name, least in (("block", 1), ("rank", 1), ("restorer", 0), ("hidden", 0)):
            if getattr(settings, name) is not None:
                check_number(f"unit.{name}", getattr(settings, name), least, whole=True)
        if settings.rounding is not None and not 0 < settings.rounding <= 0.5:
            raise UsageError(f"unit.rounding={settings.rounding}: expected a number above 0, and 0.5 at the most")
        if settings.hidden and settings.structure != "joint":
            raise UsageError(f"unit.hidden={settings.hidden}: a hidden layer needs unit.structure=joint")
        if settings.hidden and settings.block is not None:
            raise UsageError(f"unit.block={settings.block}: a hidden layer takes whole maps; leave it out")
        if settings.structure == "joint" and (settings.rank or 0) > MOST_RANK:
            raise UsageError(
                f"unit.rank={settings.rank}: a joint transform has {MOST_RANK} channels at the most; give fewer, or "
                "unit.structure=separable"
            )
        for name in ("max_bytes", "max_macs"):
            check_number(f"unit.{name}", getattr(settings, name))
        return settings


def check_factorized(
    latent_channels: Any = 64,
    stride: Any = 2,
    kernel_size: Any = 3,
    activation: Any = "none",
    init_scale: Any = 10.0,
) -> None:
    """Refuse what a factorized unit cannot be built with.

    Raises:
        UsageError: one cannot be used.
    """
    for name, value in (("latent_channels", latent_channels), ("stride", stride), ("kernel_size", kernel_size)):
        check_number(f"unit.{name}", value, 1, whole=True)
    if kernel_size % 2 == 0 or kernel_size < stride:
        raise UsageError(
            f"unit.kernel_size={kernel_size}: expected an odd number of at least unit.stride={stride}, "
            "so that every position of the features is seen"
        )
    if activation not in ("relu", "none"):
        raise UsageError(f"unit.activation={activation}: expected relu or none")
    _check_above_zero("unit.init_scale", init_scale)


def check_spic(latent_channels: Any = 64, stride: Any = 2, step: Any = 1.0) -> None:
    """Refuse what a spic unit cannot be built with.

    Raises:
        UsageError: one cannot be used.
    """
    check_number("unit.latent_channels", latent_channels, 1, whole=True)
    check_number("unit.stride", stride, 1, whole=True)
    _check_above_zero("unit.step", step)


def _check_above_zero(argument: str, value: Any) -> None:
    check_number(argument, value)
    if value == 0:
        raise UsageError(f"{argument}={value}: expected a number above 0")


_CHECKS: Mapping[str, Callable[..., Any]] = {
    "transform": lambda **given: TransformSettings.of(given),
    "factorized": check_factorized,
    "spic": check_spic,
}  # by architecture; a unit that has none here refuses what it is given when it is built


def check_unit(unit: Mapping[str, Any]) -> None:
    """Refuse a unit that there is not, or that cannot be built with what it is given.

    Args:
        unit: `architecture`, and the arguments that the configuration gives.

    Raises:
        UsageError: it cannot be used.
    """
    architecture = unit["architecture"]
    check_architecture(architecture)
    given = {key: value for key, value in unit.items() if key not in ("name", "architecture")}
    if architecture in _CHECKS:
        try:
            _CHECKS[architecture](**given)
        except TypeError as error:
            raise UsageError(f"unit: {architecture} was given {given} ({error})") from None
