"""Images of curves: the metric over bytes, and bytes over the device's work."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, PercentFormatter

from bottlenecks.evaluation.labels import place_labels
from bottlenecks.evaluation.merit import Line, NoFigureError, bytes_at
from bottlenecks.files import write_atomically
from bottlenecks.settings.evaluation import FRAME, FRAMINGS

if TYPE_CHECKING:
    from bottlenecks.evaluation.curve import Curve

# Okabe and Ito's palette, told apart by colour-blind readers; marker and dashes change as it comes round again.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ("-", "--", ":")
FEW = 2  # lines whose every point is labelled with its setting
LOSS = 0.01  # from the unsplit network, at which bytes are compared with work


@dataclass(frozen=True)
class Trace:
    """One line of a plot.

    Attributes:
        label: of the codec, with what tells its curve from others.
        curve: that it is of.
        points: from few bytes to many.
        style: colour, marker and dashes.
    """

    label: str
    curve: Curve
    points: list[dict[str, Any]]
    style: dict[str, Any]

    @property
    def num_bytes(self) -> list[float]:
        """Mean bytes of each point."""
        return [point["payload_bytes"] for point in self.points]

    def values(self, key: str) -> list[float]:
        """A figure of each point."""
        return [point[key] for point in self.points]

    def errors(self, key: str) -> tuple[list[float], list[float]]:
        """How far the interval of each point reaches below and above it; nothing where there is none."""
        values = self.values(key)
        ends = [(key == self.curve.metric and point.get("interval")) or None for point in self.points]
        below = [max(0.0, value - end[0]) if end else 0.0 for value, end in zip(values, ends, strict=True)]
        above = [max(0.0, end[1] - value) if end else 0.0 for value, end in zip(values, ends, strict=True)]
        return below, above


def traces(curves: Mapping[str, Curve]) -> list[Trace]:
    """Return every codec of every curve a style of its own.

    Args:
        curves: by what their codecs' labels begin with; "" where there is one.
    """
    styles = _styles()
    return [
        Trace(
            prefix + codec,
            curve,
            sorted((point for point in curve.points if point["codec"] == codec), key=lambda one: one["payload_bytes"]),
            next(styles),
        )
        for prefix, curve in curves.items()
        for codec in curve.codecs
    ]


def draw(curves: Mapping[str, Curve], front: bool = False, framing: str = FRAME) -> Figure:
    """Draw the task's metric over the bytes of an image, a line a codec, with the unsplit network's as a line across.

    Images without labels are evaluated by agreement.

    Args:
        curves: by what their codecs' labels begin with; "" where there is one.
        front: draw the Pareto front of all of them, too.
        framing: that their bytes are counted in.
    """
    lines = traces(curves)
    key = metric_key(curves)
    figure = Figure(figsize=(7.2, 4.8), layout="constrained")
    axes = figure.add_subplot()
    for trace in lines:
        _draw_line(axes, trace, key)
    if front:
        _draw_front(axes, lines, key)
    for value in unsplit_values(curves):
        axes.axhline(value, color="0.4", linestyle="--", linewidth=1, zorder=0)
        axes.text(1.01, value, f"unsplit\n{value:.1%}", transform=axes.get_yaxis_transform(), va="center", fontsize=9)
    _rate_axis(axes.xaxis)
    axes.set_xlabel(f"bytes on the wire {FRAMINGS[framing]}")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_ylabel("agreement with the unsplit network" if key == "agreement" else f"{key} (95 % confidence)")
    axes.set_title(title(curves), fontsize=10)
    _finish(axes)
    place_labels(axes, [(t.label, t.num_bytes, t.values(key), t.style["color"]) for t in lines])
    if len(lines) <= FEW:
        _label_settings(axes, lines, key)
    return figure


def draw_work(curves: Mapping[str, Curve], framing: str = FRAME) -> Figure | None:
    """Draw the bytes that stay within 1 point of the unsplit network over the device's multiply-accumulates.

    The line is the Pareto front: no codec needs both fewer bytes and less work than those on it.

    Returns:
        None where no codec stays within 1 point, or nothing was labelled.
    """
    figure = Figure(figsize=(7.2, 4.8), layout="constrained")
    axes = figure.add_subplot()
    found, missed = [], []
    for trace in traces(curves):
        try:
            found.append((trace, work_of(trace), bytes_within(trace, LOSS)))
        except NoFigureError:
            missed.append(trace.label)
    if not found:
        return None
    for trace, work, num_bytes in found:
        axes.plot(work, num_bytes, markersize=7, **{**trace.style, "linestyle": "none"})
    steps = np.array(sorted((work, num_bytes) for _, work, num_bytes in found))
    best = np.minimum.accumulate(steps[:, 1])
    axes.step(steps[:, 0], best, where="post", color="0.7", linewidth=3, zorder=0)
    axes.set_xlim(left=-0.03 * max(steps[-1, 0], 1), right=1.1 * max(steps[-1, 0], 1))
    _rate_axis(axes.yaxis)
    axes.set_xlabel("device's multiply-accumulates per image, millions")
    axes.set_ylabel(f"bytes {FRAMINGS[framing]}, within {100 * LOSS:g} point of unsplit")
    note = f"\nnot within {100 * LOSS:g} point at any rate: {', '.join(missed)}" if missed else ""
    axes.set_title(title(curves) + note, fontsize=10)
    _finish(axes)
    place_labels(axes, [(t.label, [work], [num_bytes], t.style["color"]) for t, work, num_bytes in found])
    return figure


def bytes_within(trace: Trace, loss: float) -> float:
    """Return the fewest bytes within a loss of the unsplit network.

    Raises:
        NoFigureError: it is reached nowhere.
    """
    if trace.curve.unsplit is None:
        raise NoFigureError("nothing was labelled")
    return bytes_at(Line.of(trace.num_bytes, trace.values(trace.curve.metric)), trace.curve.unsplit - loss)


def work_of(trace: Trace) -> float:
    """Return the device's multiply-accumulates of a codec, in millions."""
    return max(trace.values("device_macs")) / 1e6


