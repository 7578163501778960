"""Multiply-accumulates against formulas and published figures, and the listing that shows them."""

from __future__ import annotations

from io import StringIO

import pytest
import torch
from rich.console import Console
from torch import nn
from torchvision import models

from bottlenecks.runs.listing import render_table
from bottlenecks.splitting.macs import count_macs
from bottlenecks.splitting.points import SplitPoint, split_points

PUBLISHED = ("resnet18", "mobilenet_v3_large")
SLOW = ("resnet50", "efficientnet_b0", "convnext_tiny", "vgg16_bn", "densenet121", "vit_b_16", "swin_t")


@pytest.fixture(scope="module")
def points() -> dict[str, SplitPoint]:
    return {point.name: point for point in split_points(models.resnet50(), torch.zeros(2, 3, 224, 224))}


@pytest.mark.parametrize(
    ("module", "macs"),
    [
        (nn.Conv2d(8, 16, 3, stride=2, padding=1), 8 * 16 * 9 * 5 * 5),
        (nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=8), 8 * 9 * 5 * 5),
        (nn.ConvTranspose2d(8, 8, 3, stride=2, groups=8), 8 * 9 * 10 * 10),
        (nn.Linear(10, 7), 10 * 7 * 8 * 10),
        (nn.Sequential(nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)), 0),
    ],
)
def test_layers_against_their_formulas(module: nn.Module, macs: int) -> None:
    assert count_macs(module.eval(), torch.zeros(1, 8, 10, 10)) == macs


def test_attention_counts_whatever_kernel_would_run_it() -> None:
    tokens, width = 10, 16
    attention = nn.MultiheadAttention(width, 4, batch_first=True).eval().requires_grad_(False)
    x = torch.zeros(1, tokens, width)
    assert count_macs(attention, x, x, x) == 4 * tokens * width**2 + 2 * tokens**2 * width


@pytest.mark.parametrize("name", [*PUBLISHED, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_networks_against_torchvisions_figures(name: str) -> None:
    with torch.device("meta"):
        network, image = models.get_model(name, weights=None).eval(), torch.zeros(1, 3, 224, 224)
    published = models.get_model_weights(name).DEFAULT.meta["_ops"]  # in 1e9, to three places
    assert count_macs(network, image) / 1e9 == pytest.approx(published, abs=6e-4)


def test_resnet50s_split_points(points: dict[str, SplitPoint]) -> None:
    shapes = {name: points[name].shape for name in ("layer1", "layer2", "layer3.4", "layer3", "layer4")}
    assert shapes == {
        "layer1": (256, 56, 56),
        "layer2": (512, 28, 28),
        "layer3.4": (1024, 14, 14),
        "layer3": (1024, 14, 14),
        "layer4": (2048, 7, 7),
    }
    assert points["layer3"].aliases == ("layer3.5",)
    assert not {"layer3.5", "layer3.4.conv2", "input", "fc"} & set(points)


class Query(nn.Module):
    """Asks tokens by one that is learnt, as pooling by attention does."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = nn.Parameter(torch.zeros(1, 1, 8))
        self.layer = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return weighted tokens."""
        weights = self.layer(self.asked.expand(x.shape[0], -1, -1)) @ x.flatten(2)
        return weights.flatten(1)


class Remembering(nn.Module):
    """Keeps tensors from one call to the next, as some layers of attention do with the places of their tokens."""

    is_leaf = True

    def __init__(self) -> None:
        super().__init__()
        self.last, self.by_width = None, {}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Add what is remembered of this width."""
        if self.last is None or self.last.shape[0] != x.shape[3]:
            self.last = torch.arange(x.shape[3])
        return x + self.last + self.by_width.setdefault(x.shape[3], torch.ones(x.shape[3]))


def test_a_network_remembers_nothing_of_a_run_over_shapes() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), Remembering(), nn.Conv2d(4, 2, 1))
    image = torch.zeros(1, 3, 4, 4)
    assert split_points(network, image) and count_macs(network, image) == 16 * (12 + 8)
    assert network[1].last is None and not network[1].by_width
    assert type(network(image)) is torch.Tensor


def test_a_view_of_a_parameter_that_learns_has_a_shape() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 4, stride=4), Query())
    assert [point.shape for point in split_points(network, torch.zeros(1, 3, 16, 16))][:1] == [(8, 4, 4)]


def test_the_devices_share_of_the_work(points: dict[str, SplitPoint]) -> None:
    layer3 = points["layer3"]
    assert layer3.head_macs == pytest.approx(3278e6, rel=1e-4)
    assert layer3.macs_share == pytest.approx(3278 / 4089, abs=1e-3)
    assert layer3.num_elements == 1024 * 14 * 14
    assert layer3.relative_elements == pytest.approx(4 / 3)


def test_the_table(points: dict[str, SplitPoint]) -> None:
    text = StringIO()
    Console(width=140, file=text).print(render_table(points.values(), 4_089_184_256, "resnet50", {"fpn": 3}))
    lines = text.getvalue().splitlines()
    assert lines[0].strip() == "resnet50: 4,089 M multiply-accumulates per image"
    assert lines[-1].strip() == "several tensors cross after fpn (3)"
    row = next(line for line in lines if "layer3.5" in line)
    assert [cell.strip() for cell in row.split("│")[1:-1]] == [
        "layer3",
        "layer3.5",
        "CHW 1024x14x14",
        "200,704",
        "1.33 x",
        "3,277.9",
        "80.2%",
    ]
