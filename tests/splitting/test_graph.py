"""Networks become graphs with the network's own names, or are refused with the reason."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.ops import Permute

from bottlenecks.errors import UsageError
from bottlenecks.splitting.graph import Graph
from bottlenecks.splitting.tracing import trace


class Undecided(nn.Module):
    """Branches on what it sees."""

    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


class Overwriting(nn.Module):
    """Works in place on a tensor that is read again."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return torch.relu_(y) + y


class Assigning(Overwriting):
    """Writes into a tensor and makes no use of what that returns."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        y[:, 0].zero_()
        return y.relu()


class Table(nn.Module):
    """Uses a tensor that is neither parameter nor buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.table: Tensor
        self.register_buffer("table", torch.arange(4.0))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.table.view(1, 4)


def test_a_modules_name_stands_for_its_last_tensor() -> None:
    graph = Graph(models.resnet18(), torch.zeros(1, 3, 64, 64))
    assert graph.names["layer3"] is graph.names["layer3.1"] is graph.names["layer3.1.relu_1"]
    assert graph.names_of[graph.names["layer3"]] == ["layer3", "layer3.1", "layer3.1.relu_1"]
    assert {"layer3", "layer3.1"} <= graph.module_names and "layer3.1.relu_1" not in graph.module_names


@pytest.mark.parametrize("size", [(64, 64), (48, 80)])
def test_layouts_where_shapes_are_ambiguous(size: tuple[int, int]) -> None:
    network = nn.Sequential(nn.Conv2d(3, 16, 4, stride=4), Permute([0, 2, 3, 1]), nn.Flatten(1, 2), nn.Flatten())
    graph = Graph(network, torch.zeros(1, 3, *size))
    layouts = [graph.layout(graph.names[name]) for name in ("0", "1", "2", "3")]
    assert layouts == ["NCHW", "NHWC", "NTC", "NC"]


def test_four_dimensions_without_space_are_no_map() -> None:
    graph = Graph(
        nn.Sequential(nn.Conv2d(3, 6, 4, stride=4), nn.Unflatten(1, (2, 3)), nn.Flatten(3)),
        torch.zeros(1, 3, 64, 64),
    )
    assert graph.layout(graph.names["2"]) == "other"


def test_tracing_leaves_nothing_behind_in_the_network() -> None:
    network = Table()
    attributes = set(vars(network))
    module = trace(network, torch.zeros(1, 3, 32, 32)).module
    assert set(vars(network)) == attributes
    assert torch.equal(module(torch.zeros(1, 4)), torch.arange(4.0)[None])


def test_networks_are_traced_as_they_evaluate() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Dropout(0.5)).train()
    graph = Graph(network, torch.zeros(2, 3, 8, 8))
    assert not network.training and not graph.module.training


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (
            Undecided(),
            r"^model=Undecided: cannot be traced .*\(it branches on the values of a tensor\); name another model",
        ),
        (Assigning(), r"^model=Assigning: overwrites the tensor `conv` in place"),
        (
            Overwriting(),
            r"^model=Overwriting: overwrites the tensor `conv` in place while .* work out of place$",
        ),
        (
            nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten(), nn.Linear(64, 2)),
            r"^data\.image_size=8x8: Sequential refuses images of this size .*; set data\.image_size",
        ),
    ],
)
def test_networks_that_cannot_be_cut(network: nn.Module, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Graph(network, torch.zeros(1, 3, 8, 8))