def metric_key(curves: Mapping[str, Curve]) -> str:
    """Name what is drawn: the metric, or agreement where nothing was labelled."""
    first = next(iter(curves.values()))
    return first.metric if all(curve.unsplit is not None for curve in curves.values()) else "agreement"


def unsplit_values(curves: Mapping[str, Curve]) -> list[float]:
    """Return the unsplit networks' values of the metric, where it is what is drawn."""
    if metric_key(curves) == "agreement":
        return []
    return sorted({curve.unsplit for curve in curves.values() if curve.unsplit is not None})


def title(curves: Mapping[str, Curve]) -> str:
    """Return what curves are of; what tells them apart is in the labels."""
    models, splits, data = (
        dict.fromkeys(str(getattr(curve, name)) for curve in curves.values()) for name in ("model", "split", "data")
    )
    counts = dict.fromkeys(str(curve.num_images) for curve in curves.values())
    return f"{', '.join(models)} at {', '.join(splits)}, {' and '.join(counts)} images of {', '.join(data)}"


def save(figure: Figure, stem: Path) -> None:
    """Write a figure as PNG and SVG; its text stays text, and is laid out once."""
    for suffix, options in ((".png", {"dpi": 150}), (".svg", {"metadata": {"Date": None}})):
        buffer = io.BytesIO()
        with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": stem.name}):
            figure.savefig(buffer, format=suffix[1:], **options)
        figure.set_layout_engine("none")
        write_atomically(stem.with_suffix(suffix), buffer.getvalue())


def _styles() -> Iterator[dict[str, Any]]:
    for index in itertools.count():
        turn = index // len(COLOURS)
        yield {
            "color": COLOURS[index % len(COLOURS)],
            "marker": MARKERS[(index + turn) % len(MARKERS)],
            "linestyle": DASHES[turn % len(DASHES)],
        }


def _draw_line(axes: Axes, trace: Trace, key: str) -> None:
    look = {"markersize": 4, "capsize": 2, "linewidth": 1.4, "elinewidth": 0.6, **trace.style}
    axes.errorbar(trace.num_bytes, trace.values(key), yerr=trace.errors(key), **look)


def _draw_front(axes: Axes, lines: Sequence[Trace], key: str) -> None:
    num_bytes = [one for trace in lines for one in trace.num_bytes]
    front = Line.of(num_bytes, [value for trace in lines for value in trace.values(key)]).front()
    axes.step(front.num_bytes, front.values, where="post", color="0.8", linewidth=5, zorder=0)


def _label_settings(axes: Axes, lines: Sequence[Trace], key: str) -> None:
    for trace in lines:
        for point in trace.points:
            axes.annotate(
                point["setting"].removeprefix("lambda="),
                (point["payload_bytes"], point[key]),
                xytext=(5, -11),
                textcoords="offset points",
                fontsize=8,
                color=trace.style["color"],
            )


def _rate_axis(axis: Any) -> None:
    axis.axes.set_xscale("log") if axis.axis_name == "x" else axis.axes.set_yscale("log")
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axis.set_minor_formatter(NullFormatter())


def _finish(axes: Axes) -> None:
    axes.grid(True, which="major", color="0.92")
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.08, y=0.08)
