"""The real networks and images of the development datasets, where they are at hand."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import torch

from bottlenecks.backbones.backbone import load_backbone
from datamodules.imagenet import ImageNet
from evaluate import evaluate
from tests.backbones.test_backbone import LITE0
from tests.conftest import SHARED_DATA, configure, quiet
from train import train

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not SHARED_DATA.exists(), reason="needs the development datasets"),
]
SHORT = ("training.epochs=1", "training.calibration_images=64", "logger=none", "lambda=0.03", "data.num_workers=0")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked datasets."""
    root = tmp_path_factory.mktemp("data")
    subprocess.run([SHARED_DATA / "unpack", root, "imagenet-sample", "cifar10"], check=True)
    return root


def test_lite0_knows_the_imagenet_sample(data: Path) -> None:
    data_module = ImageNet(name="imagenet", root=str(data / "imagenet-sample"), batch_size=32, num_workers=0)
    backbone = load_backbone(LITE0)
    data_module.preprocessing = backbone.preprocessing
    correct = count = 0
    with torch.no_grad():
        for loader in (
            data_module.calibration_dataloader(),
            data_module.val_dataloader(),
            data_module.test_dataloader(),
        ):
            for images, targets in loader:
                correct += int((backbone.network(images).argmax(1) == targets).sum())
                count += len(images)
    assert count == 500
    assert correct / count >= 0.87


@pytest.mark.parametrize(
    ("options", "unsplit"),
    [
        (("model=efficientnet_lite0", "data=imagenet", "data.root={data}/imagenet-sample", "split=blocks.4"), 0.75),
        (
            (
                "model=resnet50",
                "data=cifar10",
                "data.root={data}/cifar10",
                f"model.weights={SHARED_DATA}/resnet50-cifar10-64.safetensors",
                "split=layer3",
                "data.limit_train=512",
                "data.limit_val=128",
            ),
            0.7,
        ),
    ],
    ids=["lite0-imagenet", "resnet50-cifar10"],
)
def test_a_unit_trains_and_is_evaluated(data: Path, tmp_path: Path, options: tuple[str, ...], unsplit: float) -> None:
    given = [option.format(data=data) for option in options]
    (path,) = train(configure("train", tmp_path, *quiet([*given, *SHORT])))
    assert path.stat().st_size < 2 * 2**20
    network = [option for option in given if "limit" not in option]
    curve = evaluate(configure("evaluate", tmp_path, *network, "logger=none", "data.limit_test=100", SHORT[-1]))
    (point,) = curve.points
    assert curve.num_images == 100 and curve.unsplit is not None and curve.unsplit >= unsplit
    assert point["estimated_bpp"] * 0.97 <= point["bpp"] <= point["estimated_bpp"] * 1.03 + 64 / 224
