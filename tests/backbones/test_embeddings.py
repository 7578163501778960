"""Networks without their classifiers, whose embedding is what they give."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from bottlenecks.backbones.architecture import build_network, settle_task
from bottlenecks.backbones.backbone import load_backbone
from bottlenecks.errors import UsageError
from bottlenecks.images.preprocessing import Preprocessing
from bottlenecks.settings.model import BackboneSpec

pytest.importorskip("timm")
IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
TRANSFORM = Preprocessing(mean=(0.5,) * 3, std=(0.25,) * 3)


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("vit_small_patch14_dinov2", "embedding"),
        ("vit_small_patch14_dinov2.lvd142m", "embedding"),
        ("resnet18", "classification"),
        ("resnet50.a1_in1k", "classification"),
    ],
)
def test_timms_networks_tell_whether_they_have_classes(name: str, task: str) -> None:
    assert settle_task(BackboneSpec(name, task="auto", library="timm")).task == task


@pytest.mark.parametrize(("library", "name"), [("timm", "resnet10t"), ("torchvision", "mobilenet_v3_small")])
def test_the_classifier_is_left_out_of_weights_that_have_one(library: str, name: str, tmp_path: Path) -> None:
    spec = BackboneSpec(name, library=library, weights=str(tmp_path / "whole.safetensors"))
    torch.manual_seed(0)
    whole = build_network(spec)
    save_file({f"module.{key}": tensor for key, tensor in whole.state_dict().items()}, spec.weights)
    backbone = load_backbone(replace(spec, task="embedding"), 10, TRANSFORM)
    with torch.no_grad():
        found = backbone.network(IMAGES)
        last = whole.fc if library == "timm" else whole.classifier[3]
        logits = last(found)  # type: ignore[operator]
        assert torch.allclose(logits, whole(IMAGES), atol=1e-5) and found.shape[1] == last.in_features  # type: ignore
    assert backbone.class_names == ()


def test_without_weights_a_network_is_always_built_the_same() -> None:
    spec = BackboneSpec("resnet10t", task="embedding", library="timm", weights="none")
    one, other = load_backbone(spec), load_backbone(spec)
    assert one.fingerprint == other.fingerprint and one.preprocessing.crop is not None


def test_networks_that_end_in_no_linear_layer_are_named() -> None:
    with pytest.raises(UsageError, match=r"squeezenet1_1 ends in no linear layer .* model=timm"):
        build_network(BackboneSpec("squeezenet1_1", task="embedding"))
    with pytest.raises(UsageError, match="fcn_resnet50 is for segmentation"):
        build_network(BackboneSpec("fcn_resnet50", task="embedding"))
