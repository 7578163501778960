"""The picture of a curve."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, PercentFormatter

from bottlenecks.evaluation.curve import Curve
from bottlenecks.weights import write_atomically

# Okabe and Ito's palette, told apart by colour-blind readers; the first is kept for units.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def draw(curve: Curve) -> Figure:
    """Draw the task's metric over the bytes of an image, a line a codec, with the unsplit network's as a line across.

    Pictures without labels are judged by agreement.
    """
    key = curve.metric if curve.unsplit is not None else "agreement"
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for index, codec in enumerate(dict.fromkeys(point["codec"] for point in curve.points)):
        points = [point for point in curve.points if point["codec"] == codec]
        _line(axes, curve, sorted(points, key=lambda point: point["payload_bytes"]), key, COLOURS[index % 7])
    if curve.unsplit is not None:
        axes.axhline(curve.unsplit, color="0.4", linestyle="--", linewidth=1)
        axes.text(
            1.01, curve.unsplit, f"unsplit\n{curve.unsplit:.1%}", transform=axes.get_yaxis_transform(), va="center"
        )
    _label(axes, curve, key)
    return figure


def save_picture(curve: Curve, path: Path) -> None:
    """Draw a curve into a PNG file."""
    buffer = io.BytesIO()
    draw(curve).savefig(buffer, format="png", dpi=150)
    write_atomically(path, buffer.getvalue())


def _line(axes: Axes, curve: Curve, points: list[dict[str, Any]], key: str, colour: str) -> None:
    rates = [point["payload_bytes"] for point in points]
    values = [point[key] for point in points]
    intervals = [curve.interval(value) or (value, value) for value in values]
    below = [value - low for value, (low, _) in zip(values, intervals, strict=True)]
    above = [high - value for value, (_, high) in zip(values, intervals, strict=True)]
    axes.errorbar(rates, values, yerr=[below, above], color=colour, marker="o", markersize=4, capsize=2, linewidth=1.5)
    for point in points:
        axes.annotate(
            point["setting"].removeprefix("lambda="),
            (point["payload_bytes"], point[key]),
            xytext=(5, -11),
            textcoords="offset points",
            fontsize=8,
            color=colour,
        )
    axes.annotate(points[-1]["codec"], (rates[-1], values[-1]), xytext=(7, 5), textcoords="offset points", color=colour)


def _label(axes: Axes, curve: Curve, key: str) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_xlabel("bytes on the wire per image")
    axes.set_ylabel(f"{key} (95 % confidence)")
    axes.set_title(f"{curve.model} at {curve.split}, {curve.num_images} pictures of {curve.data}", fontsize=10)
    axes.grid(True, which="both", color="0.92")
    axes.margins(x=0.15)
