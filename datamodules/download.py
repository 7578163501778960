"""Fetches a dataset so that what lies in its place is complete or not there."""

import os
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory

from bottlenecks.environment import prescribed

from .layout import DatasetNotFoundError


def fetch(what: str, root: str, folder: str, download: Callable[[str], object]) -> None:
    """Download a dataset beside its place and move it there when it is complete.

    Args:
        what: the dataset's name, for the error.
        root: `data.root`, made where it is not there.
        folder: name of the folder in `root` that the dataset unpacks to.
        download: puts that folder into the directory it is given.

    Raises:
        DatasetNotFoundError: It could not be fetched, for want of a network or of space.
    """
    place = Path(root).expanduser()
    try:
        place.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=place, prefix=".download-") as partial:
            download(partial)
            os.replace(Path(partial, folder), place / folder)
    except (OSError, RuntimeError, HTTPException) as error:  # torchvision: RuntimeError for a wrong checksum
        with suppress(OSError):
            place.rmdir()
        raise DatasetNotFoundError(
            f"data.root={root}: {what} is not there and could not be fetched ({error}{prescribed()}); "
            "data.root=PATH with an unpacked copy needs no network; or take other data, such as data=digits"
        ) from error
