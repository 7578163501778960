"""Lists pictures in folders, in an order that does not depend on the file system."""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from torchvision.datasets.folder import make_dataset

from bottlenecks.errors import UsageError
from datamodules.source import PictureFiles


class DatasetNotFoundError(UsageError):
    """There is no usable data where it was looked for; the message names the place and the ways out."""


def existing_folder(root: str | os.PathLike, wanted: str) -> Path:
    """Return the folder that `data.root` names.

    Args:
        root: what the user gave; `~` is understood.
        wanted: what belongs there, for the error.

    Raises:
        DatasetNotFoundError: It does not exist, is no folder, or is empty.
    """
    folder = Path(root).expanduser()
    problem = None
    if not folder.is_dir():
        problem = "is not a folder" if folder.exists() else "no such folder"
    elif not any(_visible(name) for name in os.listdir(folder)):
        problem = "the folder is empty"
    if problem is None:
        return folder
    raise DatasetNotFoundError(
        f"data.root={root}: {problem} (looked at {folder.absolute()}); "
        f"data.root=PATH must hold {wanted}; or take other data, such as data=digits"
    )


def class_folders(folder: Path) -> list[str]:
    """Return the sorted names of the folders in a folder, hidden ones left out.

    Raises:
        DatasetNotFoundError: There are none.
    """
    names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and _visible(entry.name))
    if not names:
        raise DatasetNotFoundError(
            f"data.root={folder}: no folders of classes in it; pictures must lie in one folder for each class "
            "(pictures without labels: data=pictures)"
        )
    return names


def train_and_test(root: Path) -> tuple[Path, Path | None]:
    """Find the two parts of a dataset: `train/` and `test/`, or `train/` and `val/`.

    Returns:
        The training folder and the one for judging; `root` itself and None where it is not so divided.

    Raises:
        DatasetNotFoundError: There is a part for judging but none for training.
        UsageError: There are both `val/` and `test/`.
    """
    found = [name for name in ("train", "val", "test") if (root / name).is_dir()]
    judged = [name for name in found if name != "train"]
    if len(judged) == 2:
        raise UsageError(
            f"data.root={root}: has both val/ and test/; keep the one to judge on (pictures to validate on are "
            "held back from train/, see data.held_back)"
        )
    if judged and "train" not in found:
        raise DatasetNotFoundError(
            f"data.root={root}: has {judged[0]}/ but no train/; data.root={root / judged[0]} divides that one"
        )
    return (root / "train" if found else root), (root / judged[0] if judged else None)


def labelled_files(root: Path, folder: Path, targets: Mapping[str, int]) -> PictureFiles:
    """List the files in folders of classes, sorted; hidden files are left out, all others belong to it.

    Args:
        root: the dataset's folder, where the files' names start.
        folder: `root` or a folder in it, which holds the folders of classes.
        targets: name of a class's folder -> target.

    Raises:
        DatasetNotFoundError: There are no files.
    """
    files = make_dataset(folder, dict(targets), is_valid_file=_visible, allow_empty=True)
    return _picture_files(root, folder, [path for path, _ in files], [target for _, target in files])


def unlabelled_files(folder: Path) -> PictureFiles:
    """List all files in a folder and the folders in it, sorted, with target -1; hidden ones are left out.

    Raises:
        DatasetNotFoundError: There are no files.
    """
    paths: list[str] = []
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders[:] = filter(_visible, folders)
        paths += [os.path.join(parent, name) for name in names if _visible(name)]
    return _picture_files(folder, folder, sorted(paths), [-1] * len(paths))


def _picture_files(root: Path, folder: Path, paths: list[str], targets: list[int]) -> PictureFiles:
    if not paths:
        raise DatasetNotFoundError(f"data.root={root}: no pictures in {folder}; data.root=PATH must hold some")
    names = tuple(os.path.relpath(path, root) if path else path for path in paths)
    return PictureFiles(names, np.array(targets, dtype=np.int64), str(root))


def _visible(path: str) -> bool:
    return not os.path.basename(path).startswith(".")
