"""Which files belong to a ladder that is shared, and their digests; no torch."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from pathlib import Path

from bottlenecks.errors import UsageError, reason
from bottlenecks.files import digest_of
from bottlenecks.strict_json import check_version, parse_json

PATTERN = "lambda=*.safetensors"
MANIFEST = "ladder.json"
CARD = "README.md"
CURVE, FIGURE = "curve.json", "curve.svg"
FORMAT_VERSION = 1


def is_shared(folder: Path) -> bool:
    """Return whether a folder is a ladder that `bottlenecks push` wrote."""
    return os.path.lexists(folder / MANIFEST)  # whatever it is: what is no readable one is refused


def write_manifest(folder: Path) -> None:
    """Write the digests of a ladder's files, the last of them to be written."""
    files = {name: _digest(folder / name) for name in _held(folder)}
    content = {"format_version": FORMAT_VERSION, "files": files}
    (folder / MANIFEST).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def check_manifest(folder: Path) -> None:
    """Refuse a shared ladder whose files are not those that were pushed; a folder without a manifest is none.

    Nothing but the manifest is parsed.

    Raises:
        UsageError: one is missing, another one, or there without being listed; the message names it.
    """
    if is_shared(folder):
        for name, what in differences(folder):
            raise UsageError(f"{folder / name}: {what}")


def differences(folder: Path) -> Iterator[tuple[str, str]]:
    """Name the files of a shared ladder that are not as they were pushed, and say of each what is wrong.

    Raises:
        UsageError: the manifest cannot be read, or a file.
    """
    files, held = read_manifest(folder), _held(folder)
    for name in sorted({*files, *held}):
        if name not in files:
            yield (
                name,
                f"is not among the files that {MANIFEST} lists; move it away, or remove {MANIFEST} if the folder is to "
                "be yours to change",
            )
        elif name not in held:
            yield name, f"missing, though {MANIFEST} lists it; fetch the ladder anew"
        elif (digest := _digest(folder / name)) != files[name]:
            yield (
                name,
                f"not what was pushed (SHA-256 {digest[:16]}…, {MANIFEST} has {files[name][:16]}…); fetch the ladder "
                "anew",
            )


def replaced_by(there: Path, new: Path) -> str | None:
    """Return what would be lost if another ladder took a shared ladder's place, None where nothing would.

    Raises:
        UsageError: the manifest there cannot be read, or a file.
    """
    if (there / MANIFEST).read_bytes() != (new / MANIFEST).read_bytes():
        return "another ladder already"
    return next((f"a ladder that was changed since it was pushed ({name})" for name, _ in differences(there)), None)


def read_manifest(folder: Path) -> Mapping[str, str]:
    """Return the SHA-256 of each file of a shared ladder, by name.

    Raises:
        UsageError: the manifest is damaged, or of another version.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise UsageError(f"{path}: no regular file; fetch the ladder anew")
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
        check_version("format_version", content["format_version"], FORMAT_VERSION)
        files = dict(content["files"])
        if strange := [name for name in files if not _is_ours(name) or not isinstance(files[name], str)]:
            raise ValueError(f"it lists {strange[0]}, which is no file of a ladder")
        if CARD not in files:
            raise ValueError(f"it lists no {CARD}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(f"{path}: no readable manifest of a ladder ({reason(error)}); fetch the ladder anew") from None
    return files


def _held(folder: Path) -> list[str]:
    """List those files of a folder that a ladder may have; rates deeper within it count, since they would be found."""
    inside = {path.relative_to(folder).as_posix() for path in folder.rglob(PATTERN)}
    return sorted(inside | {name for name in (CARD, CURVE, FIGURE) if (folder / name).is_file()})


def _is_ours(name: str) -> bool:
    return name in (CARD, CURVE, FIGURE) or (fnmatch(name, PATTERN) and "/" not in name)


def _digest(path: Path) -> str:
    if not path.is_file():  # a device or a pipe would be read for ever
        raise UsageError(f"{path}: no regular file; fetch the ladder anew")
    try:
        return digest_of(path)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({reason(error)}); fetch the ladder anew") from None
