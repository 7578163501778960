"""Every shipped configuration composes, and what it names can be built."""

from __future__ import annotations

from inspect import signature
from pathlib import Path

import pytest
from hydra.utils import get_class
from omegaconf import OmegaConf

from bottlenecks.backbones.architecture import build_network
from bottlenecks.console.cli import CONFIGS
from bottlenecks.images.preprocessing import Preprocessing
from bottlenecks.settings.data import KINDS
from bottlenecks.settings.model import BackboneSpec
from tests.conftest import configure

TEMPLATES = {"torchvision", "timm", "transformers", "custom"}
MODELS = sorted(path.stem for path in (CONFIGS / "model").glob("*.yaml"))


def choices(group: str) -> list[str]:
    """List the files of a group."""
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))


PROMISED = {
    "classification": "resnet18 resnet50 mobilenet_v3_large efficientnet_b0 convnext_tiny vgg16_bn densenet121 "
    "vit_b_16 small_vit swin_t efficientnet_lite0",
    "segmentation": "deeplabv3_resnet50 deeplabv3_mobilenet_v3_large fcn_resnet50 lraspp_mobilenet_v3_large "
    "lraspp_lite0 small_lraspp",
    "detection": "fasterrcnn_resnet50_fpn fasterrcnn_mobilenet_v3_large_fpn retinanet_resnet50_fpn "
    "ssdlite320_mobilenet_v3_large fcos_resnet50_fpn fcos_lite0 small_fcos",
}


def test_the_promised_models_are_there() -> None:
    nodes = {name: OmegaConf.load(CONFIGS / "model" / f"{name}.yaml") for name in set(MODELS) - TEMPLATES}
    tasks = {name: node.get("task", "classification") for name, node in nodes.items()}
    assert tasks == {name: task for task, promised in PROMISED.items() for name in promised.split()}


LARGE = ("deeplabv3_resnet50", "fcn_resnet50", "fasterrcnn_resnet50_fpn", "retinanet_resnet50_fpn", "fcos_resnet50_fpn")


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow) if name in LARGE else name for name in sorted(set(MODELS) - TEMPLATES)],
)
def test_a_model_builds_and_its_split_point_exists(name: str, tmp_path: Path) -> None:
    cfg = configure("train", tmp_path, f"model={name}")
    if "lite0" in name:
        pytest.importorskip("timm")
    import torch

    with torch.device("meta"):
        network = build_network(BackboneSpec.of(cfg.model), 10)
    assert any(path == cfg.split for path, _ in network.named_modules())


@pytest.mark.parametrize("name", choices("data"))
def test_a_data_config_composes(name: str, tmp_path: Path) -> None:
    cfg = configure("train", tmp_path, f"data={name}")
    assert cfg.data.name == name and cfg.data.seed == cfg.seed
    if cfg.data.preprocessing:
        Preprocessing.from_dict(OmegaConf.to_container(cfg.data.preprocessing))


@pytest.mark.parametrize("group", ["logger", "trainer", "unit"])
def test_every_choice_composes(group: str, tmp_path: Path) -> None:
    for name in choices(group):
        for command in ("train", "evaluate"):
            assert configure(command, tmp_path, f"{group}={name}")[group]


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("*.yaml")), ids=lambda path: path.stem)
def test_files_are_short(path: Path) -> None:
    limit = 25 if path.parent != CONFIGS else 40
    assert len(path.read_text().splitlines()) <= limit


@pytest.mark.parametrize(("task", "model"), [("segmentation", "small_lraspp"), ("detection", "small_fcos")])
def test_presets_have_the_last_word_but_for_the_command_lines(task: str, model: str, tmp_path: Path) -> None:
    cfg = configure("train", tmp_path, f"task={task}")
    assert (cfg.task, cfg.model.name, cfg.model.task) == (task, model, task)
    assert (cfg.training.epochs, cfg.backbone.epochs) != (8, 6)
    cfg = configure("train", tmp_path, f"task={task}", "model=resnet50", "training.epochs=5", "backbone.epochs=2")
    assert (cfg.model.name, cfg.split, cfg.training.epochs, cfg.backbone.epochs) == ("resnet50", "layer3", 5, 2)


@pytest.mark.parametrize("path", KINDS)
def test_what_is_known_of_a_dataset_is_what_its_class_says(path: str) -> None:
    dataset, kind = get_class(path), KINDS[path]
    assert kind.labels == dataset.labels
    assert kind.task == dataset.task or "learn" in signature(dataset).parameters  # a setting that decides it
