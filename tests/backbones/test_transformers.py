"""Vision models of transformers: built, loaded, named and refused."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor

import bottlenecks as bn
from bottlenecks.backbones.architecture import build_network
from bottlenecks.backbones.backbone import load_backbone
from bottlenecks.backbones.transformers_models import task_of
from bottlenecks.errors import UsageError
from bottlenecks.network import BottleneckNetwork
from bottlenecks.runs.listing import own_size
from bottlenecks.settings.model import BackboneSpec
from bottlenecks.training.backbone import obtain_backbone
from datamodules.digits import Digits
from evaluate import evaluate
from tests.conftest import QUICK, configure, quiet
from train import train

transformers = pytest.importorskip("transformers")

SMALL = {"num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64}
VISION = {**SMALL, "image_size": 32, "patch_size": 8}
TEXT = {**SMALL, "vocab_size": 100, "bos_token_id": 1, "eos_token_id": 2}
BOTH = {"text_config": TEXT, "vision_config": VISION}
CONFIGS = {
    "ViTForImageClassification": ("ViTConfig", {**VISION, "id2label": {0: "cat", 1: "dog", 2: "owl"}}),
    "SwinForImageClassification": (
        "SwinConfig",
        {"image_size": 32, "patch_size": 4, "embed_dim": 16, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4},
    ),
    "ViTModel": ("ViTConfig", VISION),
    "Dinov2Model": ("Dinov2Config", VISION),
    "SiglipVisionModel": ("SiglipVisionConfig", VISION),
    "SiglipModel": ("SiglipConfig", BOTH),
    "CLIPModel": ("CLIPConfig", BOTH),
    "BertModel": ("BertConfig", TEXT),
}
CLASSIFIERS = ("ViTForImageClassification", "SwinForImageClassification")
TOWERS = ("SiglipVisionModel", "SiglipModel", "CLIPModel")
IMAGES = torch.linspace(-1, 1, 2 * 3 * 32 * 32).view(2, 3, 32, 32)


def make(name: str) -> Any:
    """Make one of the library's models, always with the same random weights."""
    torch.manual_seed(0)
    config, given = CONFIGS[name]
    return getattr(transformers, name)(getattr(transformers, config)(**given)).eval()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a saved model of each kind."""
    root = tmp_path_factory.mktemp("models")
    transformers.utils.logging.disable_progress_bar()
    for name in CONFIGS:
        make(name).save_pretrained(root / name)
        transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(root / name)
    return root


def spec_of(folder: Path, task: str = "", weights: str = "DEFAULT") -> BackboneSpec:
    """Read what a command line says of a model."""
    given = {"name": str(folder), "library": "transformers", "architecture": str(folder), "weights": weights}
    return BackboneSpec.of(OmegaConf.create({**given, "task": task or "classification"}))


def own_output(name: str) -> Tensor:
    """Run the library's own model, on its images alone, and give its logits or its tokens."""
    model = make(name)
    tower = model.vision_model if name in ("SiglipModel", "CLIPModel") else model
    with torch.no_grad():
        output = tower(pixel_values=IMAGES)
    return output.logits if name in CLASSIFIERS else output.last_hidden_state


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_classifier_gives_its_own_logits(name: str, models: Path) -> None:
    backbone = load_backbone(spec_of(models / name))
    assert task_of(backbone.spec) == "classification"
    assert torch.equal(backbone.network(IMAGES), own_output(name))
    assert backbone.class_names == (("cat", "dog", "owl") if name.startswith("ViT") else ())
    assert backbone.preprocessing.input_shape == (3, 32, 32) and backbone.preprocessing.mean == (0.5, 0.5, 0.5)
    assert set(dict(backbone.network.named_modules())) == set(dict(make(name).named_modules()))


