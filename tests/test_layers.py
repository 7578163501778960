"""Lower rooms of the library never import higher ones, and what devices need imports no torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

# From the ground up. A room imports those below it, or beside it as long as that makes no circle.
LAYERS = (
    (
        "errors",
        "lazy",
        "environment",
        "processes",
        "files",
        "tensor_files",
        "shapes",
        "strict_json",
        "values",
        "console",
    ),
    ("coding", "images", "splitting"),
    ("tasks", "units"),
    ("rates",),
    ("baselines", "settings"),
    ("backbones",),
    ("network", "training"),
    ("evaluation", "deploy"),
    ("runs", "sharing"),
    ("api", "commands", "split", "run", "push", "__main__"),
)
LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}
LIBRARY = REPOSITORY / "bottlenecks"


def modules_of(path: Path) -> Iterator[str]:
    """Name the modules of the repository that a file imports, wherever in the file; not those for types alone."""
    tree = ast.parse(path.read_text())
    for_types = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if node in for_types:
            continue
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{name.name}" for name in node.names)


def room_of(path: Path) -> str:
    return path.relative_to(LIBRARY).with_suffix("").parts[0]


@cache
def imports() -> dict[Path, list[str]]:
    """What each file of the library imports."""
    return {path: [*modules_of(path)] for path in LIBRARY.rglob("*.py")}


def rooms() -> dict[str, set[str]]:
    """Which rooms each room imports."""
    imported: dict[str, set[str]] = {}
    for path, names in imports().items():
        if path != LIBRARY / "__init__.py":  # lazy: it names where the public names are
            own = [name.split(".")[1] for name in names if name.startswith("bottlenecks.")]
            imported.setdefault(room_of(path), set()).update(own)
    return {room: others & LEVEL.keys() - {room} for room, others in imported.items()}


def test_every_room_has_a_layer() -> None:
    assert rooms().keys() == LEVEL.keys()


def test_no_room_imports_one_above_it() -> None:
    upward = [
        f"{room} imports {other}" for room, others in rooms().items() for other in others if LEVEL[other] > LEVEL[room]
    ]
    assert not upward


def test_rooms_form_no_circle() -> None:
    left = rooms()
    while free := [room for room, others in left.items() if not others & left.keys()]:
        for room in free:
            del left[room]
    assert not left


def test_the_library_knows_no_dataset_and_no_command() -> None:
    outside = {"datamodules", "train", "evaluate", "export", "benchmarks", "tests"}
    found = {path: [name for name in names if name.split(".")[0] in outside] for path, names in imports().items()}
    assert not any(found.values())


@pytest.mark.parametrize("package", ["coding", "settings", "deploy"])
def test_a_device_needs_no_torch(package: str) -> None:
    """Every module of the packages but what makes a bundle."""
    torch_allowed = {"export", "onnx_form"}
    names = [
        f"bottlenecks.{package}.{path.stem}"
        for path in sorted((LIBRARY / package).glob("*.py"))
        if path.stem not in {"__init__", *torch_allowed}
    ]
    code = (
        f"import sys, importlib\nfor name in {names}: importlib.import_module(name)\nassert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=REPOSITORY)
