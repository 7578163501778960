"""Files that are written whole or not at all, and what a safetensors file says of itself; no torch."""

from __future__ import annotations

import filecmp
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock
from safetensors import SafetensorError, safe_open

from bottlenecks.errors import UsageError

PIECE = 2**20  # bytes that are read at once
SUFFIX = ".bneck"  # of a file that keeps the bytes of an image


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file under a temporary name beside `path`, force it to disk, and rename it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with _named(path), open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Let an error of the file system that names no place, as that of a full disk, name this one."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from None


@contextmanager
def one_at_a_time(path: Path) -> Iterator[Path]:
    """Let one process after the other make a file or folder; a killed one does not block the rest.

    The lock is a file beside it, which its holder removes. Who has waited for one that is gone takes the next.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_name(f".{path.name}.lock")
    while True:
        # Open before and until after the lock is taken: as long as it is, no other file can pass for this one.
        # And FileLock would wait for ever for one that cannot be made.
        with lock.open("ab") as file, FileLock(lock):
            if not _lies_at(lock, file.fileno()):
                continue
            try:
                yield path
            finally:
                with suppress(PermissionError):  # of Windows, which keeps what is open
                    lock.unlink(missing_ok=True)
            return


def _lies_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


@contextmanager
def replacing(folder: Path, argument: str, kind: str, held: Callable[[Path], set[str]]) -> Iterator[Path]:
    """Give a temporary folder that takes the place of `folder` when all has gone well; one process at a time.

    Where both hold the same, `folder` stays untouched.

    Args:
        folder: is at any moment absent, the old one or the new one; of a link, what it leads to.
        argument: what a user gave, for the message.
        kind: of folder that may be replaced, for the message.
        held: returns the names of those files of a folder that belong to one of this kind.

    Raises:
        UsageError: the folder holds something else, or cannot be one.
    """
    folder = Path(os.path.realpath(folder))
    if folder.is_symlink():
        raise UsageError(f"{argument}: a link that leads to itself; remove it, or give another folder")
    if not folder.name:
        raise UsageError(f"{argument}: the root of all files; give a folder within it")
    temporary, old = (folder.with_name(f".{folder.name}.{end}") for end in ("tmp", "old"))
    with _named(folder), one_at_a_time(folder):
        if old.exists() and not folder.exists():  # a process was killed between the two renames
            old.rename(folder)
        if folder.exists():
            _refuse_others(folder, argument, kind, held)
        for leftover in (temporary, old):
            shutil.rmtree(leftover, ignore_errors=True)
        temporary.mkdir()
        try:
            yield temporary
            if not _are_same(folder, temporary):
                if folder.exists():
                    folder.rename(old)
                temporary.rename(folder)
        finally:
            if old.exists() and not folder.exists():
                old.rename(folder)
            for leftover in (temporary, old):
                shutil.rmtree(leftover, ignore_errors=True)


def _refuse_others(folder: Path, argument: str, kind: str, held: Callable[[Path], set[str]]) -> None:
    own = held(folder) if folder.is_dir() else set()
    strangers = [name for name in _things_in(folder) if name not in own] if folder.is_dir() else [folder.name]
    if strangers:
        raise UsageError(
            f"{argument}: holds something else than {kind} ({strangers[0]}); give another folder, or move it away"
        )


def _things_in(folder: Path) -> list[str]:
    """List what is in a folder and those within it: files, links, and folders that hold nothing."""
    things = [path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir() or not any(path.iterdir())]
    return sorted(path.relative_to(folder).as_posix() for path in things)


def _are_same(one: Path, other: Path) -> bool:
    names = _things_in(one)
    return names == _things_in(other) and all(filecmp.cmp(one / name, other / name, shallow=False) for name in names)


def files_in(folder: Path) -> list[str]:
    """List the files of a folder and of those within it, relative to it."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal, read piece by piece."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            digest.update(piece)
    return digest.hexdigest()


def read_metadata(path: Path) -> dict[str, Any]:
    """Read the metadata of a safetensors file and none of its tensors; every value is decoded from JSON.

    Raises:
        UsageError: the file is missing or damaged.
    """
    with opened(path, "numpy") as file:
        return metadata_of(file)


@contextmanager
def opened(path: Path, framework: str) -> Iterator[Any]:
    """Open a safetensors file.

    Args:
        path: the file.
        framework: whose arrays it is to give, `numpy` or `pt`.

    Raises:
        UsageError: the file is missing or damaged.
    """
    if path.exists() and not path.is_file():  # a pipe would be read for ever
        raise UsageError(f"{path}: no regular file; remove it or make it anew")
    try:
        with safe_open(path, framework=framework, device="cpu") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise UsageError(f"{path}: damaged or no safetensors file ({error}); remove it or make it anew") from None


def metadata_of(file: Any) -> dict[str, Any]:
    """Return the metadata of an open safetensors file, every value decoded from JSON."""
    return {key: _from_json(value) for key, value in (file.metadata() or {}).items()}


def _from_json(value: str) -> Any:
    try:
        return json.loads(value)
    except json.JSONDecodeError:  # a file of another program
        return value
