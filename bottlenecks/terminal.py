"""What commands print: lines that are never broken, and tables at full width."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.table import Table

WIDTH = 150  # columns of a table where there is no terminal to ask


def say(message: str) -> None:
    """Print a line; one that is longer than the terminal is left whole, so that paths can be copied."""
    Console(soft_wrap=True, highlight=False, markup=False).print(message)


def show(table: Table) -> None:
    """Print a table, at full width where the output is no terminal."""
    Console(width=None if sys.stdout.isatty() else WIDTH).print(table)
