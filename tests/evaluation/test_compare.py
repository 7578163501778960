"""Several curves put together from their files."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bottlenecks.errors import UsageError
from bottlenecks.evaluation.compare import combine, main
from bottlenecks.evaluation.curve import Curve
from bottlenecks.evaluation.record import Record


@pytest.fixture
def paths(two: Curve, record_of: Callable[[Curve], Record], tmp_path: Path) -> list[Path]:
    """The same curve at two splits; only the first has a record."""
    found = []
    for split in ("layer2", "layer3"):
        folder = tmp_path / "results/tiny" / split / "digits"
        folder.mkdir(parents=True)
        content = {**vars(two), "split": split, "feature_shapes": {split: [16, 8, 8]}}
        content.pop("unsplit_interval")
        (folder / "curve.json").write_text(json.dumps(content))
        found.append(folder / "curve.json")
    record_of(two).write(found[0].parent / "images.npz")
    return found


def test_curves_become_one_plot_and_one_table(
    paths: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    main([*map(str, paths), "--anchor", "layer2: full", "--out", str(out)])
    merit = json.loads((out / "merit.json").read_text())
    assert list(merit["codecs"]) == ["layer2: full", "layer2: half", "layer3: full", "layer3: half"]
    assert merit["anchor"] == "layer2: full"
    assert merit["codecs"]["layer3: half"]["bd_rate"]["value"] == pytest.approx(-0.5)
    assert merit["codecs"]["layer2: half"]["bd_rate"]["interval"] is not None
    assert {path.name for path in out.iterdir()} >= {"curve.png", "curve.svg", "work.png", "work.svg"}
    assert "-50.0%" in capsys.readouterr().out


@pytest.mark.parametrize("index", [pytest.param(0, marks=pytest.mark.slow), 1], ids=["with a record", "without"])
def test_a_single_curve_is_compared_with_itself(paths: list[Path], index: int, tmp_path: Path) -> None:
    report = combine(paths[index : index + 1])
    report.write(tmp_path)
    assert [merit.label for merit in report.merits] == ["full", "half"]
    assert (tmp_path / "images.npz").exists() == (index == 0)


def test_bytes_may_be_counted_in_a_session(
    two: Curve, paths: list[Path], record_of: Callable[[Curve], Record], tmp_path: Path
) -> None:
    """Three bytes fewer for the units alone, at every point and in every draw; the curve's file stays as it was."""
    points = [
        {**point, "session_bytes": point["payload_bytes"] - 3 if point["codec"] == "half" else None}
        for point in two.points
    ]
    replace(two, points=points).write(paths[0].parent)
    record_of(two).write(paths[0].parent / "images.npz")
    out = tmp_path / "out"
    main([str(paths[0]), "--framing", "session", "--out", str(out)])
    frames, session = combine(paths[:1]), combine(paths[:1], framing="session")
    assert Curve.read(out / "curve.json").points == points == session.curves[""].points
    for one, other in zip(frames.counted[""].points, session.counted[""].points, strict=True):
        fewer = 3 if one["codec"] == "half" else 0
        assert other["payload_bytes"] == pytest.approx(one["payload_bytes"] - fewer)
        assert other["bpp"] / one["bpp"] == pytest.approx(other["payload_bytes"] / one["payload_bytes"])
    (full, half), (same, less) = frames.merits, session.merits
    assert same == full
    assert less.bytes_at_loss[0].value < half.bytes_at_loss[0].value
    assert less.bd["bd_rate"].interval[1] < half.bd["bd_rate"].value
    assert "per image, in a session" in (out / "curve.svg").read_text()
    assert "bytes in a session" in (out / "report.md").read_text()
    assert session.headline is None or session.headline.startswith("In a session ")
    with pytest.raises(UsageError, match="no unit was evaluated in a session"):
        combine(paths[1:], framing="session").merits  # noqa: B018
    with pytest.raises(UsageError, match="framing=wire: expected frame or session"):
        two.plot("wire")


