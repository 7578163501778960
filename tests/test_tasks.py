"""Segmentation, detection and a task of one's own through the real commands, at cuts of one tensor and of several."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torchmetrics import MeanMetric, Metric

from bottlenecks.coding.bitstream import BitstreamError
from bottlenecks.errors import UsageError
from bottlenecks.network import BottleneckNetwork
from bottlenecks.run import main as run_images
from bottlenecks.tasks import TASKS, Task
from bottlenecks.tasks.base import FloatArray
from datamodules.digit_boxes import DigitBoxes
from evaluate import evaluate
from tests.conftest import TINY_SEGMENTER, configure, quiet
from tests.networks import block
from train import train

FEW = ("data.num_train=32", "data.held_back=8", "data.num_test=8", "data.batch_size=8", "logger=none")
QUICK = (
    *FEW,
    "backbone.epochs=1",
    "training.epochs=1",
    "training.fit_images=16",
    "data.augment=false",
    "unit.structure=separable",
    "unit.block=8",
    "unit.restorer=8",
)
SEGMENTER = (
    "task=segmentation",
    *TINY_SEGMENTER,
)
DETECTOR = ("task=detection",)


def run(root: Path, *overrides: str) -> tuple[Path, dict[str, Any]]:
    """Train two rates and evaluate them beside baselines; give the folder of the rates and the curve."""
    rates = train(configure("train", root, *quiet([*overrides, *QUICK, "lambda=[0.01,0.3]"])))
    codecs = "codecs=[unit,uniform,jpeg]"
    few = ("calibration_images=4", "timed_images=2", "workers=0")
    evaluate(configure("evaluate", root, *overrides, *FEW, *few, codecs))
    results = next((root / "results").rglob("curve.json"))
    assert (results.parent / "predictions.png").stat().st_size > 1000
    return next(iter(rates)).parent, json.loads(results.read_text())


def check(curve: Mapping[str, Any], metric: str, shapes: Sequence[Sequence[int]]) -> None:
    assert curve["metric"] == metric and 0 <= curve["unsplit"] <= 1
    assert list(curve["feature_shapes"].values()) == [list(shape) for shape in shapes]
    assert {point["codec"] for point in curve["points"]} == {"unit", "uniform", "jpeg"}
    for point in curve["points"]:
        assert 0 <= point[metric] <= 1 and 0 <= point["agreement"] <= 1 and point["payload_bytes"] >= 6
        if point["codec"] == "uniform" and point["setting"].startswith("8"):
            assert point["agreement"] > 0.9


@pytest.mark.parametrize(
    ("split", "shapes"),
    [
        pytest.param("body", [(16, 32, 32)], marks=pytest.mark.slow, id="one"),
        pytest.param("top", [(16, 32, 32), (32, 16, 16)], id="several"),
    ],
)
def test_segmentation_end_to_end(tmp_path: Path, split: str, shapes: list[tuple[int, ...]]) -> None:
    folder, curve = run(tmp_path, *SEGMENTER, f"split={split}", "several=true")
    check(curve, "miou", shapes)
    network = BottleneckNetwork.load(folder)
    for size in ((128, 128), (96, 160)):
        images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
        streams = network.encode(images)
        assert network.decode(streams)["out"].shape == (2, 11, *size)
    Image.new("RGB", (150, 130), "grey").save(tmp_path / "grey.png")
    run_images([str(folder), str(tmp_path / "grey.png"), "--draw", str(tmp_path / "drawn"), "--lambda", "0.01"])
    with Image.open(tmp_path / "drawn/grey.png") as drawn:
        assert drawn.size == (128, 128)
    with pytest.raises(BitstreamError, match="sizes"):
        network.decode([bytes([streams[0][0], streams[0][1] ^ 1]) + streams[0][2:]])


def test_several_tensors_need_to_be_asked_for(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"split=top: 2 tensors cross here .* nearest split points"):
        train(configure("train", tmp_path, *quiet([*SEGMENTER, *QUICK, "split=top"])))


@pytest.mark.parametrize(
    ("split", "shapes"),
    [
        pytest.param("layer2", [(64, 16, 16)], marks=pytest.mark.slow, id="one"),  # in test_coco_file.py by default
        pytest.param("layer3", [(64, 16, 16), (128, 8, 8)], marks=pytest.mark.slow, id="several"),
    ],
)
def test_detection_end_to_end(tmp_path: Path, split: str, shapes: list[tuple[int, ...]]) -> None:
    folder, curve = run(tmp_path, *DETECTOR, f"split=backbone.body.{split}")
    check(curve, "map", shapes)
    network = BottleneckNetwork.load(folder)
    outputs = network.decode(network.encode(torch.zeros(2, 3, 128, 128)))
    assert len({len(tensor) for tensor in outputs.values()}) == 1


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["task=segmentation", "model=resnet50"], r"task=segmentation: model=resnet50 is for classification"),
        (["data=digit_masks"], r"data=digit_masks: its labels are for segmentation, model=resnet50 is for"),
        (
            [*SEGMENTER, "data=digits", "split=body"],
            r"data=digits: its labels are for classification",
        ),
    ],
)
def test_what_does_not_fit_together_is_told(tmp_path: Path, overrides: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        train(configure("train", tmp_path, *quiet([*overrides, "logger=none"])))


class Embedder(nn.Module):
    """An image to a direction: 16x32x32 features at `body`."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.stem, self.body, self.top = block(3, 8), block(8, 16), block(16, 32)
        self.out = nn.Linear(32, 8)

    def forward(self, x: Tensor) -> Tensor:
        """Return directions (N, 8) of length 1."""
        return nn.functional.normalize(self.out(self.top(self.body(self.stem(x))).mean((2, 3))), dim=1)


