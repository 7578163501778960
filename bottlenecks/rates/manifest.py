"""Which files belong to a ladder that is shared, and their digests; no torch."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path

from bottlenecks.errors import UsageError, reason
from bottlenecks.files import digest_of

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
    if not is_shared(folder):
        return
    files, held = read_manifest(folder), _held(folder)
    for name in sorted({*files, *held}):
        if name not in files:
            raise UsageError(
                f"{folder / name}: is not among the files that {MANIFEST} lists; move it away, or remove {MANIFEST} "
                "if the folder is to be yours to change"
            )
        if name not in held:
            raise UsageError(f"{folder / name}: missing, though {MANIFEST} lists it; fetch the ladder anew")
        if (digest := _digest(folder / name)) != files[name]:
            raise UsageError(
                f"{folder / name}: not what was pushed (SHA-256 {digest[:16]}…, {MANIFEST} has {files[name][:16]}…); "
                "fetch the ladder anew"
            )


def read_manifest(folder: Path) -> Mapping[str, str]:
    """Return the SHA-256 of each file of a shared ladder, by name.

    Raises:
        UsageError: the manifest is damaged, or of another version.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise UsageError(f"{path}: no regular file; fetch the ladder anew")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format_version"] != FORMAT_VERSION:
            raise ValueError(f"format version {content['format_version']}, this program reads {FORMAT_VERSION}")
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