@pytest.mark.parametrize("name", sorted(set(CONFIGS) - {*CLASSIFIERS, "BertModel"}))
def test_others_give_their_tensors_by_name(name: str, models: Path) -> None:
    spec = spec_of(models / name)
    assert task_of(spec) == "embedding"
    object.__setattr__(spec, "task", "embedding")
    network = load_backbone(spec).network
    output = network(IMAGES)
    assert list(output) == ["last_hidden_state", "pooler_output"]
    assert torch.equal(output["last_hidden_state"], own_output(name))
    layers = {"Dinov2Model": "encoder.layer.1", "ViTModel": "layers.1"}.get(name, "vision_model.encoder.layers.1")
    assert any(path == layers for path, _ in network.named_modules())


def test_a_classifier_that_is_handed_over_is_cut_and_evaluated(tmp_path: Path) -> None:
    images, labels = torch.randn(48, 3, 32, 32, generator=torch.Generator().manual_seed(0)), torch.arange(48) % 3
    network = bn.cut(make("ViTForImageClassification"), at="vit.layers.0", example=images[:2])
    bn.fit(network, images, lmbdas=[100.0], settings={"training.epochs": 0}).save(tmp_path / "rates")
    net = bn.load(tmp_path / "rates", network=network)
    output = net.decode(net.encode(images))
    curve = bn.evaluate(net, (images, labels), calibration=images[:8], codecs=["unit"])
    assert curve.points[0]["accuracy"] == (output["logits"].argmax(1) == labels).double().mean()


def test_weights_that_a_classifier_has_not_are_not_in_its_embedding(models: Path) -> None:
    spec = spec_of(models / "ViTForImageClassification")
    object.__setattr__(spec, "task", "embedding")
    assert list(load_backbone(spec).network(IMAGES)) == ["last_hidden_state"]


def test_a_network_is_built_for_any_number_of_classes_and_starts_from_what_fits(models: Path) -> None:
    spec = spec_of(models / "SiglipModel")
    network = build_network(spec, 7)
    assert network(IMAGES).shape == (2, 7)
    assert "vision_model.encoder.layers.1" in dict(network.named_modules())
    with pytest.raises(UsageError, match=r"SiglipModel does not fit the network; missing: classifier.weight"):
        load_backbone(spec, 7)


def test_a_folder_is_named_after_its_last_part_and_a_model_of_the_hub_too(models: Path) -> None:
    spec = spec_of(models / "ViTModel")
    assert (spec.name, spec.architecture) == ("ViTModel", str((models / "ViTModel").resolve()))
    spec = spec_of(Path("google/siglip-base-patch16-224"))
    assert (spec.name, spec.architecture) == ("siglip-base-patch16-224", "google/siglip-base-patch16-224")
    for place in ("/nowhere/model", "./model", "~/no/model", "a/b/c"):
        with pytest.raises(UsageError, match=rf"model.name=.*{place[-3:]}: no such folder \(looked at /"):
            spec_of(Path(place) if place[0] != "." else Path("..", "model"))


def test_settings_of_the_configuration_can_be_others(models: Path) -> None:
    spec = spec_of(models / "ViTForImageClassification", weights="none")
    wide = build_network(replace(spec, arguments={"image_size": 64, "num_hidden_layers": 1}))
    assert own_size(wide, spec) == 64 and "vit.layers.1" not in dict(wide.named_modules())
    assert wide(torch.zeros(1, 3, 64, 64)).shape == (1, 3)
    with pytest.raises(UsageError, match=r"model.arguments: ViTConfig has no setting colour"):
        build_network(replace(spec, arguments={"colour": 1}))


