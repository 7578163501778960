"""What commands print: lines that are never broken, and tables at full width."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import track
from rich.table import Table

from bottlenecks.errors import printable
from bottlenecks.processes import is_main

T = TypeVar("T")
WIDTH = 150  # columns of a table where there is no terminal to ask


def say(message: str) -> None:
    """Print a line; one that is longer than the terminal is left whole, so that paths can be copied."""
    if is_main():
        Console(soft_wrap=True, highlight=False, markup=False).print(printable(message))
        sys.stdout.flush()


def progress(items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Go through items behind a progress bar that goes away at the end.

    Args:
        items: any number of them.
        description: stands before the bar.
        total: how many there are, where they cannot be counted.
    """
    console = Console()
    hidden = not is_main() or not (console.is_terminal or console.is_jupyter)
    yield from track(items, description, total, transient=True, disable=hidden)


def markdown(table: Table) -> str:
    """Write a table of text in Markdown, its title above."""
    rows = [[str(column.header) for column in table.columns]]
    rows.append(["---:" if column.justify == "right" else "---" for column in table.columns])
    rows += [list(row) for row in zip(*(map(str, column.cells) for column in table.columns), strict=True)]
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join([*([f"{table.title}", ""] if table.title else []), *lines, ""])


def show(table: Table) -> None:
    """Print a table, at full width where the output is no terminal."""
    if is_main():
        Console(width=None if sys.stdout.isatty() else WIDTH).print(table)
