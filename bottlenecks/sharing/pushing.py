"""Write a ladder as others can load it, into a folder or onto the hub."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from bottlenecks.console.terminal import say
from bottlenecks.errors import UsageError, printable
from bottlenecks.evaluation.curve import Curve
from bottlenecks.files import replacing
from bottlenecks.rates.ladder import Ladder
from bottlenecks.rates.manifest import (
    CARD,
    CURVE,
    FIGURE,
    MANIFEST,
    is_shared,
    read_manifest,
    replaced_by,
    write_manifest,
)
from bottlenecks.rates.places import rate_path
from bottlenecks.rates.rate import Rate, save_rate
from bottlenecks.settings.model import BackboneSpec
from bottlenecks.settings.shared import as_shared
from bottlenecks.sharing.card import card, given_to_load, unit_points
from bottlenecks.sharing.hub import HubName, upload


@dataclass(frozen=True)
class Shared:
    """A ladder and what goes along.

    Attributes:
        ladder: the rates.
        curve: file of their curve, None where they were not evaluated.
        licence: its identifier, None where none is stated.
    """

    ladder: Ladder
    curve: Path | None = None
    licence: str | None = None

    def __post_init__(self) -> None:
        if self.curve is not None:
            check_curve(self.curve, self.ladder)

    @property
    def title(self) -> str:
        """Name the ladder by its network and split."""
        return f"{self.ladder.info.model} at {self.ladder.info.split}"

    @property
    def given(self) -> str:
        """Return what `load` needs beside the place."""
        return given_to_load(BackboneSpec.read(_named(self.ladder.files[-1]).info.backbone, "the rates"))

    def write(self, folder: Path, place: str) -> None:
        """Write rates, curve, card and manifest; the same ladder gives the same bytes.

        Args:
            folder: an empty one.
            place: what `load` is given, for the card.
        """
        rates = [_named(rate) for rate in self.ladder.files]
        paths = [rate_path(folder, rate.info.lmbda) for rate in rates]
        for path, rate in zip(paths, rates, strict=True):
            save_rate(path, rate)
        curve, drawing = None, None
        if self.curve is not None:
            curve, drawing = Curve.read(self.curve), self.curve.with_name(FIGURE)
            shutil.copyfile(self.curve, folder / CURVE)
            if drawing.is_file():
                shutil.copyfile(drawing, folder / FIGURE)
        sizes = {path.name: path.stat().st_size for path in paths}
        text = card(rates[-1].info, sizes, curve, place, self.licence, (folder / FIGURE).exists())
        (folder / CARD).write_text(printable(text), encoding="utf-8")
        write_manifest(folder)


def push_to_folder(shared: Shared, folder: Path, overwrite: bool = False) -> None:
    """Write a ladder into a folder, which is at any moment absent, the old one or the new one.

    Raises:
        UsageError: the folder holds something else.
    """
    with replacing(folder, str(folder), "a ladder that was pushed", _held) as temporary:
        shared.write(temporary, folder.absolute().name)
        if is_shared(folder) and not overwrite and (lost := replaced_by(folder, temporary)):
            raise UsageError(
                f"{folder}: holds {lost}; --overwrite puts this one in its place; or choose another folder"
            )
    say(f"Pushed {shared.title} to {folder}; bottlenecks.load({str(folder)!r}{shared.given}) loads it")


def push_to_hub(shared: Shared, name: HubName, private: bool = False, overwrite: bool = False) -> None:
    """Write a ladder, and put it on the hub in one commit.

    Raises:
        UsageError: the hub cannot be reached or refuses, or the repository holds something else.
    """
    with tempfile.TemporaryDirectory() as temporary:
        shared.write(Path(temporary), str(name))
        commit = upload(Path(temporary), name, f"Units for {shared.title}", private, overwrite)
    load = f"bottlenecks.load('{name}@{commit}'{shared.given})"
    say(f"Pushed {shared.title} to {name} on the hub; {load} loads this very commit")


def check_curve(path: Path, ladder: Ladder) -> None:
    """Refuse a curve that is not of these rates.

    Raises:
        UsageError: it is of another network or split, or lacks a rate, or has one that is not there.
    """
    curve, info = Curve.read(path), ladder.info
    if (curve.model, curve.split) != (info.model, info.split):
        raise UsageError(
            f"{path}: is of {curve.model} at {curve.split}, the rates are of {info.model} at {info.split}; give theirs "
            "with --curve"
        )
    evaluated = {point["lambda"] for point in unit_points(curve, info)}
    strange = sorted(set(ladder) ^ evaluated if not ladder.ranged else {*ladder} - evaluated)
    if strange:
        raise UsageError(
            f"{path}: is not the curve of these rates, lambda={strange[0]!r} is on one side alone; evaluate them with "
            "evaluate.py, or give their curve with --curve"
        )


def _named(rate: Rate) -> Rate:
    """Let a rate say of its network what others can build it from."""
    spec = as_shared(BackboneSpec.read(rate.info.backbone, "the rates"))
    return replace(rate, info=replace(rate.info, backbone=spec.to_dict()))


def _held(folder: Path) -> set[str]:
    """Return the files of a shared ladder that may be replaced."""
    try:
        return {MANIFEST, *read_manifest(folder)} if is_shared(folder) else set()
    except UsageError:
        return set()
