"""Evaluation through the real entry point: the contract of the curve, and bytes that really exist."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch

from bottlenecks.evaluation.curve import Curve
from bottlenecks.network import BottleneckNetwork
from bottlenecks.rates.places import CheckpointError
from datamodules.digits import Digits
from evaluate import evaluate
from tests.conftest import TINY, configure

TOP = ["model", "split", "data", "num_images", "image_shape", "feature_shapes", "metric", "unsplit", "points"]
POINT = [
    "codec", "setting", "lambda", "payload_bytes", "session_bytes", "bpp", "bits_per_element", "estimated_bpp",
    "accuracy", "agreement", "recall_at_1", "neighbour_agreement", "knn_accuracy", "encode_ms", "decode_ms",
    "device_macs",
]  # fmt: skip
MORE = ["server_macs", "state_bytes", "interval"]


@pytest.fixture
def folder(trained: Path) -> Path:
    return trained / "results/tiny/body/digits"


@pytest.fixture
def curve(folder: Path) -> dict:
    return json.loads((folder / "curve.json").read_text())


def test_the_curve_follows_its_contract(folder: Path, curve: dict) -> None:
    assert list(curve) == [*TOP, "unsplit_interval", "unsplit_knn_accuracy"]
    assert (curve["model"], curve["split"], curve["data"], curve["metric"]) == ("tiny", "body", "digits", "accuracy")
    assert curve["num_images"] == 397 and curve["image_shape"] == [3, 32, 32]
    assert curve["feature_shapes"] == {"body": [16, 8, 8]}
    assert [point["setting"] for point in curve["points"]] == ["lambda=0.003", "lambda=0.03"]
    for point in curve["points"]:
        assert list(point) == [*POINT, *MORE] and point["codec"] == "unit"
        assert point["interval"][0] <= point["accuracy"] <= point["interval"][1]
        assert point["server_macs"] > 0 and point["state_bytes"] > 0
        assert point["bpp"] == pytest.approx(8 * point["payload_bytes"] / 1024)
        assert point["bits_per_element"] == pytest.approx(8 * point["payload_bytes"] / (16 * 8 * 8))
        offer_and_checks = 8 + 397 // 64 * 4  # one byte of header in the place of six
        assert point["session_bytes"] == pytest.approx(point["payload_bytes"] - 5 + offer_and_checks / 397)
        assert point["encode_ms"] > 0 and point["decode_ms"] > 0 and point["device_macs"] > 0
    rows = list(csv.DictReader((folder / "curve.csv").read_text().splitlines()))
    assert [float(row["payload_bytes"]) for row in rows] == [point["payload_bytes"] for point in curve["points"]]
    assert (folder / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_every_figure_is_what_a_plain_loop_over_the_images_finds(trained: Path, curve: dict) -> None:
    network = BottleneckNetwork.load(trained / "checkpoints/tiny/body/digits")
    data = Digits(name="digits", batch_size=100, num_workers=0)
    data.preprocessing = network.preprocessing
    for point in curve["points"]:
        network.lmbda = point["lambda"]
        num_bytes, correct, same, unsplit, count = 0, 0, 0, 0, 0
        for images, targets in data.test_dataloader():
            streams = network.encode(images)
            decided, plain = network.decode(streams).argmax(1), network.network(images).argmax(1)
            num_bytes += len(b"".join(streams))
            correct += int((decided == targets).sum())
            same += int((decided == plain).sum())
            unsplit += int((plain == targets).sum())
            count += len(images)
        assert count == 397
        assert point["payload_bytes"] == pytest.approx(num_bytes / count)
        assert point["accuracy"] == pytest.approx(correct / count)
        assert point["agreement"] == pytest.approx(same / count)
        assert curve["unsplit"] == pytest.approx(unsplit / count)


def test_real_bytes_agree_with_the_estimate(curve: dict) -> None:
    for point in curve["points"]:
        estimated_bytes = point["estimated_bpp"] * 1024 / 8
        assert estimated_bytes * 0.97 <= point["payload_bytes"] <= estimated_bytes * 1.03 + 8  # 6 of header


def test_evaluation_is_on_images_that_training_never_saw() -> None:
    data = Digits(name="digits", batch_size=64, num_workers=0, held_back=200)
    names = {split: set(data.images(split).names) for split in ("train", "val", "test")}
    assert [len(names[split]) for split in ("train", "val", "test")] == [1200, 200, 397]
    assert len(set.union(*names.values())) == 1797


def test_the_curve_is_replaced_by_exactly_what_was_measured(trained: Path, tmp_path: Path) -> None:
    overrides = [*TINY, "logger=none", f"paths.checkpoints={trained / 'checkpoints'}", "data.limit_test=20"]
    results = tmp_path / "results/tiny/body/digits"
    results.mkdir(parents=True)
    (results / "curve.json").write_text("old")
    returned = evaluate(configure("evaluate", tmp_path, *overrides))
    assert vars(Curve.read(results / "curve.json")) == vars(returned)
    assert returned.num_images == 20 and len(returned.points) == 2


def test_no_rates_is_an_error_that_says_so(trained: Path, tmp_path: Path) -> None:
    overrides = [*TINY[:-1], "split=stem", "logger=none", f"paths.checkpoints={trained / 'checkpoints'}"]
    with pytest.raises(CheckpointError, match=r"stem/digits: no rate checkpoints"):
        evaluate(configure("evaluate", tmp_path, *overrides))
    assert not (tmp_path / "results").exists()


def test_one_thread_is_given_back_after_timing(trained: Path, tmp_path: Path) -> None:
    before = torch.get_num_threads()
    overrides = [*TINY, "logger=none", f"paths.checkpoints={trained / 'checkpoints'}", "data.limit_test=5"]
    evaluate(configure("evaluate", tmp_path, *overrides))
    assert torch.get_num_threads() == before
