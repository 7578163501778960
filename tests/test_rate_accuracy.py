"""The comparison on five cases: parts that are made once and kept, and what is written of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import rate_accuracy
from benchmarks.against import levels_where_dearer
from benchmarks.cases import CASES, DATA, UNITS, Case, Part, parts_of
from benchmarks.cells import cell, number
from benchmarks.parts import PART, place_of
from benchmarks.rate_accuracy import absent, make, make_all
from benchmarks.results import Outcome, write_results
from bottlenecks.errors import UsageError
from bottlenecks.evaluation.curve import Curve
from bottlenecks.evaluation.merit import Line
from bottlenecks.evaluation.summary import AGREEMENT, Figure, Series
from bottlenecks.settings.rates import parse_lambdas
from tests.conftest import TINY, quiet
from tests.conftest import configure as compose

TINY_CASE = Case(
    "tiny",
    "Tiny, at `body`",
    (*quiet(TINY), "data=digits", "data.limit_train=128", "data.limit_test=40"),
    former=("unit.latent_channels=8", "training.epochs=1", "lambda=[0.003,0.03]"),
    backbone=("backbone.epochs=2",),
    evaluating=("calibration_images=8", "timed_images=2", "workers=0"),
    agreement=0.9,
)
CODECS = ("factorized", "uniform", "jpeg")


@pytest.fixture(scope="module")
def out(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three parts of one case, made by the real commands."""
    folder = tmp_path_factory.mktemp("parts")
    shutil.copytree(trained / "checkpoints/tiny/backbone", folder / "checkpoints/tiny/backbone")
    for codec in CODECS:
        make(Part(TINY_CASE, codec), folder, folder, folder)
    return folder


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_command_of_a_case_composes(case: Case, tmp_path: Path) -> None:
    parts = list(parts_of(case))
    assert len({part.label for part in parts}) == len(parts)
    for part in [one for one in parts if one.codec in (*UNITS, CODECS[-1])]:  # of other codecs one says as much
        composed = {
            name: compose(name, tmp_path, *(one.replace(DATA, str(tmp_path)) for one in arguments))
            for name, arguments in part.commands().items()
        }
        assert composed["evaluate"].codecs == [part.label]
        if "train" in composed:
            assert composed["train"].unit.name == part.label and composed["train"].seed == part.seed
            lambdas = parse_lambdas(composed["train"]["lambda"])
            assert len(lambdas) == 2 if part.codec == "range" else len(lambdas) >= 4


