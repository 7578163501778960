"""Transformers and their relatives of three libraries are cut exactly, fitted, trained, coded and exported."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from torch.utils.data import DataLoader, TensorDataset
from torchvision import models

import bottlenecks as bn
from bottlenecks.deploy.bundle import Bundle
from bottlenecks.settings.model import BackboneSpec
from bottlenecks.splitting.cut import cut_graph
from bottlenecks.splitting.graph import Graph
from bottlenecks.splitting.points import graph_points

pytestmark = pytest.mark.slow
TOLERANCE = 1e-5
QUICK = {"calibration_images": 6, "timed_images": 1, "workers": 0}


def of_timm(name: str, **options: Any) -> Callable[[Path], nn.Module]:
    return lambda folder: timm.create_model(name, pretrained=False, **options)


def of_transformers(kind: str, **options: Any) -> Callable[[Path], nn.Module]:
    def make(folder: Path) -> nn.Module:
        transformers = pytest.importorskip("transformers")
        from bottlenecks.backbones.transformers_models import build_model

        config = getattr(transformers, f"{kind}Config")(**options)
        config.save_pretrained(folder / kind)
        task = "embedding" if "Vision" in kind else "classification"
        return build_model(BackboneSpec(name=str(folder / kind), task=task, library="transformers"))

    return make


SMALL: dict[str, Any] = {"image_size": 64, "hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 4}
NETWORKS: dict[str, tuple[Callable[[Path], nn.Module], str]] = {
    "vit_b_16": (lambda folder: models.vit_b_16(image_size=64), "encoder.layers.encoder_layer_5"),
    "swin_t": (lambda folder: models.swin_t(), "features.3"),
    "convnext_tiny": (lambda folder: models.convnext_tiny(), "features.3"),
    "timm dinov2": (of_timm("vit_small_patch14_dinov2", img_size=56, num_classes=10), "blocks.5"),
    "timm siglip": (of_timm("vit_base_patch16_siglip_224", img_size=64, num_classes=10), "blocks.5"),
    "timm mobilevit": (of_timm("mobilevit_xxs"), "stages.2"),
    "timm maxvit": (of_timm("maxvit_pico_rw_256", img_size=64), "stages.1"),
    "vit": (of_transformers("ViT", patch_size=16, **SMALL), "vit.layers.1"),
    "dinov2": (of_transformers("Dinov2", patch_size=16, **SMALL), "dinov2.encoder.layer.1"),
    "siglip": (of_transformers("SiglipVision", patch_size=16, **SMALL), "vision_model.encoder.layers.1"),
    "swin": (
        of_transformers("Swin", image_size=64, embed_dim=24, depths=[1, 2, 1], num_heads=[2, 2, 2], window_size=4),
        "swin.encoder.layers.0",
    ),
}  # fmt: skip


@pytest.fixture
def images() -> Tensor:
    return torch.rand(12, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_is_cut_fitted_trained_coded_and_exported(name: str, images: Tensor, tmp_path: Path) -> None:
    make, split = NETWORKS[name]
    torch.manual_seed(0)
    network = make(tmp_path).eval()
    images = images[..., :56, :56] if "timm dinov2" in name else images
    check_cuts(network, images[:2])
    task = "embedding" if name == "siglip" else "classification"
    known = bn.Preprocessing(mean=(0.5,) * 3, std=(0.5,) * 3)
    cut = bn.cut(network, split, images[:2], task=task, preprocessing=known)
    loader = DataLoader(TensorDataset(images), batch_size=5)  # two are held back
    bn.fit(cut, loader, lmbdas=0.01, settings={"training.epochs": 0})
    ladder = bn.fit(cut, loader, lmbdas=0.01, settings={"training.epochs": 1})
    net = bn.BottleneckNetwork(cut.network, ladder, cut.backbone.network)
    streams = net.encode(images[:2])
    decoded = tree_leaves(net.decode(streams))
    with torch.no_grad():
        assert [leaf.shape for leaf in decoded] == [leaf.shape for leaf in tree_leaves(cut.network(images[:2]))]
    assert all(leaf.isfinite().all() for leaf in decoded)
    curve = bn.evaluate(net, images, settings=QUICK)
    assert Bundle(bn.export(net, tmp_path / "bundle", curve)).manifest.class_names == []


def check_cuts(network: nn.Module, images: Tensor) -> None:
    """Cut at three places, and compare head and tail with the network."""
    graph = Graph(network, images[:1])
    points = graph_points(graph)
    with torch.no_grad():
        expected = tree_leaves(network(images))
        for share in (0.25, 0.5, 0.75):
            parts = cut_graph(graph, points[int(share * len(points))].name)
            for leaf, own in zip(tree_leaves(parts(images)), expected, strict=True):
                assert (leaf - own).abs().max() <= TOLERANCE * own.abs().max()
