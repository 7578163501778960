"""Meets every real file once, whatever links lead to it."""

from __future__ import annotations

import os
import warnings
from collections import defaultdict
from pathlib import Path

from bottlenecks.errors import UsageError

from .annotations import Annotations
from .layout import visible
from .source import ImageFiles, shortened

Identity = tuple[int, int]


def files_below(folder: Path) -> list[str]:
    """Return the paths of all files in a folder and the folders in it, sorted; those of systems are left out.

    Links to folders are followed after all else, so that a file is met where it really lies; each folder is entered
    once, and none that the link itself lies in. (torchvision's `make_dataset` follows links without account.)
    """
    files: list[str] = []
    entered: set[Identity | None] = set()
    waiting = [str(folder)]
    for start in waiting:  # grows as links are met
        for parent, folders, names in os.walk(start):
            if (identity := real_identity(parent)) in entered:
                folders.clear()
                continue
            entered.add(identity)
            paths = {name: os.path.join(parent, name) for name in sorted(filter(visible, folders))}
            waiting += [path for path in paths.values() if os.path.islink(path) and not _leads_back(path)]
            folders[:] = [name for name, path in paths.items() if not os.path.islink(path)]
            files += [os.path.join(parent, name) for name in filter(visible, names)]
    return sorted(files)


def real_identity(path: str) -> Identity | None:
    """Tell a file or folder from all others, by whatever path; None where there is nothing."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # names that no file can have
        return None
    return status.st_dev, status.st_ino


def once(files: ImageFiles) -> ImageFiles:
    """Keep each real file once, where it really lies if one of its paths says so; the others are named in a warning.

    Raises:
        UsageError: Links, or hard links, give one file several labels or annotations.
    """
    dropped: list[int] = []
    for indices in _paths_of_each(files).values():
        if len(indices) > 1:
            kept, *others = sorted(indices, key=lambda index: (not _really_there(files, index), index))
            for other in others:
                _check_same(files, kept, other)
            dropped += others
    if not dropped:
        return files
    named = shortened([files.names[index] for index in sorted(dropped)])
    warnings.warn(
        f"data.root={files.folder}: {len(dropped)} paths lead to files that count already: {named}", stacklevel=2
    )
    left_out = set(dropped)
    return files.select([index for index in range(len(files)) if index not in left_out])


def check_apart(train: ImageFiles, test: ImageFiles, location: str) -> None:
    """Refuse a file that would be trained on and evaluated on.

    Raises:
        UsageError: There is one; both its paths are named.
    """
    trained = {identity: indices[0] for identity, indices in _paths_of_each(train).items()}
    for identity, (index, *_) in _paths_of_each(test).items():
        if identity in trained:
            raise UsageError(
                f"{location}: {train.names[trained[identity]]}, to train on, and {test.names[index]}, to evaluate on, "
                "are one file; remove one of the two"
            )


def _paths_of_each(files: ImageFiles) -> dict[Identity, list[int]]:
    paths: defaultdict[Identity, list[int]] = defaultdict(list)
    for index, name in enumerate(files.names):
        if identity := real_identity(os.path.join(files.folder, name)):
            paths[identity].append(index)
    return paths


def _check_same(files: ImageFiles, kept: int, other: int) -> None:
    first, second = files.names[kept], files.names[other]
    linked = _really_there(files, kept) and not _really_there(files, other)
    annotated = isinstance(files.targets, Annotations)
    same = first == second if annotated else files.classes[kept] == files.classes[other]
    if not (linked or same):
        what = "annotations" if annotated else "classes"
        raise UsageError(
            f"data.root={files.folder}: {first} and {second} are one file with two {what}; remove one of the two"
        )


def _really_there(files: ImageFiles, index: int) -> bool:
    folder = os.path.realpath(files.folder)
    path = os.path.join(folder, files.names[index])
    return os.path.realpath(path) == os.path.normpath(path)


def _leads_back(link: str) -> bool:
    """Whether a link leads to a folder that it lies in, as it was reached or really."""
    reached = {os.path.realpath(folder) for folder in Path(link).absolute().parents}
    really = map(str, Path(os.path.realpath(os.path.dirname(link)), "any").parents)
    return os.path.realpath(link) in reached.union(really)
