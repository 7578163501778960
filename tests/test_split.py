"""Head and tail together are the network, and the listing tells what each cut costs."""

from __future__ import annotations

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn
from torchvision import models
from torchvision.ops import Permute

from bottlenecks.errors import UsageError
from bottlenecks.graph import Graph
from bottlenecks.macs import count_macs
from bottlenecks.split import SplitPoint, cut, cut_graph, render_table, split_points

SHIPPED = {
    "resnet18": ("layer1", "layer3.0", "layer4"),
    "resnet50": ("layer2", "layer3.4", "layer3"),
    "mobilenet_v3_large": ("features.3", "features.12", "features.15"),
    "efficientnet_b0": ("features.2", "features.4.1", "features.5"),
    "convnext_tiny": ("features.1", "features.5.4", "features.6"),
    "vgg16_bn": ("features.13", "features.25", "features"),
    "densenet121": ("features.pool0", "features.transition2", "features.denseblock3"),
    "vit_b_16": ("conv_proj", "encoder.layers.encoder_layer_3", "encoder.layers"),
    "swin_t": ("features.1", "features.3.0", "features.5.3"),
    "tf_efficientnet_lite0": ("blocks.2", "blocks.4.1", "blocks.4"),
}
OPTIONS = {
    "vgg16_bn": {"init_weights": False},
    "vit_b_16": {"image_size": 64},
}  # quick to build, quick to run


def build(name: str) -> nn.Module:
    """Build a network with random weights whose signal reaches the output."""
    torch.manual_seed(0)
    if name.startswith("tf_"):
        timm = pytest.importorskip("timm")
        network = timm.create_model(name)
    else:
        network = models.get_model(name, weights=None, **OPTIONS.get(name, {}))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    for path, parameter in network.named_parameters():
        if path.endswith("layer_scale") or not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    return network.eval()


@pytest.fixture(scope="module")
def resnet() -> nn.Module:
    return build("resnet50")


@pytest.fixture(scope="module")
def graph(resnet: nn.Module) -> Graph:
    return Graph(resnet, torch.zeros(1, 3, 64, 64))


@pytest.mark.parametrize("name", SHIPPED)
def test_head_and_tail_are_the_network(name: str) -> None:
    network = build(name)
    pictures = torch.randn(2, 3, 64, 64)
    graph = Graph(network, pictures[:1])
    with torch.no_grad():
        expected = network(pictures)
        assert (expected[0] - expected[1]).abs().max() > 1e-3 * expected.abs().max()
        for split in SHIPPED[name]:
            parts = cut_graph(graph, split)
            features = parts.head(pictures)
            assert features.shape == (2, *parts.feature_shape)
            assert torch.equal(parts.tail(features), expected), split
            assert torch.equal(parts(pictures), expected), split
