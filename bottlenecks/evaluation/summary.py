"""The figures of merit of every codec on a curve, with intervals, as a table and as a file."""

from __future__ import annotations

import math
import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.table import Table

from bottlenecks.errors import UsageError, closest
from bottlenecks.evaluation.curve import Curve
from bottlenecks.evaluation.merit import FloatArray, Line, NoFigureError, bd_metric, bd_rate, bytes_at
from bottlenecks.evaluation.record import LEVELS, Record
from bottlenecks.tasks import task_of_metric

LOSSES = (0.01, 0.02)  # from the unsplit network
DRAWS = 200  # of the images, for the intervals of a curve's figures
AGREEMENT, BYTES, UNSPLIT = "agreement", "bytes", "unsplit"
TITLES = {
    "bd_rate": "BD-rate",
    "bd_metric": "BD-{}",
    "bd_rate_at_agreement": "BD-rate at agreement",
    "bd_agreement": "BD-agreement",
}
MOST_FAILED = 0.05  # of the draws in which there may be no figure


@dataclass(frozen=True)
class Figure:
    """A figure of merit.

    Attributes:
        value: None where there is none.
        interval: 95 %, by bootstrap over the images; paired where it compares two codecs on the same images.
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
        lines: its points by the metric, where there are labels, and by agreement.
        draws: the same lines on resampled images; empty where there is no record.
        unsplit_draws: the unsplit network's metric on those images.
    """

    label: str
    curve: Curve
    lines: Mapping[str, Line]
    draws: Mapping[str, Sequence[Line]]
    unsplit_draws: Sequence[float]


@dataclass(frozen=True)
class Merit:
    """What one codec is worth.

    Attributes:
        label: names it.
        bytes_at_loss: fewest bytes to stay within each of `LOSSES` of the unsplit network; none without labels.
        bd: Bjøntegaard's figures against the anchor, `bd_rate` and `bd_metric` by the metric, `bd_rate_at_agreement`
            and `bd_agreement` by agreement; none for the anchor itself.
    """

    label: str
    bytes_at_loss: list[Figure]
    bd: Mapping[str, Figure]


def series_of(curve: Curve, record: Record | None, prefix: str = "") -> list[Series]:
    """Take a curve apart into its codecs."""
    keys = [AGREEMENT] if curve.unsplit is None else [curve.metric, AGREEMENT]
    drawn = None if record is None else _draw(curve, record)
    found = []
    for codec in curve.codecs:
        rows = [index for index, point in enumerate(curve.points) if point["codec"] == codec]
        lines, draws = {}, {}
        for key in keys:
            values = [curve.points[index][key] for index in rows]
            some = None if drawn is None else drawn[key][:, rows]
            highs = values if some is None else np.maximum(values, np.percentile(some, LEVELS[1], axis=0))
            lines[key] = Line.of([curve.points[index]["payload_bytes"] for index in rows], values, highs)
            if drawn is not None and some is not None:
                unbounded = np.full(len(rows), np.inf)  # a draw is not asked whether it is monotone
                num_bytes = drawn[BYTES][:, rows]
                draws[key] = [Line.of(*one, unbounded) for one in zip(num_bytes, some, strict=True)]
        unsplit_draws = [] if drawn is None else drawn[UNSPLIT].tolist()
        found.append(Series(prefix + codec, curve, lines, draws, unsplit_draws))
    return found


def summarise(series: Sequence[Series], anchor: str) -> list[Merit]:
    """Return the figures of merit of each codec.

    Args:
        series: what is compared.
        anchor: label of the one that the others are compared with.

    Raises:
        UsageError: there is no such label.
    """
    labels = [one.label for one in series]
    if anchor not in labels:
        raise UsageError(f"anchor={anchor}: not among what is evaluated; there are {closest(anchor, labels)}")
    base = series[labels.index(anchor)]
    return [Merit(one.label, _bytes_at_losses(one), {} if one is base else _against(base, one)) for one in series]


def merit_table(merits: Sequence[Merit], anchor: str, metric: str) -> Table:
    """Draw figures of merit as a table for the terminal."""
    table = Table(title=f"Against {anchor}; 95 % by bootstrap over the images")
    table.add_column("codec")
    for loss in LOSSES:
        table.add_column(f"bytes at -{loss:.0%}", justify="right")
    names = {name: title.format(metric) for name, title in TITLES.items()}
    for title in names.values():
        table.add_column(title, justify="right", overflow="fold")
    for merit in merits:
        losses = merit.bytes_at_loss or [Figure(None)] * len(LOSSES)
        table.add_row(
            merit.label,
            *(_show(figure, lambda value: f"{value:,.1f}") for figure in losses),
            *(_show_bd(merit.bd, name) for name in names),
        )
    return table


