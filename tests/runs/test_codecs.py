"""Units beside baselines through the real command: what is measured, written, shown and refused."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import wandb

import evaluate
from bottlenecks.baselines import make_baselines
from bottlenecks.baselines.base import Calibration
from bottlenecks.errors import UsageError
from bottlenecks.evaluation.curve import Curve
from bottlenecks.evaluation.record import Record
from bottlenecks.network import BottleneckNetwork
from bottlenecks.rates.ladder import Ladder
from datamodules.digits import Digits
from tests.conftest import TINY, configure

CODECS = ["unit", "lightweight", "hevc", "uniform", "jpeg", "png"]
FEW = ("calibration_images=8", "timed_images=2", "logger=none")


@pytest.fixture(scope="module")
def results(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an evaluation of several codecs, by two processes."""
    root = tmp_path_factory.mktemp("evaluated")
    checkpoints = f"paths.checkpoints={trained / 'checkpoints'}"
    codecs = f"codecs=[{','.join(CODECS)}]"
    overrides = [*TINY, *FEW, checkpoints, codecs, "anchor=lightweight", "workers=2", "data.limit_test=40"]
    evaluate.evaluate(configure("evaluate", root, *overrides))
    return root / "results/tiny/body/digits"


@pytest.fixture(scope="module")
def curve(results: Path) -> Curve:
    return Curve.read(results / "curve.json")


def test_every_codec_is_on_the_curve_with_what_has_a_meaning_for_it(curve: Curve) -> None:
    assert curve.codecs == CODECS
    for point in curve.points:
        images = point["codec"] in ("jpeg", "png")
        assert (point["device_macs"] == 0) == images and point["server_macs"] > 0
        assert (point["bits_per_element"] is None) == images
        assert (point["estimated_bpp"] is None) == (point["codec"] != "unit") == (point["lambda"] is None)
        assert point["encode_ms"] > 0 and point["decode_ms"] > 0
    png = next(point for point in curve.points if point["codec"] == "png")
    assert png["agreement"] == 1 and png["accuracy"] == curve.unsplit


def test_figures_are_what_a_plain_loop_over_the_images_finds(trained: Path, results: Path, curve: Curve) -> None:
    """The oracle makes the PNG points itself: images to bytes to the whole network, one by one."""
    network = BottleneckNetwork.load(trained / "checkpoints/tiny/body/digits")
    data = Digits(name="digits", batch_size=1, num_workers=0, limit_test=40)
    data.preprocessing = network.preprocessing
    empty = np.zeros((1, 16, 8, 8), np.float32)
    (png,) = make_baselines("png", Calibration((empty,), lambda _: 0.0, lambda _: [], network.preprocessing))
    sizes, right = [], []
    for images, targets in data.test_dataloader():
        stream = png.compress((images,))
        sizes.append(len(stream[0]))
        right.append(int(network.network(*png.decompress(stream)).argmax(1) == targets))
    record, index = Record.read(results / "images.npz"), curve.codecs.index("png") - len(CODECS)
    assert record.num_bytes[index].tolist() == sizes and record.statistics[index, :, 0].tolist() == right
    point = curve.points[index]
    assert point["payload_bytes"] == pytest.approx(np.mean(sizes)) and point["accuracy"] == np.mean(right)


def test_everything_is_written_beside_the_curve(results: Path) -> None:
    names = {path.name for path in results.iterdir()}
    assert names >= {"curve.json", "curve.csv", "curve.png", "curve.svg", "images.npz", "merit.json", "report.md"}
    merit = json.loads((results / "merit.json").read_text())
    assert merit["anchor"] == "lightweight" and list(merit["codecs"]) == CODECS
    assert merit["codecs"]["lightweight"]["bd_rate"] is None
    assert "| hevc |" in (results / "report.md").read_text()


@pytest.mark.slow
def test_one_process_finds_the_same(trained: Path, curve: Curve, tmp_path: Path) -> None:
    checkpoints = f"paths.checkpoints={trained / 'checkpoints'}"
    overrides = [*TINY, *FEW, checkpoints, "codecs=[hevc,uniform]", "workers=0", "data.limit_test=40"]
    again = evaluate.evaluate(configure("evaluate", tmp_path, *overrides))
    keys = ("codec", "setting", "payload_bytes", "accuracy", "agreement", "interval")
    expected = [point for point in curve.points if point["codec"] in ("hevc", "uniform")]
    assert [[point[key] for key in keys] for point in again.points] == [
        [point[key] for key in keys] for point in expected
    ]