@pytest.fixture(scope="module")
def of_digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a classifier of digits that nobody has trained here."""
    folder = tmp_path_factory.mktemp("of_digits")
    torch.manual_seed(0)
    names = {index: str(index) for index in range(10)}
    transformers.ViTForImageClassification(transformers.ViTConfig(**VISION, id2label=names)).save_pretrained(folder)
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def test_a_model_trained_for_the_data_elsewhere_is_taken_where_its_classes_are_the_datas(
    of_digits: Path, models: Path, tmp_path: Path
) -> None:
    digits = Digits(name="digits", batch_size=64, num_workers=0)
    backbone = obtain_backbone(spec_of(of_digits), digits, tmp_path, pytest.fail)  # type: ignore[arg-type]
    assert backbone.class_names == tuple("0123456789")
    other = spec_of(models / "ViTForImageClassification")
    with pytest.raises(UsageError, match=r"does not fit the network; of another shape: classifier.weight"):
        obtain_backbone(other, digits, tmp_path, pytest.fail)  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_model_goes_through_every_command(of_digits: Path, tmp_path: Path) -> None:
    given = ["model=transformers", f"model.name={of_digits}", "split=vit.layers.0", "model.weights=DEFAULT"]
    few = ["training.epochs=0", "data.limit_train=64", "data.limit_val=8"]
    (path,) = train(configure("train", tmp_path, *quiet([*given, *QUICK, *few])))
    curve = evaluate(configure("evaluate", tmp_path, *given, "logger=none", "workers=0", "data.limit_test=8"))
    assert path.parts[-4:-1] == (of_digits.name, "vit.layers.0", "digits") and curve.num_images == 8
    assert BottleneckNetwork.load(path.parent).class_names == list("0123456789")


def edit(folder: Path, **changes: Any) -> None:
    """Change a model's configuration; None takes a setting out."""
    file = folder / "config.json"
    values = {**json.loads(file.read_text()), **changes}
    file.write_text(json.dumps({name: value for name, value in values.items() if value is not None}))


def to_pickle(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (lambda folder: (folder / "config.json").unlink(), "no model of transformers .*model_type"),
    "no json": (lambda folder: (folder / "config.json").write_text("{"), "no model of transformers .*not a valid JSON"),
    "unknown": (lambda folder: edit(folder, model_type="zilla"), "no model of transformers .*zilla"),
    "damaged": (lambda folder: (folder / "model.safetensors").write_bytes(b"x"), "no model of transformers .*header"),
    "pickled": (to_pickle, "no model of transformers .*model.safetensors"),
    "deeper": (
        lambda folder: edit(folder, num_hidden_layers=3),
        r"does not fit the network; missing: vit\..*layers?\.2",
    ),
    "wider": (lambda folder: edit(folder, hidden_size=64), "does not fit the network; missing: vit"),
    "processor": (
        lambda folder: (folder / "preprocessor_config.json").write_text("{"),
        "no model of transformers .*JSON",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_folder_that_is_no_model_is_refused_in_one_line(name: str, models: Path, tmp_path: Path) -> None:
    spoil, message = BAD[name]
    folder = tmp_path / "model"
    shutil.copytree(models / "ViTForImageClassification", folder)
    spoil(folder)
    with pytest.raises(UsageError, match=message) as caught:
        load_backbone(spec_of(folder))
    assert "\n" not in str(caught.value) and str(folder) in str(caught.value)


def test_code_that_comes_with_a_model_is_never_run(models: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(models / "ViTModel", folder)
    edit(folder, model_type="own", auto_map={"AutoConfig": "own.Config", "AutoModel": "own.Model"})
    (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(UsageError, match=r"no model of transformers .*custom code"):
        build_network(spec_of(folder))
    assert not (tmp_path / "ran").exists()


def test_a_model_without_images_is_refused(models: Path) -> None:
    spec = spec_of(models / "BertModel")
    with pytest.raises(UsageError, match="BertConfig has no form that classifies images"):
        build_network(spec)
    object.__setattr__(spec, "task", "embedding")
    with pytest.raises(UsageError, match="BertConfig takes no images alone; choose a vision model"):
        build_network(spec)


def test_without_a_network_one_line_says_what_the_hub_does_not_give(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        UsageError, match=r"model.name=nobody/nothing: no such folder, and the hub .*the folder"
    ) as caught:
        build_network(spec_of(Path("nobody/nothing")))
    assert "\n" not in str(caught.value)


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, models: Path) -> None:
    spec = spec_of(models / "ViTModel")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UsageError, match=r"transformers is not installed; pip install 'bottlenecks\[transformers\]'"):
        build_network(spec)