@pytest.mark.slow
def test_a_finished_part_is_kept_and_one_of_other_settings_made_again(
    out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = []
    rates = [*(out / "checkpoints/tiny/body").rglob("*.safetensors")]
    stray = rates[0].with_name("lambda=9.0.safetensors")
    stray.touch()
    monkeypatch.setattr(rate_accuracy, "train", lambda cfg: asked.append(cfg.stage) or dict.fromkeys(rates))
    monkeypatch.setattr(rate_accuracy, "evaluate", lambda cfg: asked.append(list(cfg.codecs)))
    make(Part(TINY_CASE, "factorized"), out, out, out)
    assert asked == [] and "finished with these very settings" in capsys.readouterr().out
    content = (out / "tiny/factorized" / PART).read_text()
    changed = content.replace("training.epochs=1", "training.epochs=3")
    assert changed != content
    (out / "tiny/factorized" / PART).write_text(changed)
    assert place_of(Part(TINY_CASE, "factorized"), out, out) is None  # nor is it joined with those of other settings
    make(Part(TINY_CASE, "factorized"), out, out, out)
    assert asked == ["backbone", "unit", ["factorized"]]
    assert not stray.exists() and all(path.exists() for path in rates)
    assert json.loads((out / "tiny/factorized" / PART).read_text())["commands"] == json.loads(content)["commands"]
    (out / "tiny/factorized" / PART).write_text(content)


def test_a_case_without_data_is_told_and_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    camvid = next(case for case in CASES if case.name == "camvid")
    make_all([camvid], None, None, tmp_path, tmp_path / "out", tmp_path)
    assert f"Left out camvid: {tmp_path / 'camvid'} is not there" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()
    (tmp_path / "camvid").mkdir()
    assert absent(camvid, tmp_path) == []


@pytest.mark.slow
def test_what_came_out_is_written(out: Path, tmp_path: Path) -> None:
    write_results([TINY_CASE], out, tmp_path)
    text, folder = (tmp_path / "results.md").read_text(), tmp_path / "results/tiny"
    assert {path.name for path in folder.iterdir()} >= {"curve.json", "curve.svg", "merit.json", "report.md"}
    curve, merit = Curve.read(folder / "curve.json"), json.loads((folder / "merit.json").read_text())
    assert curve.codecs == list(CODECS) and len({point["lambda"] for point in curve.points}) == 3
    (row,) = (line for line in text.splitlines() if line.startswith("| `jpeg`"))
    cells = [one.strip() for one in row.strip("|").split("|")]
    figure = merit["codecs"]["jpeg"]["bytes_at_loss"]["0.01"]
    assert cells[1] == cell([Figure(**figure)], number) and cells[5] == ""
    highest = max(point["agreement"] for point in curve.points if point["codec"] == "jpeg")
    assert cells[3] == f"{highest:.1%}"
    seconds = json.loads((out / "tiny/factorized" / PART).read_text())["seconds"]["train"]
    (row,) = (line for line in text.splitlines() if line.startswith("| `factorized`"))
    assert row.endswith(f"| {seconds:,.0f} |")
    assert "python train.py $N unit=factorized unit.name=factorized seed=0" in text
    assert "Not measured so far: `transform`, `transform-1`, `transform-2`, `closed`, `range`, `hevc`," in text
    assert "- Bytes within 1 point in a session, all in: `factorized` " in text
    assert "codecs=[factorized,uniform,jpeg]" in text and f"unsplit {curve.unsplit:.1%}" in text


@pytest.mark.slow
def test_parts_are_kept_beside_the_results_and_joined_with_later_ones(out: Path, tmp_path: Path) -> None:
    elsewhere, docs = tmp_path / "elsewhere", tmp_path / "docs"
    (shutil.copytree(out, elsewhere) / "tiny/jpeg" / PART).unlink()
    write_results([TINY_CASE], elsewhere, docs)
    shutil.rmtree(elsewhere)
    make(Part(TINY_CASE, "factorized"), tmp_path, elsewhere, docs)  # kept, or it would take a network
    assert not elsewhere.exists()
    shutil.copytree(out / "tiny/jpeg", elsewhere / "tiny/jpeg")
    other = replace(TINY_CASE, name="other", title="Other")
    (docs / "results.md").write_text(
        (docs / "results.md").read_text() + f"\n| Other |{6 * ' x |'}\n\n## Other\n\nkept\n"
    )
    write_results([TINY_CASE, other], elsewhere, docs)
    written, joined = (docs / "results.md").read_text(), Outcome.read(TINY_CASE, out, out)
    assert joined is not None and "".join(joined.section()) in written
    assert "| Other | x |" in written and written.endswith("## Other\n\nkept\n")


@pytest.mark.slow
def test_parts_that_do_not_belong_together_are_refused(out: Path, tmp_path: Path) -> None:
    shutil.copytree(out / "tiny", tmp_path / "tiny")
    (path,) = (tmp_path / "tiny/jpeg").rglob("curve.json")
    path.write_text(path.read_text().replace('"data": "digits"', '"data": "others"'))
    with pytest.raises(UsageError, match="the parts there were evaluated on different images or with"):
        Outcome.read(TINY_CASE, tmp_path, tmp_path)
    with pytest.raises(UsageError, match="no part is finished there"):
        write_results(CASES, tmp_path, tmp_path)


@pytest.mark.parametrize(
    ("figures", "expected"),
    [
        ([], ""),
        ([Figure(None, note="not reached: 60.0% at the most")], "not reached: 60.0% at the most"),
        ([Figure(12.34)], "12.3"),
        ([Figure(1234.5, [1100.0, 1400.0])], "1,234 (1,100 … 1,400)"),
        ([Figure(50.0, note="at most: the coarsest point")], "≤ 50.0"),
        ([Figure(10.0, [8.0, 12.0]), Figure(14.0, [9.0, 15.0]), Figure(12.0)], "12.0 ± 2.0 (8.0 … 15.0)"),
        ([Figure(10.0), Figure(None, note="not reached")], "≤ 10.0, 1 of 2"),
    ],
)
def test_figures_of_several_seeds_become_one(figures: Sequence[Figure], expected: str) -> None:
    assert cell(figures, number) == expected


def series(label: str, num_bytes: Sequence[float], values: Sequence[float], shifts: Sequence[float]) -> Series:
    """Make a codec whose resampled curves have so many times the bytes."""
    lines = [Line.of([shift * one for one in num_bytes], values) for shift in (1, *shifts)]
    curve = Curve("tiny", "body", "digits", 40, None, {}, "accuracy", None, [])
    return Series(label, curve, {AGREEMENT: lines[0]}, {AGREEMENT: lines[1:]}, [])


def test_more_bytes_count_where_the_paired_interval_says_so() -> None:
    values, chance = [0.6, 0.8, 0.95], [1 + index / 100 for index in range(-10, 11)]
    theirs = series("theirs", [100, 200, 400], values, chance)
    assert levels_where_dearer(series("twice", [200, 400, 800], values, chance), theirs) == list(range(70, 96))
    assert levels_where_dearer(series("half", [50, 100, 200], values, chance), theirs) == []
    within = series("within", [101, 202, 404], values, chance[::-1])  # sometimes more, sometimes fewer
    assert levels_where_dearer(within, theirs) == []
    short = series("short", [50, 100, 110], [0.6, 0.8, 0.9], chance)
    assert levels_where_dearer(short, theirs) == [91, 92, 93, 94, 95]  # where it does not reach, they do
