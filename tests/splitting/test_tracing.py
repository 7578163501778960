"""Networks whose code symbols cannot go through are exported, and cut as others are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bottlenecks.errors import UsageError
from bottlenecks.splitting.cut import cut_graph
from bottlenecks.splitting.graph import Graph
from bottlenecks.splitting.points import graph_points
from bottlenecks.splitting.tracing import trace


@dataclass
class Outputs:
    """What a network gives, by name; not everything is there."""

    logits: Tensor
    hidden: Tensor
    loss: Tensor | None = None


class Block(nn.Module):
    """Branches on a shape, works in place, and makes a tensor of its own."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1] < 2:
            raise ValueError("too small")
        ramp = torch.arange(x.shape[-1], device=x.device) / torch.tensor(10.0, device=x.device)
        return self.act(self.conv(x) + ramp) + x


class Branching(nn.Module):
    """Calls one block twice, and gives a dataclass."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 4, stride=4)
        self.blocks = nn.ModuleList([Block(8), Block(8)])
        self.head = nn.Linear(8, 5)

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None) -> Outputs:
        x = self.stem(pixel_values)
        for block in [*self.blocks, self.blocks[1]]:
            x = block(x)
        pooled = x.flatten(2).mean(-1)
        return Outputs(self.head(pooled), pooled)


class FixedBatch(nn.Module):
    """Takes two images at a time."""

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[0] != 2:
            raise ValueError("two images, please")
        return x.relu()


@pytest.fixture(scope="module")
def network() -> Branching:
    torch.manual_seed(0)
    return Branching().eval()


@pytest.fixture(scope="module")
def graph(network: Branching) -> Graph:
    return Graph(network, torch.zeros(1, 3, 32, 24))


@pytest.mark.parametrize("split", ["stem", "blocks.0", "blocks.1.add_1", "blocks.1"])
@pytest.mark.parametrize("num_images", [1, 3])
def test_head_and_tail_are_the_network(network: Branching, graph: Graph, split: str, num_images: int) -> None:
    images = torch.rand(num_images, 3, 32, 24)
    parts = cut_graph(graph, split)
    expected: Any = network(images)
    assert_same(parts(images), expected)
    features = parts.head(images)
    before = features[0].clone()
    assert_same(parts.finish(features), expected)
    assert torch.equal(features[0], before)


def assert_same(output: Any, expected: Outputs) -> None:
    assert list(output) == ["logits", "hidden"]  # a dict without what is None
    assert torch.equal(output["logits"], expected.logits) and torch.equal(output["hidden"], expected.hidden)


def test_names_are_those_of_the_modules(graph: Graph) -> None:
    assert [point.name for point in graph_points(graph)] == ["stem", "blocks.0", "blocks"]
    assert {"blocks.0.conv", "blocks.1.act", "blocks.1", "head"} < set(graph.names)


def test_the_graph_has_the_networks_own_parameters(network: Branching, graph: Graph) -> None:
    own = {id(parameter) for parameter in network.parameters()}
    assert {id(parameter) for parameter in cut_graph(graph, "blocks.0").parameters()} == own


def test_tensors_are_made_where_the_image_is() -> None:
    module = trace(Branching(), torch.zeros(1, 3, 32, 24)).module.to("meta")
    assert module(torch.zeros(1, 3, 32, 24, device="meta"))["logits"].device.type == "meta"


def test_it_is_for_images_of_one_size(graph: Graph) -> None:
    assert graph.larger is None


def test_a_network_for_one_batch_size_is_refused() -> None:
    with pytest.raises(UsageError, match=r"^model=FixedBatch: cannot be traced .*\(it takes batches of one size"):
        trace(FixedBatch(), torch.zeros(1, 3, 8, 8))
