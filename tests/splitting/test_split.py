"""Head and tail together are the network, wherever it is cut; what cannot be cut is refused by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision import models

from bottlenecks.backbones.architecture import build_network
from bottlenecks.backbones.detectors.small import small_fcos
from bottlenecks.errors import UsageError
from bottlenecks.settings.model import BackboneSpec
from bottlenecks.splitting.cut import cut, cut_graph
from bottlenecks.splitting.graph import Graph
from bottlenecks.splitting.points import crowded_points, graph_points
from tests.conftest import configure

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
QUICK = ("resnet18", "resnet50", "tf_efficientnet_lite0")
OPTIONS: dict[str, dict[str, Any]] = {
    "vgg16_bn": {"init_weights": False},
    "vit_b_16": {"image_size": 64},
}  # quick to build and to run


def build(name: str) -> nn.Module:
    """Build a network whose random weights let the signal through."""
    torch.manual_seed(0)
    if name.startswith("tf_"):
        network = pytest.importorskip("timm").create_model(name)
    else:
        network = models.get_model(name, weights=None, **OPTIONS.get(name, {}))
    for path, parameter in network.named_parameters():
        if path.endswith("layer_scale") or not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    normalisations = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for module in normalisations:
        module.momentum = 1.0
    if normalisations:
        with torch.no_grad():
            network.train()(torch.randn(2, 3, 64, 64))
    return network.eval()


def slow(*values: Any) -> Any:
    """Mark a case as slow."""
    return pytest.param(*values, marks=pytest.mark.slow)


def addresses(module: nn.Module) -> set[int]:
    """Tell where a module's parameters lie in memory."""
    return {parameter.data_ptr() for parameter in module.parameters()}


class Branching(nn.Module):
    """Two branches that a function adds, an in-place layer, and a result as large as the image."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.act = nn.ReLU(inplace=True)
        self.left = nn.Conv2d(8, 8, 1)
        self.right = nn.Conv2d(8, 8, 3, padding=1)
        self.last = nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
        y = self.act(self.stem(x))
        y = functional.hardswish(self.left(y)) + self.right(y)
        y = functional.interpolate(self.last(y), size=x.shape[-2:])
        return scale * y.reshape(x.shape[0], -1)


class Chunks(nn.Module):
    """Takes a tensor apart, and adds one that is made of sizes alone on both sides of the cut."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 1)
        self.second = nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        columns = torch.arange(x.shape[-1], device=x.device)
        y = self.second(self.first(x) + columns)
        left, right = y.chunk(2, dim=1)
        return left * columns - right


@pytest.fixture(scope="module")
def resnet() -> nn.Module:
    return build("resnet50")


@pytest.fixture(scope="module")
def graph(resnet: nn.Module) -> Graph:
    return Graph(resnet, torch.zeros(1, 3, 64, 64))


@pytest.mark.parametrize("name", [one if one in QUICK else slow(one) for one in SHIPPED])
def test_head_and_tail_are_the_network_with_its_own_parameters(name: str) -> None:
    network, images = build(name), torch.randn(2, 3, 64, 64)
    graph = Graph(network, images[:1])
    with torch.no_grad():
        expected = network(images)
        assert (expected[0] - expected[1]).abs().max() > 1e-3 * expected.abs().max()
        for split in SHIPPED[name]:
            parts = cut_graph(graph, split)
            features = parts.head(images)
            assert [tensor.shape for tensor in features] == [(2, *shape) for shape in parts.feature_shape]
            assert torch.equal(parts.tail(*features), expected), split
            sides = addresses(parts.head), addresses(parts.tail)
            assert sides[0] | sides[1] == addresses(network) and sides[0].isdisjoint(sides[1])


@pytest.mark.parametrize(
    ("name", "splits"),
    [
        pytest.param("lraspp_mobilenet_v3_large", ("backbone.4", "backbone.12"), marks=pytest.mark.slow),
        ("small_lraspp", ("backbone.layer1", "backbone.layer2")),
        slow("lraspp_lite0", ("backbone.body.blocks.2", "backbone.body.blocks.4")),
        pytest.param(
            "ssdlite320_mobilenet_v3_large", ("backbone.features.0.12", "backbone.features.1"), marks=pytest.mark.slow
        ),
        ("small_fcos", ("backbone.body.layer2", "backbone.body.layer3")),
        slow("fcos_lite0", ("backbone.body.blocks.2", "backbone.body.blocks.4")),
        pytest.param(
            "fasterrcnn_mobilenet_v3_large_fpn",
            ("backbone.body.12", "backbone.fpn.inner_blocks.1"),
            marks=pytest.mark.slow,
        ),
        slow("deeplabv3_mobilenet_v3_large", ("backbone.12", "classifier.0.convs.1")),
        slow("deeplabv3_resnet50", ("backbone.layer3", "classifier.0.convs.1")),
        slow("fcn_resnet50", ("backbone.layer3", "backbone.layer4.0.conv2")),
        slow("fasterrcnn_resnet50_fpn", ("backbone.body.layer1", "backbone.body.layer3")),
        slow("retinanet_resnet50_fpn", ("backbone.body.layer2", "backbone.body.layer3")),
        slow("fcos_resnet50_fpn", ("backbone.body.layer2", "backbone.body.layer3")),
    ],
)
@torch.no_grad()
def test_dense_networks_where_one_tensor_crosses_and_where_several_do(
    name: str, splits: tuple[str, str], tmp_path: Path
) -> None:
    spec = BackboneSpec.of(configure("train", tmp_path, f"model={name}").model)
    if "lite0" in name:
        pytest.importorskip("timm")
    network = build_network(spec, 5)
    graph = Graph(network, torch.zeros(1, 3, 96, 96))
    single, several = (cut_graph(graph, split, several=True) for split in splits)
    assert (len(single.crossing), len(several.crossing) > 1) == (1, True)
    for size in ((64, 128), (97, 70)):
        images = torch.randn(2, 3, *size)
        expected = network(images)
        for parts in (single, several):
            output = parts.tail(*parts.head(images), *parts.sizes(images))
            assert output.keys() == expected.keys()
            assert all(torch.equal(output[key], expected[key]) for key in expected), (size, parts.split)


