"""Lists images in folders, in an order that does not depend on the file system."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from bottlenecks.errors import UsageError, quoted

from .layout import PARTS, DatasetNotFoundError, folders_in, train_and_test
from .real_files import files_below, once
from .source import ImageFiles, shortened


def labelled_files(root: Path, folder: Path) -> tuple[ImageFiles, tuple[str, ...]]:
    """List the files in folders of classes, sorted; hidden files are left out, all others count.

    A folder without files, or with nothing but links to files that lie in another, is no class; a warning names it.

    Args:
        root: the dataset's folder, where the files' names start.
        folder: `root` or a folder in it, which holds the folders of classes.

    Returns:
        The files, and the names of the classes that the targets count.

    Raises:
        DatasetNotFoundError: There are no folders, or no files in them.
    """
    names = folders_in(folder)
    if not names:
        raise DatasetNotFoundError(
            f"data.root={root}: no folders of classes in {folder}; an image's label is the name of its folder "
            "(for images without labels: data=pictures)"
        )
    below = [files_below(folder / name) for name in names]
    paths = [path for found in below for path in found]
    files = once(_image_files(root, paths, np.repeat(np.arange(len(names)), [len(found) for found in below])))
    there = np.unique(files.classes)
    if len(there) < len(names):
        empty = [name for number, name in enumerate(names) if number not in there]
        what = f"no class, for want of images of its own in {folder}"
        warnings.warn(f"data.root={root}: {what}: {shortened(empty)}", stacklevel=2)
    classes = tuple(names[number] for number in there)
    if len(classes) == 1 and not any(os.path.dirname(path) == str(folder / classes[0]) for path in paths):
        way_out = f"if these are the classes, or parts of the data, give {quoted('data.root', folder / classes[0])}"
        warnings.warn(f"data.root={root}: one class alone, {classes[0]}/, which holds folders; {way_out}", stacklevel=2)
    return ImageFiles(files.names, np.searchsorted(there, files.classes), files.folder), classes


def with_targets(root: Path, folder: Path, targets: Mapping[str, int], kind: str) -> ImageFiles:
    """List the files in folders of classes with a dataset's own targets.

    Args:
        root: as for `labelled_files`.
        folder: as for `labelled_files`.
        targets: name of a class's folder -> target; not each needs to be there.
        kind: what the keys of `targets` are, for the error.

    Raises:
        DatasetNotFoundError: There are no files.
        UsageError: A folder has a name that is not in `targets`.
    """
    files, classes = labelled_files(root, folder)
    if surplus := [name for name in classes if name not in targets]:
        raise UsageError(
            f"data.root={root}: {len(surplus)} folders in {folder} are not {kind}: {shortened(surplus)}; "
            "remove them, or take data=image_folder for classes of your own"
        )
    numbers = np.array([targets[name] for name in classes], dtype=np.int64)
    return ImageFiles(files.names, numbers[files.classes], files.folder)


def labelled_parts(
    root: Path, targets: Mapping[str, int], kind: str, parts: Sequence[str] = PARTS, divided: bool = False
) -> tuple[ImageFiles, ImageFiles | None]:
    """List the files to train on and those to evaluate on, None where `root` is not divided.

    Args:
        root: the dataset's folder.
        targets: as for `with_targets`.
        kind: as for `with_targets`.
        parts: as for `train_and_test`.
        divided: `root` has to be divided.

    Raises:
        DatasetNotFoundError: There are no files, or a part of them is missing.
        UsageError: A folder has a name that is not in `targets`.
    """
    train, test = train_and_test(root, parts)
    if divided and test is None:
        missing = f"{parts[0]}/" if train != root else f"train/ and {parts[0]}/"
        raise DatasetNotFoundError(f"data.root={root}: no {missing} in it; data.root=PATH must hold both parts")
    evaluated = None if test is None else with_targets(root, test, targets, kind)
    return with_targets(root, train, targets, kind), evaluated


def unlabelled_files(root: Path, folder: Path) -> ImageFiles:
    """List all files in a folder and the folders in it, sorted, with target -1; hidden ones are left out.

    Args:
        root: the dataset's folder, where the files' names start.
        folder: `root` or a folder in it.

    Raises:
        DatasetNotFoundError: There are no files.
    """
    paths = files_below(folder)
    return once(_image_files(root, paths, np.full(len(paths), -1)))


def _image_files(root: Path, paths: Sequence[str], targets: np.ndarray) -> ImageFiles:
    if not paths:
        raise DatasetNotFoundError(f"data.root={root}: there are folders but no files; data.root=PATH must hold some")
    names = tuple(path.removeprefix(f"{root}{os.sep}") for path in paths)
    return ImageFiles(names, targets.astype(np.int64), str(root))
