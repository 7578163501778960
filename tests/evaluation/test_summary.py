"""Figures of a whole curve, their intervals, and who is compared with whom."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom

from bottlenecks.errors import UsageError
from bottlenecks.evaluation import record as records
from bottlenecks.evaluation.curve import Curve
from bottlenecks.evaluation.record import Record, interval
from bottlenecks.evaluation.report import Report
from bottlenecks.evaluation.summary import merits_as_json, series_of, summarise
from bottlenecks.tasks import Classification

RecordOf = Callable[[Curve], Record]


def test_half_the_bytes_is_found_with_a_tight_paired_interval(two: Curve, record_of: RecordOf) -> None:
    full, half = summarise(series_of(two, record_of(two)), "full")
    assert full.bd == {} and full.bytes_at_loss[0].value == pytest.approx(1600, rel=1e-6)
    assert half.bd["bd_rate"].value == pytest.approx(-0.5)
    low, high = half.bd["bd_rate"].interval
    assert low <= half.bd["bd_rate"].value <= high and high - low < 0.02  # unpaired, bytes alone would spread as much
    assert half.bd["bd_metric"].value > 0


def test_without_a_record_there_are_figures_and_no_intervals(two: Curve) -> None:
    _, half = summarise(series_of(two, None), "full")
    assert half.bd["bd_rate"].value == pytest.approx(-0.5) and half.bd["bd_rate"].interval is None


def test_a_loss_that_is_not_reached_is_said(make_curve: Callable[..., Curve]) -> None:
    curve = make_curve(("poor", 10, 0.5), ("poor", 20, 0.6), ("good", 5, 0.89))
    poor, good = summarise(series_of(curve, None), "poor")
    assert poor.bytes_at_loss[0].value is None and "not reached: 60.0%" in poor.bytes_at_loss[0].note
    assert good.bytes_at_loss[1].value == 5 and "at most" in good.bytes_at_loss[1].note
    assert good.bd["bd_rate"].value is None and "anchor: only 2 of its points rise" in good.bd["bd_rate"].note
    json.dumps(merits_as_json([poor, good], "poor"), allow_nan=False)


def test_what_was_learnt_is_one_sentence(two: Curve, make_curve: Callable[..., Curve], tmp_path: Path) -> None:
    report = Report({"": two}, {}, "half")
    sentence = "half is within 1 point of the whole network for 800.0 bytes an image"
    assert report.headline == f"{sentence}; full takes 1,600.0 bytes, 2 times as many"
    report.write(tmp_path)
    assert (tmp_path / "report.md").read_text().startswith(f"{sentence};")
    poor = make_curve(("poor", 10, 0.5), ("good", 5, 0.89))
    assert Report({"": poor}, {}, "poor").headline is None
    assert Report({"": poor}, {}, "good").headline == (
        "good is within 1 point of the whole network for at most 5.0 bytes an image; poor never gets there"
    )


def test_an_anchor_that_is_not_evaluated_lists_what_is(two: Curve) -> None:
    with pytest.raises(UsageError, match=r"anchor=jpeg: not among what is evaluated; there are .*(half|full)"):
        summarise(series_of(two, None), "jpeg")


def test_bootstrap_intervals_are_the_binomials(two: Curve, record_of: RecordOf) -> None:
    record = record_of(two)
    right = record.statistics[0, :, 0]
    low, high = interval(record.bootstrap(Classification(), 4000).metric[:, 0])
    expected = binom.ppf([0.025, 0.975], len(right), right.mean()) / len(right)
    assert (low, high) == pytest.approx(expected, abs=0.004)


def test_draws_do_not_depend_on_how_many_are_held_at_once(
    two: Curve, record_of: RecordOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = record_of(two).bootstrap(Classification(), 100)
    monkeypatch.setattr(records, "MOST_WEIGHTS", 7 * 500)
    again = record_of(two).bootstrap(Classification(), 100)
    assert all(np.allclose(one, other) for one, other in zip(again, whole, strict=True))


def test_the_same_images_are_drawn_for_every_codec(two: Curve, record_of: RecordOf) -> None:
    full, half = series_of(two, record_of(two))
    assert full.unsplit_draws == half.unsplit_draws
    for first, second in zip(full.draws["accuracy"], half.draws["accuracy"], strict=True):
        assert np.allclose(first.num_bytes, 2 * second.num_bytes) and np.allclose(first.values, second.values)


def test_a_record_written_is_the_record_read(two: Curve, record_of: RecordOf, tmp_path: Path) -> None:
    record = record_of(two)
    record.write(tmp_path / "images.npz")
    again = Record.read(tmp_path / "images.npz")
    assert again.images == record.images and again.belongs_to(two.points)
    assert all(np.array_equal(getattr(again, name), getattr(record, name)) for name in ("statistics", "unsplit"))
    with np.load(tmp_path / "images.npz") as file:
        names = {"images": "pictures", "statistics": "evidence"}  # as records were written before
        np.savez(tmp_path / "pictures.npz", **{names.get(name, name): file[name] for name in file})
    assert np.array_equal(Record.read(tmp_path / "pictures.npz").statistics, record.statistics)
    (tmp_path / "images.npz").write_bytes(b"no archive")
    with pytest.raises(UsageError, match=r"images\.npz: no readable record"):
        Record.read(tmp_path / "images.npz")


def test_unlabelled_images_are_compared_by_agreement(two: Curve, record_of: RecordOf, tmp_path: Path) -> None:
    points = [{**point, "accuracy": None} for point in two.points]
    unlabelled = replace(two, unsplit=None, points=points)
    report = Report({"": unlabelled}, {"": record_of(two)})
    report.write(tmp_path)
    half = json.loads((tmp_path / "merit.json").read_text())["codecs"]["half"]
    assert half["bytes_at_loss"] == {} and half["bd_rate"] is None
    assert half["bd_rate_at_agreement"]["value"] == pytest.approx(-0.5)
    assert "](curve.svg)" in (tmp_path / "report.md").read_text() and len(report.tables()) == 2
    assert (tmp_path / "curve.svg").exists() and not (tmp_path / "work.png").exists()
