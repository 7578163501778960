"""The figures of merit of every codec on a curve, with intervals, as a table and as a file."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from rich.table import Table

from bottlenecks.errors import UsageError, closest
from bottlenecks.evaluation.curve import Curve
from bottlenecks.evaluation.merit import FloatArray, Line, NoFigureError, bd_metric, bd_rate, bytes_at
from bottlenecks.evaluation.record import Record, interval
from bottlenecks.tasks import task_of_metric

LOSSES = (0.01, 0.02)  # from the unsplit network
DRAWS = 200  # of the pictures, for the intervals of a curve's figures
MOST_FAILED = 0.05  # of the draws in which there may be no figure


@dataclass(frozen=True)
class Figure:
    """A figure of merit.

    Attributes:
        value: None where there is none.
        interval: 95 %, by bootstrap over the pictures; paired where it compares two codecs on the same pictures.
        note: why there is no value, or what it is.
    """

    value: float | None
    interval: list[float] | None = None
    note: str | None = None


@dataclass(frozen=True)
class Series:
    """One codec of one curve.

    Attributes:
        label: names it among all that are compared.
        curve: where it is from.
        line: its points.
        draws: its line, and the unsplit network's metric, on resampled pictures; empty where there is no record.
    """

    label: str
    curve: Curve
    line: Line
    draws: Sequence[tuple[Line, float]]


@dataclass(frozen=True)
class Merit:
    """What one codec is worth.

    Attributes:
        label: names it.
        bytes_at_loss: fewest bytes to stay within each of `LOSSES` of the unsplit network.
        bd_rate: against the anchor, None for the anchor itself.
        bd_metric: the same.
    """

    label: str
    bytes_at_loss: list[Figure]
    bd_rate: Figure | None
    bd_metric: Figure | None


def series_of(curve: Curve, record: Record | None, prefix: str = "") -> list[Series]:
    """Take a curve apart into its codecs; pictures without labels have none."""
    if curve.unsplit is None:
        return []
    drawn = _draws(curve, record) if record is not None else None
    found = []
    for codec in curve.codecs:
        rows = [index for index, point in enumerate(curve.points) if point["codec"] == codec]
        points = [curve.points[index] for index in rows]
        values = [point[curve.metric] for point in points]
        highs = [
            max(value, (point.get("interval") or [value])[-1]) for value, point in zip(values, points, strict=True)
        ]
        line = Line.of([point["payload_bytes"] for point in points], values, highs)
        draws = []
        if drawn is not None:
            num_bytes, scores, unsplit = drawn
            unbounded = np.full(len(rows), np.inf)  # a draw is not asked whether it is monotone
            draws = [
                (replace(Line.of(some[rows], score[rows]), highs=unbounded), float(whole))
                for some, score, whole in zip(num_bytes, scores, unsplit, strict=True)
            ]
        found.append(Series(prefix + codec, curve, line, draws))
    return found


def summarise(series: Sequence[Series], anchor: str) -> list[Merit]:
    """Give the figures of merit of each codec.

    Args:
        series: what is compared.
        anchor: label of the one that the others are compared with.

    Raises:
        UsageError: there is no such label.
    """
    labels = [one.label for one in series]
    if anchor not in labels:
        raise UsageError(f"anchor={anchor}: not among what is judged; there are {closest(anchor, labels)}")
    base = series[labels.index(anchor)]
    return [
        Merit(
            one.label,
            [_bytes_at(one, loss) for loss in LOSSES],
            None if one is base else _against(bd_rate, base, one),
            None if one is base else _against(bd_metric, base, one),
        )
        for one in series
    ]


def merit_table(merits: Sequence[Merit], anchor: str, metric: str) -> Table:
    """Draw figures of merit as a table for the terminal."""
    table = Table(title=f"Against {anchor}; 95 % by bootstrap over the pictures")
    table.add_column("codec")
    for loss in LOSSES:
        table.add_column(f"bytes at -{loss:.0%}", justify="right")
    for name in ("BD-rate", f"BD-{metric}"):
        table.add_column(name, justify="right", overflow="fold")
    for merit in merits:
        table.add_row(
            merit.label,
            *(_show(figure, lambda value: f"{value:,.1f}") for figure in merit.bytes_at_loss),
            _show(merit.bd_rate, lambda value: f"{value:+.1%}"),
            _show(merit.bd_metric, lambda value: f"{100 * value:+.2f}"),
        )
    return table


def _draws(curve: Curve, record: Record) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Give bytes (B, P), metric (B, P) and the unsplit network's metric (B,) on resampled pictures."""
    task = task_of_metric(curve.metric)
    draws = record.bootstrap(DRAWS, zlib.crc32("\n".join(record.pictures).encode()))  # paired between curves
    return draws.num_bytes, task.score(draws.evidence), task.score(draws.unsplit)


def _bytes_at(one: Series, loss: float) -> Figure:
    unsplit = one.curve.unsplit
    assert unsplit is not None, "series have labels"
    try:
        value = bytes_at(one.line, unsplit - loss)
    except NoFigureError as error:
        return Figure(None, note=str(error))
    note = "at most: the coarsest point" if value == one.line.num_bytes.min() else None
    draws = [_or_nan(lambda line=line, whole=whole: bytes_at(line, whole - loss)) for line, whole in one.draws]  # type: ignore[misc]
    return Figure(value, _interval(draws), note)


def _against(figure: Callable[[Line, Line], float], base: Series, one: Series) -> Figure:
    try:
        value = figure(base.line, one.line)
    except NoFigureError as error:
        return Figure(None, note=str(error))
    pairs = zip(base.draws, one.draws, strict=False)
    return Figure(value, _interval([_or_nan(lambda a=a, b=b: figure(a, b)) for (a, _), (b, _) in pairs]))  # type: ignore[misc]


def _or_nan(figure: Callable[[], float]) -> float:
    try:
        return figure()
    except NoFigureError:
        return float("nan")


def _interval(draws: Sequence[float]) -> list[float] | None:
    values = np.asarray(draws, dtype=np.float64)
    found = values[~np.isnan(values)]
    return interval(found) if len(found) and len(found) >= (1 - MOST_FAILED) * len(values) else None


def _show(figure: Figure | None, text: Callable[[float], str]) -> str:
    if figure is None:
        return "anchor"
    if figure.value is None:
        return figure.note or ""
    bound = "≤ " if figure.note else ""
    ends = f" ({text(figure.interval[0])} … {text(figure.interval[1])})" if figure.interval else ""
    return f"{bound}{text(figure.value)}{ends}"


def merits_as_json(merits: Sequence[Merit], anchor: str) -> dict[str, Any]:
    """Give figures of merit as a JSON-able mapping."""

    def plain(figure: Figure | None) -> dict[str, Any] | None:
        return None if figure is None else vars(figure)

    return {
        "anchor": anchor,
        "codecs": {
            merit.label: {
                "bytes_at_loss": {
                    repr(loss): plain(figure) for loss, figure in zip(LOSSES, merit.bytes_at_loss, strict=True)
                },
                "bd_rate": plain(merit.bd_rate),
                "bd_metric": plain(merit.bd_metric),
            }
            for merit in merits
        },
    }