@pytest.mark.slow
def test_no_unit_is_needed_for_baselines_at_several_splits(
    trained: Path, tmp_path: Path, command: Callable[..., tuple[int, str]]
) -> None:
    backbone = trained / "checkpoints/tiny/backbone/digits.safetensors"
    paths = [f"paths.{name}={tmp_path / name}" for name in ("checkpoints", "results", "logs")]
    arguments = [*TINY[:-1], *FEW, *paths, "split=[stem,body]", "codecs=[lightweight,png]", "anchor=lightweight"]
    status, error = command(evaluate.main, *arguments, f"model.weights={backbone}", "data.limit_test=30", "workers=0")
    assert status == 0, error
    for split in ("stem", "body"):
        assert (tmp_path / "results/tiny" / split / "digits/curve.json").exists()
    together = tmp_path / "results/tiny/stem+body/digits"
    merit = json.loads((together / "merit.json").read_text())
    assert list(merit["codecs"]) == ["stem: lightweight", "stem: png", "body: lightweight", "body: png"]
    assert merit["anchor"] == "stem: lightweight"
    assert (together / "curve.svg").exists() and (together / "work.svg").exists()


def test_another_trained_unit_goes_by_its_name(trained: Path, tmp_path: Path) -> None:
    source = trained / "checkpoints/tiny/body/digits"
    copy = tmp_path / "checkpoints/tiny/body/digits/unit=wide"
    copy.mkdir(parents=True)
    (copy / "lambda=0.03.safetensors").write_bytes((source / "lambda=0.03.safetensors").read_bytes())
    backbone = f"model.weights={trained / 'checkpoints/tiny/backbone/digits.safetensors'}"
    overrides = [*TINY, *FEW, backbone, "codecs=wide", "data.limit_test=20"]
    found = evaluate.evaluate(configure("evaluate", tmp_path, *overrides))
    assert [point["codec"] for point in found.points] == ["wide"]
    assert found.points[0]["lambda"] == 0.03 and len(Ladder.load(copy)) == 1


@pytest.mark.slow
def test_the_dashboard_has_table_image_and_chart(trained: Path, tmp_path: Path) -> None:
    overrides = [*TINY, *FEW[:-1], "logger=wandb", "logger.mode=offline", "data.limit_test=20", "codecs=[unit,png]"]
    evaluate.evaluate(configure("evaluate", tmp_path, *overrides, f"paths.checkpoints={trained / 'checkpoints'}"))
    wandb.teardown()
    (folder,) = (tmp_path / "logs/wandb").glob("offline-run-*")
    media = [path.name for path in (folder / "files/media").rglob("*.*")]
    assert any(name.startswith("curve_chart") and name.endswith(".plotly.json") for name in media)
    assert any(name.startswith("curve") and name.endswith(".png") for name in media)
    assert any(name.startswith("rate_accuracy") for name in media)


@pytest.mark.slow
def test_a_dashboard_without_plotly_goes_without_the_chart(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "plotly.graph_objects", None)
    overrides = [*TINY, *FEW[:-1], "logger=wandb", "logger.mode=offline", "data.limit_test=5"]
    evaluate.evaluate(configure("evaluate", tmp_path, *overrides, f"paths.checkpoints={trained / 'checkpoints'}"))
    wandb.teardown()
    assert "No curve_chart on the dashboard: the interactive chart needs Plotly" in capsys.readouterr().out


def test_features_that_are_not_finite_are_told(trained: Path, tmp_path: Path) -> None:
    backbone = safetensors.torch.load_file(trained / "checkpoints/tiny/backbone/digits.safetensors")
    broken = {name: tensor * float("nan") if "body" in name else tensor for name, tensor in backbone.items()}
    safetensors.torch.save_file(broken, tmp_path / "broken.safetensors")
    overrides = [*TINY, *FEW, "codecs=[uniform]", "workers=0", f"model.weights={tmp_path / 'broken.safetensors'}"]
    with pytest.raises(UsageError, match="split=body: the features there are not finite"):
        evaluate.evaluate(configure("evaluate", tmp_path, *overrides))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["codecs=[]"], "codecs=[]: expected at least one of unit, "),
        (["codecs=[unit,../x]"], "codecs=../x: expected a name"),
        (["codecs=[unit,spic]"], "no trained unit"),
        (["codecs=[unit,png]", "anchor=hevc"], "anchor=hevc: not among the codecs that are evaluated, unit, png"),
        (["workers=-1"], "workers=-1: "),
        (["workers=two"], "workers=two: "),
        (["calibration_images=0"], "calibration_images=0: "),
        (["split=[]"], "split=[]: expected one or several"),
        (["split=[body,nowhere]", "codecs=png"], "split=nowhere: "),
    ],
)
def test_what_cannot_be_used_is_named(
    trained: Path, tmp_path: Path, command: Callable[..., tuple[int, str]], overrides: list[str], message: str
) -> None:
    paths = [f"paths.{name}={tmp_path / name}" for name in ("results", "logs")]
    arguments = [*TINY, *FEW, *paths, f"paths.checkpoints={trained / 'checkpoints'}", *overrides]
    status, error = command(evaluate.main, *arguments)
    assert status == 2 and message in error and "Traceback" not in error
