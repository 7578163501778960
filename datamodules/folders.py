"""Lists pictures in folders, in an order that does not depend on the file system."""

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from torchvision.datasets.folder import make_dataset

from bottlenecks.errors import UsageError
from datamodules.source import NUM_NAMED, PictureFiles

PARTS = ("test", "val")  # names of the folder to judge on, the preferred one first


class DatasetNotFoundError(UsageError):
    """There is no usable data where it was looked for; the message names the place and the ways out."""


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


def train_and_test(root: Path, parts: Sequence[str] = PARTS) -> tuple[Path, Path | None]:
    """Find out whether a dataset is divided into `train/` and a folder to judge on.

    Args:
        root: the dataset's folder.
        parts: names of the folder to judge on, the preferred one first.

    Returns:
        The folder to train on and the one to judge on; `root` itself and None where it is not divided.

    Raises:
        DatasetNotFoundError: There is a folder to judge on but none to train on.
    """
    judged = [root / part for part in parts if (root / part).is_dir()]
    train = root / "train"
    if judged and not train.is_dir():
        raise DatasetNotFoundError(
            f"data.root={root}: has {judged[0].name}/ but no train/; data.root={judged[0]} divides that one"
        )
    if len(judged) > 1:
        warnings.warn(f"data.root={root}: judged on {judged[0].name}/; {judged[1].name}/ is not used", stacklevel=2)
    return train if train.is_dir() else root, judged[0] if judged else None


def class_folders(root: Path, folder: Path) -> list[str]:
    """Return the sorted names of the folders in a folder, hidden ones left out.

    Args:
        root: the dataset's folder, for the error.
        folder: `root` or a folder in it.

    Raises:
        DatasetNotFoundError: There are none.
    """
    names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and visible(entry.name))
    if names:
        return names
    raise DatasetNotFoundError(
        f"data.root={root}: no folders of classes in {folder}; a picture's label is the name of its folder "
        "(for pictures without labels: data=pictures)"
    )


def labelled_files(root: Path, folder: Path, targets: Mapping[str, int], kind: str) -> PictureFiles:
    """List the files in folders of classes, sorted; hidden files are left out, all others count.

    Args:
        root: the dataset's folder, where the files' names start.
        folder: `root` or a folder in it, which holds the folders of classes.
        targets: name of a class's folder -> target; not each needs to be there.
        kind: what the keys of `targets` are, for the error.

    Raises:
        DatasetNotFoundError: There are no files.
        UsageError: A folder has a name that is not in `targets`.
    """
    if surplus := [name for name in class_folders(root, folder) if name not in targets]:
        named = ", ".join(surplus[:NUM_NAMED] + ["..."] * (len(surplus) > NUM_NAMED))
        raise UsageError(
            f"data.root={root}: {len(surplus)} folders in {folder} are not {kind}: {named}; "
            "remove them, or take data=image_folder for classes of your own"
        )
    files = make_dataset(folder, dict(targets), is_valid_file=visible, allow_empty=True)
    return _picture_files(root, [path for path, _ in files], [target for _, target in files])


def labelled_parts(
    root: Path, targets: Mapping[str, int], kind: str, parts: Sequence[str] = PARTS, divided: bool = False
) -> tuple[PictureFiles, PictureFiles | None]:
    """List the files to train on and those to judge on, None where `root` is not divided.

    Args:
        root: the dataset's folder.
        targets: as for `labelled_files`.
        kind: as for `labelled_files`.
        parts: as for `train_and_test`.
        divided: `root` has to be divided.

    Raises:
        DatasetNotFoundError: There are no files, or a part of them is missing.
        UsageError: A folder has a name that is not in `targets`.
    """
    train, test = train_and_test(root, parts)
    if test is not None:
        return labelled_files(root, train, targets, kind), labelled_files(root, test, targets, kind)
    if divided:
        missing = " and ".join(f"{part}/" for part in ("train", parts[0]) if not (root / part).is_dir())
        raise DatasetNotFoundError(f"data.root={root}: no {missing} in it; data.root=PATH must hold both parts")
    return labelled_files(root, train, targets, kind), None


def unlabelled_files(root: Path) -> PictureFiles:
    """List all files in a folder and the folders in it, sorted, with target -1; hidden ones are left out.

    Raises:
        DatasetNotFoundError: There are no files.
    """
    paths: list[str] = []
    for parent, folders, names in os.walk(root, followlinks=True):
        folders[:] = filter(visible, folders)
        paths += [os.path.join(parent, name) for name in filter(visible, names)]
    return _picture_files(root, sorted(paths), [-1] * len(paths))


def _picture_files(root: Path, paths: list[str], targets: list[int]) -> PictureFiles:
    if not paths:
        raise DatasetNotFoundError(f"data.root={root}: there are folders but no files; data.root=PATH must hold some")
    names = tuple(path.removeprefix(f"{root}{os.sep}") for path in paths)
    return PictureFiles(names, np.array(targets, dtype=np.int64), str(root))


def visible(path: str) -> bool:
    """Whether a file or folder is not hidden."""
    return not os.path.basename(path).startswith(".")
