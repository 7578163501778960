"""Labels that stand beside their lines, where they cover least."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.transforms import Bbox

FONT_SIZE = 9  # points
CHARACTER = 0.62  # of the font size, width
HEIGHTS = (5, -12, 17, -24, 29, -36, 41, -48, 53, -60)  # points above the one that is labelled, the nearest first
OFFSETS = tuple((right, up, side) for up in HEIGHTS for right, side in ((6, "left"), (-6, "right")))
# What it costs to cover another label, to leave the axes, to cover a place on a line, and each point of distance.
OVERLAP, OUTSIDE, POINT, FAR = 10.0, 20.0, 1.0, 0.08

Labelled = tuple[str, Sequence[float], Sequence[float], str]


def place_labels(axes: Axes, lines: Sequence[Labelled]) -> None:
    """Write each line's label beside one of its points, each in turn where it covers least.

    Args:
        axes: already drawn, with its final scales.
        lines: label, x, y and colour of each.
    """
    axes.autoscale_view()
    positions = [axes.transData.transform(np.column_stack(line[1:3])) for line in lines]
    dots = np.concatenate([_dense(one) for one in positions])
    placed: list[Bbox] = []
    for (label, *_, colour), own in zip(lines, positions, strict=True):
        choices = [(point, offset) for point in own for offset in OFFSETS]
        boxes = [_box(axes, label, point, offset) for point, offset in choices]
        costs = [_cost(axes, box, placed, dots) for box in boxes]
        best = int(np.argmin([cost + FAR * abs(offset[1]) for cost, (_, offset) in zip(costs, choices, strict=True)]))
        point, (right, up, side) = choices[best]
        placed.append(boxes[best])
        axes.annotate(
            label,
            tuple(axes.transData.inverted().transform(point)),
            xytext=(right, up),
            textcoords="offset points",
            ha=side,
            fontsize=FONT_SIZE,
            color=colour,
            bbox={"facecolor": "white", "alpha": 0.6, "edgecolor": "none", "pad": 0.5},
        )


def _box(axes: Axes, label: str, point: npt.NDArray[np.floating], offset: tuple[int, int, str]) -> Bbox:
    scale = axes.figure.dpi / 72
    right, up, side = offset
    width, height = len(label) * FONT_SIZE * CHARACTER * scale, FONT_SIZE * scale
    left = point[0] + right * scale - (width if side == "right" else 0)
    bottom = point[1] + up * scale
    return Bbox.from_bounds(left, bottom, width, height)


def _cost(axes: Axes, box: Bbox, placed: Sequence[Bbox], dots: npt.NDArray[np.floating]) -> float:
    inside = ((dots >= box.min) & (dots <= box.max)).all(1).sum()
    outside = not (axes.bbox.fully_contains(*box.min) and axes.bbox.fully_contains(*box.max))
    return OVERLAP * box.count_overlaps(placed) + OUTSIDE * outside + POINT * float(inside)


def _dense(points: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """Return points along the line, so that covering it counts too."""
    if len(points) < 2:
        return points
    shares = np.linspace(0, 1, 12)[:, None]
    return np.concatenate([start + shares * (end - start) for start, end in itertools.pairwise(points)])
