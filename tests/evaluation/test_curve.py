"""The curve's files and its table."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from bottlenecks.errors import UsageError
from bottlenecks.evaluation.curve import Curve


@pytest.fixture
def curve(trained: Path) -> Curve:
    return Curve.read(trained / "results/tiny/body/digits/curve.json")


def test_a_curve_written_is_the_curve_read(curve: Curve, tmp_path: Path) -> None:
    curve.write(tmp_path)
    assert Curve.read(tmp_path / "curve.json") == curve


def test_unlabelled_images_have_nulls(curve: Curve, tmp_path: Path) -> None:
    points = [{**point, "accuracy": None, "interval": None} for point in curve.points]
    unlabelled = replace(curve, unsplit=None, unsplit_interval=None, points=points)
    unlabelled.write(tmp_path)
    assert json.loads((tmp_path / "curve.json").read_text())["unsplit"] is None
    assert Curve.read(tmp_path / "curve.json") == unlabelled
    assert unlabelled.table().row_count == 3


@pytest.mark.parametrize("content", [None, "{", '{"model": "x"}'])
def test_what_is_no_curve_is_named(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "curve.json").write_text(content)
    with pytest.raises(UsageError, match=r"curve.json: no readable curve .* evaluate.py"):
        Curve.read(tmp_path / "curve.json")