def test_a_detectors_split_points_are_listed_under_torchvisions_names() -> None:
    graph = Graph(small_fcos(), torch.zeros(1, 3, 96, 96))
    points = {point.name: point.shape for point in graph_points(graph)}
    assert points["backbone.body.layer2"] == (64, 12, 12)
    assert not any(name.startswith(("backbone.body.layer3", "backbone.fpn", "heads")) for name in points)
    crowded = crowded_points(graph)
    assert (crowded["backbone.body"], crowded["backbone"]) == (2, 4) and not {"heads", *points} & set(crowded)


def test_gradient_reaches_the_features(graph: Graph) -> None:
    parts = cut_graph(graph, "layer3")
    features = torch.randn(2, *parts.feature_shape[0], requires_grad=True)
    parts.tail(features).sum().backward()
    assert features.grad is not None and features.grad.abs().sum() > 0


def test_the_tail_leaves_the_features_as_they_are() -> None:
    parts = cut(Branching(), "stem", torch.zeros(1, 3, 16, 16))
    features = torch.randn(1, 8, 8, 8, requires_grad=True)
    before = features.detach().clone()
    parts.tail(features).sum().backward()
    assert torch.equal(features, before)


@pytest.mark.parametrize("split", ["stem", "act", "add", "last"])
def test_the_batch_is_read_off_the_features_and_the_images_size_travels(split: str) -> None:
    network = Branching()
    parts = cut(network, split, torch.zeros(1, 3, 16, 16))
    images = torch.randn(5, 3, 16, 16)
    assert torch.equal(parts.tail(*parts.head(images)), network(images))
    larger = torch.randn(2, 3, 30, 20)
    assert torch.equal(parts(larger), network(larger))
    assert [tuple(size) for size in parts.sizes(larger)] == [(30, 20)]


def test_most_networks_have_no_size_that_travels(graph: Graph) -> None:
    parts = cut_graph(graph, "layer3")
    assert parts.sizes(torch.zeros(1, 3, 64, 64)) == ()
    assert parts.crossing[0].name == "layer3"
    assert parts.feature_shape == ((1024, 4, 4),)


def test_several_tensors_cross_where_the_caller_allows_it() -> None:
    network, images = Branching(), torch.randn(2, 3, 16, 16)
    parts = cut(network, "left", images, several=True)
    assert [(tensor.name, tensor.shape) for tensor in parts.crossing] == [
        ("act", (8, 8, 8)),
        ("left", (8, 8, 8)),
    ]
    assert len(parts.head(images)) == 2
    assert torch.equal(parts(images), network(images))


def test_tensors_made_of_sizes_alone_do_not_cross() -> None:
    network, images = Chunks(), torch.randn(2, 3, 8, 8)
    parts = cut(network, "second", images)
    assert torch.equal(parts.tail(*parts.head(images)), network(images))
    larger = torch.randn(1, 3, 8, 12)
    assert torch.equal(parts(larger), network(larger))


def test_parts_of_a_tuple_cross_one_by_one() -> None:
    network, images = Chunks(), torch.randn(2, 3, 8, 8)
    parts = cut(network, "getitem_1", images, several=True)
    assert [tensor.shape for tensor in parts.crossing] == [(4, 8, 8), (4, 8, 8)]
    assert torch.equal(parts(images), network(images))


@pytest.mark.parametrize(
    ("split", "message"),
    [
        (
            "layre3",
            r"^split=layre3: no tensor of ResNet has this name; closest: layer3, .*split model=\.\.\. lists",
        ),
        (
            "layer3.4.conv2",
            r"^split=layer3\.4\.conv2: 2 tensors cross here where one was asked for: layer3\.3 \(1024x4x4\), "
            r"layer3\.4\.conv2 \(256x4x4\); nearest split points: layer3\.3 before and layer3\.4 after$",
        ),
        ("input", r"^split=input: .* input, the head would be empty; nearest split points: conv1 after$"),
        ("fc", r"^split=fc: .* output, the tail would be empty; nearest split points: avgpool before$"),
    ],
)
def test_cuts_that_cannot_be_made(graph: Graph, split: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        cut_graph(graph, split)


@pytest.mark.parametrize("convert", [Tensor.half, Tensor.int])
def test_what_is_no_float_of_32_bits_or_more_is_not_coded(convert: Callable[[Tensor], Tensor]) -> None:
    class Converting(nn.Module):
        """Converts its image, and back."""

        def __init__(self) -> None:
            super().__init__()
            self.top = nn.Conv2d(3, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            """Return maps."""
            return self.top(convert(100 * x).float())

    name = str(convert(torch.zeros(1)).dtype)
    with pytest.raises(UsageError, match=rf"split=to: what crosses there is {name}, and units code torch.float32"):
        cut(Converting(), "to", torch.rand(1, 3, 8, 8))
