"""Codecs that need no training: what a user would otherwise reach for, one a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING

from bottlenecks.errors import UsageError, closest

if TYPE_CHECKING:
    from bottlenecks.baselines.base import Baseline, Calibration

Factory = Callable[["Calibration"], "list[Baseline]"]

_MODULES = {
    "lightweight.codec": ("lightweight", "lightweight_uniform", "lightweight_model", "lightweight_static"),
    "hevc": ("hevc", "hevc10"),
    "vvc": ("vvc",),
    "uniform": ("uniform",),
    "jpeg": ("jpeg",),
    "webp": ("webp",),
    "av1": ("av1",),
    "hevc_image": ("hevc_image",),
    "png": ("png",),
    "learned": (
        "bmshj2018_factorized",
        "bmshj2018_hyperprior",
        "mbt2018_mean",
        "mbt2018",
        "cheng2020_anchor",
        "cheng2020_attn",
    ),
}  # under this package: the codecs whose factories are there under their own names
_OF_FEATURES = ("lightweight.codec", "hevc", "vvc", "uniform")


def _make(module: str, name: str, calibration: Calibration) -> list[Baseline]:
    """Import a codec when it is asked for, and no other one: each needs other packages."""
    make = getattr(import_module(f"{__name__}.{module}"), name)
    if module in _OF_FEATURES:
        make = partial(import_module(f"{__name__}.features").make_framed, make)
    made: list[Baseline] = make(calibration)
    return made


BASELINES: Mapping[str, Factory] = MappingProxyType(
    {name: partial(_make, module, name) for module, names in _MODULES.items() for name in names}
)


def make_baselines(name: str, calibration: Calibration) -> list[Baseline]:
    """Make a codec's operating points.

    Args:
        name: a key of `BASELINES`.
        calibration: what the codec may look at to find its settings.

    Returns:
        Codecs, from few bytes to many; none where the codec's weights are not at hand.

    Raises:
        UsageError: there is no such codec, or a package that it needs is not installed.
    """
    if name not in BASELINES:
        raise UsageError(f"codec {name}: unknown; did you mean {closest(name, list(BASELINES))}?")
    return BASELINES[name](calibration)
