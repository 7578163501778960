"""What the images show."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from bottlenecks.evaluation.curve import Curve
from bottlenecks.evaluation.interactive import chart
from bottlenecks.evaluation.plot import COLOURS, draw, draw_work, save

NAMES = ("unit", "spic", "lightweight", "hevc", "uniform", "jpeg", "webp", "av1", "hevc_image", "png")


@pytest.fixture
def many(make_curve: Callable[..., Curve]) -> Curve:
    """Ten codecs, rates a factor of two apart."""
    steps = ((1, 0.7), (2, 0.8), (3, 0.87), (5, 0.895))
    return make_curve(*((name, 10 * 2**k * f, a) for k, name in enumerate(NAMES) for f, a in steps))


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def test_every_line_has_its_points_its_label_and_a_look_of_its_own(many: Curve) -> None:
    figure = draw({"": many})
    axes = figure.axes[0]
    assert set(NAMES) <= set(texts(figure)) and "unsplit\n90.0%" in texts(figure)
    lines = [container.lines[0] for container in axes.containers]
    assert [line.get_xdata()[0] for line in lines] == [10 * 2**k for k in range(10)]
    looks = {(line.get_color(), line.get_marker(), line.get_linestyle()) for line in lines}
    assert len(looks) == 10 and {look[0] for look in looks} == set(COLOURS)
    assert axes.get_xscale() == "log"


def test_labels_do_not_cover_one_another(many: Curve) -> None:
    figure = draw({"": many})
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts if text.get_text() in NAMES]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_error_bars_are_the_intervals(make_curve: Callable[..., Curve]) -> None:
    curve = make_curve(("unit", 10, 0.8), ("unit", 20, 0.85))
    for point in curve.points:
        point["interval"] = [point["accuracy"] - 0.03, point["accuracy"] + 0.01]
    (container,) = draw({"": curve}).axes[0].containers
    (segments,) = (bars.get_segments() for bars in container.lines[2])
    assert np.allclose([segment[:, 1] for segment in segments], [[0.77, 0.81], [0.82, 0.86]])


def test_few_lines_tell_their_settings(make_curve: Callable[..., Curve]) -> None:
    assert {"10", "20", "unit"} <= set(texts(draw({"": make_curve(("unit", 10, 0.8), ("unit", 20, 0.85))})))


def test_work_is_drawn_with_its_front(make_curve: Callable[..., Curve]) -> None:
    curves = {
        "early: ": make_curve(("unit", 100, 0.9), split="a", macs=10**6),
        "middle: ": make_curve(("unit", 300, 0.9), split="b", macs=2 * 10**6),
        "late: ": make_curve(("unit", 10, 0.9), ("poor", 10, 0.1), split="c", macs=4 * 10**6),
    }
    figure = draw_work(curves)
    axes = figure.axes[0]
    dots = [(line.get_xdata()[0], line.get_ydata()[0]) for line in axes.lines[:3]]
    assert dots == [(1, 100), (2, 300), (4, 10)]
    assert list(axes.lines[3].get_ydata()) == [100, 100, 10]
    assert "late: poor" in axes.get_title() and {"early: unit", "late: unit"} <= set(texts(figure))
    assert draw_work({"": make_curve(("poor", 1, 0.1))}) is None


def test_several_splits_have_a_front(make_curve: Callable[..., Curve]) -> None:
    curves = {"a: ": make_curve(("unit", 10, 0.8), ("unit", 40, 0.9)), "b: ": make_curve(("unit", 20, 0.7))}
    front = draw(curves, front=True).axes[0].lines
    steps = [line for line in front if line.get_linewidth() == 5]
    assert [list(step.get_xdata()) for step in steps] == [[10, 40]]


def test_files_are_written_as_image_and_as_text(many: Curve, tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        save(draw({"": many}), tmp_path / folder / "curve")
    assert (tmp_path / "one/curve.png").read_bytes().startswith(b"\x89PNG")
    drawing = (tmp_path / "one/curve.svg").read_text()
    assert ">lightweight<" in drawing and drawing == (tmp_path / "two/curve.svg").read_text()


def test_the_chart_has_the_same_lines(many: Curve) -> None:
    figure = chart({"": many})
    assert [trace.name for trace in figure.data] == list(NAMES)
    assert list(figure.data[3].x) == [80, 160, 240, 400] and figure.layout.xaxis.type == "log"
