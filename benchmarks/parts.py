"""Where the parts of a comparison lie: where they were made, and beside the results that they were joined into."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.cases import Case, Part
from bottlenecks.errors import UsageError
from bottlenecks.files import write_atomically

PART = "part.json"  # how a part was made; written last, it tells that the part is finished
KEPT = ("curve.json", "images.npz")  # of what evaluate.py writes: points, and the images that they are of


def parts_folder(docs: Path, case: Case) -> Path:
    """Return where the parts of a case are kept, to be joined with others that are made elsewhere."""
    return docs / "results" / case.name / "parts"


def place_of(part: Part, out: Path, docs: Path) -> Path | None:
    """Return the folder of a part that is finished with these very settings, where it was made or is kept; else None.

    Raises:
        UsageError: how a part was made cannot be read.
    """
    folders = (out / part.case.name / part.label, parts_folder(docs, part.case) / part.label)
    finished = (folder for folder in folders if (folder / PART).exists())
    return next((folder for folder in finished if read_part(folder)["commands"] == part.commands()), None)


def keep(place: Path, made: Mapping[str, Any], folder: Path) -> None:
    """Copy what joining needs of a part; what tells that it is finished is written last."""
    if place == folder:
        return
    folder.mkdir(parents=True, exist_ok=True)
    written = (place / made["curve"]).parent
    for name in KEPT:
        write_atomically(folder / name, (written / name).read_bytes())
    write_part(folder, {**made, "curve": KEPT[0]})


def write_part(folder: Path, made: Mapping[str, Any]) -> None:
    """Write how a part was made, which tells that it is finished."""
    write_atomically(folder / PART, (json.dumps(made, indent=2) + "\n").encode())


def read_part(folder: Path) -> dict[str, Any]:
    """Read how a part was made: `commands`, `seconds`, `threads`, and where its `curve` lies.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        content: dict[str, Any] = json.loads((folder / PART).read_text())
    except (OSError, ValueError) as error:
        raise UsageError(f"{folder / PART}: not readable ({error}); delete {folder} to have it made again") from None
    return content