@pytest.mark.slow
def test_codecs_evaluated_one_after_the_other_become_one_curve(
    two: Curve, record_of: Callable[[Curve], Record], paths: list[Path], tmp_path: Path
) -> None:
    for path, codec in zip(paths, ("full", "half"), strict=True):
        part = replace(two, points=[point for point in two.points if point["codec"] == codec])
        part.write(path.parent)
        record = record_of(part)
        rounded = replace(record, unsplit=record.unsplit + 1e-7 * (codec == "half"))  # other threads, other sums
        rounded.write(path.parent / "images.npz")
    report = combine(paths, "full")
    assert report.curves[""] == two
    report.write(tmp_path / "together")
    assert combine([tmp_path / "together/curve.json"]).merits[1].bd["bd_rate"].interval is not None


def test_curves_of_one_model_split_and_data_go_by_their_folders(paths: list[Path]) -> None:
    paths[1].write_text(paths[0].read_text())
    assert list(combine(paths).curves) == [f"{path.parent}: " for path in paths]


def test_a_record_of_another_evaluation_is_left_out(paths: list[Path]) -> None:
    content = json.loads(paths[0].read_text())
    content["points"][0]["payload_bytes"] += 1
    paths[0].write_text(json.dumps(content))
    assert combine(paths).records == {}


def test_what_does_not_belong_together_is_refused(paths: list[Path]) -> None:
    with pytest.raises(UsageError, match="is there twice"):
        combine([paths[0], paths[0]])
    content = json.loads(paths[1].read_text())
    content["metric"] = "miou"
    content["points"] = [{**one, "miou": one["accuracy"]} for one in content["points"]]
    paths[1].write_text(json.dumps(content))
    with pytest.raises(UsageError, match="different metrics"):
        combine(paths)


def test_other_images_have_no_bd_figures(paths: list[Path]) -> None:
    paths[1].write_text(json.dumps({**json.loads(paths[1].read_text()), "data": "cifar10"}))
    figures = combine(paths, "layer2/digits: full").merits[3].bd
    assert {figure.value for figure in figures.values()} == {None}
    assert "evaluated on cifar10, the anchor on digits" in figures["bd_rate"].note


def test_curves_in_one_folder_are_all_kept(paths: list[Path]) -> None:
    other = paths[1].parent / "old.json"
    other.write_text(paths[1].read_text())
    assert len(combine([paths[1], other]).curves) == 2


@pytest.mark.parametrize("damage", ["short", "flipped", "array", "shape", "infinite"])
def test_a_damaged_record_is_named(paths: list[Path], damage: str) -> None:
    path = paths[0].parent / "images.npz"
    data = path.read_bytes()
    arrays = dict(np.load(io.BytesIO(data)))
    if damage == "array":
        with path.open("wb") as file:
            np.save(file, arrays["unsplit"])
    elif damage in ("shape", "infinite"):
        arrays["num_bytes"] = arrays["num_bytes"][:, 1:] if damage == "shape" else arrays["num_bytes"] * np.inf
        np.savez(path, **arrays)
    else:
        middle = len(data) // 2
        path.write_bytes(data[:middle] if damage == "short" else data[:middle] + b"?" + data[middle + 1 :])
    with pytest.raises(UsageError, match=r"images\.npz: no readable record"):
        combine(paths)


@pytest.mark.parametrize(
    "change",
    [
        {"split": None},
        {"unsplit_interval": "x"},
        {"points": []},
        {"points": [{"codec": "x"}]},
        {"unsplit": "much"},
        {"points": 3},
    ],
)
def test_a_damaged_curve_is_named(paths: list[Path], change: dict) -> None:
    paths[0].write_text(json.dumps({**json.loads(paths[0].read_text()), **change}))
    with pytest.raises(UsageError, match=r"curve\.json: no readable curve"):
        combine(paths)
