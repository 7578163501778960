"""Where the rates of a split lie, and which unit each of them holds.

    checkpoints/<model>/<split>/<data>/lambda=0.01.safetensors             of the default unit
    checkpoints/<model>/<split>/<data>/unit=spic/lambda=0.01.safetensors   of another unit, or of a variant

A rate goes by the unit that its file says it holds. A rate of a former default unit in the plain folder is found under
that unit's own name, and a new one is written beside it. No torch: a rate that is not there is told at once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from bottlenecks.console.terminal import say
from bottlenecks.errors import UsageError
from bottlenecks.files import read_metadata
from bottlenecks.rates.manifest import MANIFEST, PATTERN, check_manifest, is_shared
from bottlenecks.units import DEFAULT_UNIT, UNITS

Lmbda = float | tuple[float, float]  # of a rate, or the ends of a unit of any rate

FOLDER = "unit="  # begins the name of a folder of another unit than the default


class CheckpointError(UsageError):
    """A rate checkpoint that is damaged, of another version, or not for this network."""


class NoSuchRateError(CheckpointError, KeyError):
    """A lambda of which there is no rate; a `KeyError`, too, as of other mappings."""

    __str__ = ValueError.__str__


def rate_folder(checkpoints: Path, model: str, split: str, data: str, unit: str) -> Path:
    """Name the folder of a unit's rates; any other than the default unit has one inside the plain folder."""
    folder = checkpoints / model / split / data
    return folder if unit == DEFAULT_UNIT else folder / f"{FOLDER}{unit}"


def text_of(lmbda: float | Sequence[float]) -> str:
    """Write a lambda, or both ends of a range."""
    ends = lmbda if isinstance(lmbda, Sequence) else [lmbda]
    return "..".join(repr(float(end)) for end in ends)


def rate_name(lmbda: float | Sequence[float]) -> str:
    """Name a rate, or a unit of any rate between a lowest and a highest lambda."""
    return f"lambda={text_of(lmbda)}"


def middle_of(lmbda: float | Sequence[float]) -> float:
    """Return a rate's lambda, of a unit of any rate the geometric middle of its ends."""
    return math.sqrt(math.prod(lmbda)) if isinstance(lmbda, Sequence) else lmbda


def rate_path(folder: Path, lmbda: float | Sequence[float]) -> Path:
    """Name the file of a rate, or of a unit of any rate between a lowest and a highest lambda."""
    return folder / f"{rate_name(lmbda)}.safetensors"


def unit_of(path: Path) -> str:
    """Return which unit a rate holds; one that cannot be read counts as its folder's, where the error belongs."""
    try:
        held = read_metadata(path).get("unit_name")
    except UsageError:
        held = None
    own = path.parent.name.removeprefix(FOLDER) if path.parent.name.startswith(FOLDER) else DEFAULT_UNIT
    return held if isinstance(held, str) else own


def units_in(folder: Path) -> list[str]:
    """List the units whose rates lie in a folder."""
    return sorted({unit_of(path) for path in folder.glob(PATTERN)})


def units_around(folder: Path) -> list[str]:
    """List the units that have rates at the split, of which a folder is the plain one or that of one unit."""
    plain = _plain(folder)
    inside = {path.parent.name.removeprefix(FOLDER) for path in plain.glob(f"{FOLDER}*/{PATTERN}")}
    return sorted({*units_in(plain), *inside})


def rates_of(folder: Path, unit: str | None) -> list[Path]:
    """List the rates of a unit, none where there are none.

    A folder that someone made by hand, such as `unit=old`, goes by its own name whatever its rates hold, unless that
    is the name of an architecture.

    Args:
        folder: the plain one, or the unit's own.
        unit: its name; None for the default unit where it has any rates, else for the one that lies in the folder.
    """
    if unit is None:
        lying = units_in(folder)
        return rates_of(folder, DEFAULT_UNIT) or (rates_of(folder, *lying) if len(lying) == 1 else [])
    places = _places(folder, unit)
    held = [path for place in places for path in sorted(place.glob(PATTERN)) if unit_of(path) == unit]
    if held or unit in UNITS:
        return held
    return [path for place in places if place.name == f"{FOLDER}{unit}" for path in sorted(place.glob(PATTERN))]


def find_rates(folder: Path, unit: str | None = None) -> list[Path]:
    """List the files of a ladder; those of one that is shared are first held against its manifest.

    Args:
        folder: of the rates.
        unit: the unit's name; None for the default unit where it has any, else for the one that lies there.

    Raises:
        CheckpointError: there are none, or of several units; the message names those that are there.
        UsageError: files of a shared ladder are not those that were pushed.
    """
    shared = [place for place in (folder, _plain(folder)) if is_shared(place)]
    for place in shared:
        check_manifest(place)
    if paths := rates_of(folder, unit):
        for path in paths if shared else ():
            if path.parent not in shared:  # such as behind a link out of the folder
                raise UsageError(f"{path}: is not among the files that {shared[0] / MANIFEST} lists; move it away")
        return paths
    if there := units_around(folder):
        raise CheckpointError(
            f"{folder}: no rate checkpoints of {unit or 'the default unit'}; there are some of {', '.join(there)}: "
            "choose one with unit=, or train some with train.py"
        )
    raise CheckpointError(f"{folder}: no rate checkpoints ({PATTERN}); train some with train.py")


def place_of(folder: Path, unit: str, lmbda: float | Sequence[float]) -> Path:
    """Return where the rate of a unit lies, or is to be written.

    Args:
        folder: the unit's own, as `rate_folder` names it.
        unit: its name.
        lmbda: of the rate.

    Raises:
        UsageError: rates of other units are in the way.
    """
    paths = [rate_path(place, lmbda) for place in _places(folder, unit)]
    there = [path for path in paths if path.exists()]
    held = [path for path in there if unit_of(path) == unit]
    free = [path for path in paths if path not in there and path.is_relative_to(folder)]
    if not held and not free:
        raise UsageError(
            f"{there[0]}: holds the unit {unit_of(there[0])}; move it away, or give a name, such as unit.name=mine"
        )
    return (held or free)[0]


def say_where(folder: Path, unit: str, lmbda: float | Sequence[float]) -> None:
    """Tell of a rate that is written elsewhere than usual, because another unit's rate lies there."""
    usual, path = rate_path(folder, lmbda), place_of(folder, unit, lmbda)
    if path != usual and not path.exists():
        say(f"{usual} holds the unit {unit_of(usual)} and stays; that of {unit} goes to {path}")


def _plain(folder: Path) -> Path:
    """Return the folder that another unit's own one lies in; other folders as they are."""
    return folder.parent if folder.name.startswith(FOLDER) else folder


def _places(folder: Path, unit: str) -> tuple[Path, Path]:
    """Return the two folders in which the rates of a unit may lie, the given one first."""
    own = f"{FOLDER}{unit}"
    return (folder, folder.parent) if folder.name == own else (folder, folder / own)