class Counting(Task):
    """How many digits a scene has, told by the length of a direction's shadow: a task the library does not know."""

    name, metric_name = "counting", "closeness"

    def distillation(self, output: Tensor, teacher: Tensor) -> Tensor:
        return 1 - (output * teacher).sum(1)

    def supervised(self, output: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor:
        return (self._count(output) - self._wanted(targets)).square()

    def is_labelled(self, targets: Tensor) -> bool:
        return targets.dim() == 3

    def agreement(self, prediction: Tensor, reference: Tensor) -> Tensor:
        return (self._count(prediction).round() == self._count(reference).round()).float()

    def statistics(self, prediction: Tensor, targets: Tensor) -> Tensor:
        return (-(self._count(prediction) - self._wanted(targets)).abs()).exp()[:, None].double()

    def score(self, statistics: FloatArray, counts: FloatArray) -> FloatArray:
        return (counts @ statistics)[:, 0] / counts.sum(1)

    def metric(self) -> Metric:
        task = self

        class Closeness(MeanMetric):
            def update(self, prediction: Tensor, targets: Tensor) -> None:  # type: ignore[override]
                super().update(task.statistics(prediction, targets).float())

        return Closeness()

    def describe(self, prediction: Tensor, class_names: Sequence[str]) -> str:
        return f"{float(self._count(prediction)[0]):.0f} digits"

    def draw(self, image: Image.Image, prediction: Tensor, class_names: Sequence[str]) -> Image.Image:
        return Image.fromarray(255 - np.asarray(image))

    @staticmethod
    def _count(output: Tensor) -> Tensor:
        return 4 + 2 * output[:, 0]

    @staticmethod
    def _wanted(targets: Tensor) -> Tensor:
        return (targets[:, :, 0] >= 0).sum(1).float()


class CountedDigits(DigitBoxes):
    """Scenes whose digits are counted."""

    task = "counting"  # type: ignore[assignment]


def test_a_task_of_a_users_own_needs_nothing_of_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TASKS, "counting", Counting)
    folder, curve = run(
        tmp_path,
        "model=custom",
        "model.name=embedder",
        "model.task=counting",
        "model.factory._target_=tests.test_tasks.Embedder",
        "data=digit_boxes",
        "data._target_=tests.test_tasks.CountedDigits",
        "split=body",
    )
    check(curve, "closeness", [(16, 32, 32)])
    assert len(list(folder.glob("lambda=*.safetensors"))) == 2
