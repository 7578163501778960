"""Figures as the cells of a table show them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

from bottlenecks.evaluation.summary import Figure


def cell(figures: Sequence[Figure], show: Callable[[float], str]) -> str:
    """Tell a figure with its interval, or the mean of several with their spread."""
    values = [figure.value for figure in figures if figure.value is not None]
    if not values:
        return next((figure.note or "" for figure in figures), "")
    ends = [end for figure in figures for end in figure.interval or ()]
    spread = f" ± {show(statistics.stdev(values)).lstrip('+')}" if len(values) > 1 else ""
    bound = "≤ " if any(figure.note for figure in figures) else ""
    few = f", {len(values)} of {len(figures)}" if len(values) < len(figures) else ""
    return f"{bound}{show(statistics.mean(values))}{spread}{few}" + (
        f" ({show(min(ends))} … {show(max(ends))})" if ends else ""
    )


def between(levels: Sequence[int]) -> str:
    """Name the first and the last of some levels."""
    return f"{levels[0]}" if levels[0] == levels[-1] else f"{levels[0]} to {levels[-1]}"


def number(value: float) -> str:
    """Show bytes: few of them with a decimal."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
