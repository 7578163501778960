"""Codecs against each other, by the curves of the same resampled images."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from benchmarks.cells import cell
from bottlenecks.evaluation.merit import Line, NoFigureError, bytes_at
from bottlenecks.evaluation.record import LEVELS
from bottlenecks.evaluation.summary import AGREEMENT, Figure, Series, summarise

PER_CENTS = range(70, 98)  # of agreement, at which units are held against the other codecs


def bd_rates(labels: Sequence[str], others: Sequence[str], series: Mapping[str, Series]) -> str:
    """Return the BD-rate at equal agreement of each seed of a codec against each of another, as one figure."""
    rates = []
    for label, other in itertools.product(labels, others):
        (found,) = (merit for merit in summarise([series[label], series[other]], other) if merit.label == label)
        rates.append(found.bd.get("bd_rate_at_agreement", Figure(None, note="")))
    return cell(rates, lambda value: f"{value:+.1%}")


def figure_at(line: Line, value: float) -> Figure:
    """Return the bytes at which a line reaches a value."""
    try:
        found = bytes_at(line, value)
    except NoFigureError as error:
        return Figure(None, note=str(error))
    return Figure(found, note="at most: the coarsest point" if found == line.num_bytes.min() else None)


def levels_where_dearer(ours: Series, theirs: Series) -> list[int]:
    """Return the agreements in per cent, of those that another codec's curve has, at which ours takes more bytes.

    More is where the 95 % interval of the difference, over the same resampled images, lies above zero.
    """
    values = theirs.lines[AGREEMENT].values
    return [
        percent
        for percent in PER_CENTS
        if values.min() <= percent / 100 <= values.max() and _excess(ours, theirs, percent / 100) > 0
    ]


def _excess(ours: Series, theirs: Series, level: float) -> float:
    """Return the low end of the interval of the difference in bytes, over the draws in which they reach the level."""
    pairs = list(zip(ours.draws[AGREEMENT], theirs.draws[AGREEMENT], strict=True))
    pairs.append((ours.lines[AGREEMENT], theirs.lines[AGREEMENT]))
    found = [(figure_at(mine, level).value, figure_at(other, level).value) for mine, other in pairs]
    excess = [np.inf if mine is None else mine - other for mine, other in found if other is not None]
    return float(np.percentile(excess, LEVELS[0], method="lower"))
