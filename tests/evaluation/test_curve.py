"""The curve's intervals against an independent oracle, its files, and its picture."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from scipy.stats import binomtest

from bottlenecks.errors import UsageError
from bottlenecks.evaluation.curve import Curve, wilson
from bottlenecks.evaluation.plot import draw


@pytest.fixture
def curve(trained: Path) -> Curve:
    return Curve.read(trained / "results/tiny/body/digits/curve.json")


@pytest.mark.parametrize(("successes", "count"), [(0, 10), (10, 10), (388, 397), (1, 3), (500, 1000)])
def test_intervals_are_wilsons(successes: int, count: int) -> None:
    expected = binomtest(successes, count).proportion_ci(0.95, method="wilson")
    assert wilson(successes / count, count) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_a_curve_written_is_the_curve_read(curve: Curve, tmp_path: Path) -> None:
    curve.write(tmp_path)
    assert Curve.read(tmp_path / "curve.json") == curve


def test_unlabelled_pictures_have_nulls_and_are_drawn_by_agreement(curve: Curve, tmp_path: Path) -> None:
    points = [{**point, "accuracy": None} for point in curve.points]
    unlabelled = replace(curve, unsplit=None, points=points)
    unlabelled.write(tmp_path)
    assert json.loads((tmp_path / "curve.json").read_text())["unsplit"] is None
    assert "agreement" in draw(unlabelled).axes[0].get_ylabel()
    assert unlabelled.table().row_count == 3


def test_the_picture_shows_every_point_and_the_unsplit_network(curve: Curve) -> None:
    axes = draw(curve).axes[0]
    line = axes.lines[0]
    assert list(line.get_xdata()) == sorted(point["payload_bytes"] for point in curve.points)
    texts = [text.get_text() for text in axes.texts]
    assert {"0.003", "0.03", "unit"} <= set(texts)
    assert any(text.startswith("unsplit") for text in texts)


@pytest.mark.parametrize("content", [None, "{", '{"model": "x"}'])
def test_what_is_no_curve_is_named(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "curve.json").write_text(content)
    with pytest.raises(UsageError, match=r"curve.json: no readable curve .* evaluate.py"):
        Curve.read(tmp_path / "curve.json")