def _draw(curve: Curve, record: Record) -> dict[str, FloatArray]:
    """Return bytes, metric and agreement (B, P), and the unsplit network's metric (B,), on resampled images."""
    task = task_of_metric(curve.metric)
    draws = record.bootstrap(task, DRAWS, zlib.crc32(os.fsencode("\n".join(record.images))))  # paired between curves
    counted = np.array([point["payload_bytes"] for point in curve.points])  # the record counts frames that go alone
    num_bytes = draws.num_bytes + (counted - record.num_bytes.mean(1))
    return {BYTES: num_bytes, AGREEMENT: draws.agreement, curve.metric: draws.metric, UNSPLIT: draws.unsplit}


def _bytes_at_losses(one: Series) -> list[Figure]:
    return [] if one.curve.unsplit is None else [_bytes_at(one, one.curve.unsplit, loss) for loss in LOSSES]


def _bytes_at(one: Series, unsplit: float, loss: float) -> Figure:
    key = one.curve.metric
    try:
        value = bytes_at(one.lines[key], unsplit - loss)
    except NoFigureError as error:
        return Figure(None, note=str(error))
    if value == one.lines[key].num_bytes.min():
        return Figure(value, note="at most: the coarsest point")
    pairs = zip(one.draws.get(key, []), one.unsplit_draws, strict=False)
    draws = [_or_nan(lambda line=line, whole=whole: bytes_at(line, whole - loss)) for line, whole in pairs]  # type: ignore[misc]
    return Figure(value, _interval([math.inf if math.isnan(draw) else draw for draw in draws]))  # never reached


def _against(base: Series, one: Series) -> dict[str, Figure]:
    found: dict[str, Figure] = {}
    for key in one.lines.keys() & base.lines.keys():
        rate, value = ("bd_rate_at_agreement", "bd_agreement") if key == AGREEMENT else ("bd_rate", "bd_metric")
        found |= {rate: _compare(bd_rate, base, one, key), value: _compare(bd_metric, base, one, key)}
    return found


def _compare(figure: Callable[[Line, Line], float], base: Series, one: Series, key: str) -> Figure:
    try:
        if (base.curve.data, base.curve.num_images) != (one.curve.data, one.curve.num_images):
            raise NoFigureError(f"evaluated on {one.curve.data}, the anchor on {base.curve.data}: other images")
        value = figure(base.lines[key], one.lines[key])
    except NoFigureError as error:
        return Figure(None, note=str(error))
    pairs = zip(base.draws.get(key, []), one.draws.get(key, []), strict=False)
    return Figure(value, _interval([_or_nan(lambda a=a, b=b: figure(a, b)) for a, b in pairs]))  # type: ignore[misc]


def _or_nan(figure: Callable[[], float]) -> float:
    try:
        return figure()
    except NoFigureError:
        return float("nan")


def _interval(draws: Sequence[float]) -> list[float] | None:
    """Return the 95 % interval of a figure; None where it is open, or too many draws have none."""
    values = np.asarray(draws, dtype=np.float64)
    found = values[~np.isnan(values)]
    if not len(found) or len(found) < (1 - MOST_FAILED) * len(values):
        return None
    ends = [float(end) for end in np.percentile(found, LEVELS, method="nearest")]
    return ends if np.isfinite(ends).all() else None


def _show(figure: Figure | None, text: Callable[[float], str]) -> str:
    if figure is None or figure.value is None:
        return (figure and figure.note) or ""
    bound = "≤ " if figure.note else ""
    ends = f" ({text(figure.interval[0])} … {text(figure.interval[1])})" if figure.interval else ""
    return f"{bound}{text(figure.value)}{ends}"


def _show_bd(figures: Mapping[str, Figure], name: str) -> str:
    if not figures:
        return "anchor"
    if name in ("bd_rate", "bd_rate_at_agreement"):
        return _show(figures.get(name), lambda value: f"{value:+.1%}")
    return _show(figures.get(name), lambda value: f"{100 * value:+.2f}")


def merits_as_json(merits: Sequence[Merit], anchor: str) -> dict[str, Any]:
    """Return figures of merit as a JSON-able mapping."""
    return {
        "anchor": anchor,
        "codecs": {
            merit.label: {
                "bytes_at_loss": {
                    repr(loss): vars(figure) for loss, figure in zip(LOSSES, merit.bytes_at_loss, strict=False)
                },
                **{name: vars(merit.bd[name]) if name in merit.bd else None for name in TITLES},
            }
            for merit in merits
        },
    }
