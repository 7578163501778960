"""How people lay out the folders of a dataset: names of its parts, and what is none of it."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Sequence
from pathlib import Path

from bottlenecks.errors import UsageError

PARTS = ("test", "val")  # to evaluate on, the preferred one first
SPELLINGS = {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test", "testing")}
ENDING = re.compile("[_-](set|data)$")  # as in train_set, training-data
SYSTEM = {  # what macOS, Windows and network disks leave behind; hidden ones are known by their dot
    "desktop.ini",
    "thumbs.db",
    "__macosx",
    "__pycache__",
    "@eadir",
    "@recycle",
    "@recently-snapshot",
    "#recycle",
    "#snapshot",
    "$recycle.bin",
    "system volume information",
    "lost+found",
}


class DatasetNotFoundError(UsageError):
    """There is no usable data where it was looked for; the message names the place and the ways out."""


def visible(path: str) -> bool:
    """Whether a file or folder is neither hidden nor one that systems leave behind."""
    name = os.path.basename(path)
    return not name.startswith(".") and name.casefold() not in SYSTEM


def existing_folder(root: str | None, wanted: str) -> Path:
    """Return the folder that `data.root` names.

    Args:
        root: what the user gave; `~` is understood.
        wanted: what belongs there, for the error.

    Raises:
        DatasetNotFoundError: It does not exist, is no folder, or is empty.
    """
    folder = Path(root or os.devnull).expanduser()
    if not folder.is_dir():
        problem = "not a folder" if folder.exists() else f"no such folder (looked at {folder.absolute()})"
    elif not any(map(visible, os.listdir(folder))):
        problem = "the folder is empty"
    else:
        return folder
    raise DatasetNotFoundError(
        f"data.root={root}: {problem}; data.root=PATH must hold {wanted}; or take other data, as data=digits"
    )


def folders_in(folder: Path) -> list[str]:
    """Return the sorted names of the folders in a folder, those of systems left out."""
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and visible(entry.name))


def parts_in(root: Path) -> set[str]:
    """Return which of `train`, `val` and `test` a folder has, under any spelling; none where there is no folder."""
    names = set(map(_without_ending, folders_in(root))) if root.is_dir() else set()
    return {part for part, spellings in SPELLINGS.items() if not names.isdisjoint(spellings)}


def train_and_test(root: Path, parts: Sequence[str] = PARTS, nested: bool = True) -> tuple[Path, Path | None]:
    """Find out whether a dataset is divided into a folder to train on and one to evaluate on.

    Their names may be spelt as `SPELLINGS` has them, in any case, with an `ENDING` or without. Folders beside them are
    named in a warning.

    Args:
        root: the dataset's folder.
        parts: the folder to evaluate on, the preferred one first.
        nested: parts hold folders; one to train on that holds none is no part where there are folders of other names
            beside it, but a class, such as that of trains.

    Returns:
        The folder to train on and the one to evaluate on; `root` itself and None where it is not divided.

    Raises:
        DatasetNotFoundError: There is a folder to evaluate on but none to train on, or one is there twice.
    """
    folders = folders_in(root)
    found = {part: _named(root, part, folders) for part in ("train", *parts)}
    train, evaluated = found["train"], [name for part in parts if (name := found[part])]
    others = [name for name in folders if name not in found.values()]
    if train and nested and others and not folders_in(root / train):
        return root, None
    if train is None and evaluated:
        raise DatasetNotFoundError(
            f"data.root={root}: has {evaluated[0]}/ but no train/; data.root={root / evaluated[0]} divides that one"
        )
    if train is None:
        return root, None
    if unused := [*evaluated[1:], *others]:
        use = (
            f"evaluated on {evaluated[0]}/" if evaluated else f"divided {train}/, there is no {' and no '.join(parts)}"
        )
        verb = "is" if len(unused) == 1 else "are"
        named = ", ".join(f"{name}/" for name in unused)
        warnings.warn(f"data.root={root}: {use}; {named} {verb} not used", stacklevel=2)
    return root / train, root / evaluated[0] if evaluated else None


def _without_ending(name: str) -> str:
    return ENDING.sub("", name.casefold())


def _named(root: Path, part: str, folders: Sequence[str]) -> str | None:
    found = [name for name in folders if _without_ending(name) in SPELLINGS[part]]
    if len(found) > 1:
        raise DatasetNotFoundError(f"data.root={root}: both {found[0]}/ and {found[1]}/ are there; keep one of them")
    return found[0] if found else None
