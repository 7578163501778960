"""Tokens, channels last and vectors cross as maps, and come back as they were."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import Permute

from bottlenecks.errors import UsageError
from bottlenecks.splitting.cut import cut
from bottlenecks.splitting.layouts import maps_to_tokens, tokens_to_maps


class Tokens(nn.Module):
    """A transformer: patches of 4 pixels, some tokens before them, and none of a fixed position."""

    def __init__(self, prefix: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, stride=4)
        self.before = nn.Parameter(torch.randn(1, prefix, 8))
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.before.expand(tokens.shape[0], -1, -1), tokens], 1)
        return self.head(self.layer(tokens).mean(1))


class Unfolded(nn.Module):
    """Patches that no map goes before: 8 x 8 pixels, as vectors."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.unfold(x, 8, stride=8).transpose(1, 2)


def channels_last() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 4, stride=4), Permute([0, 2, 3, 1]), nn.ReLU(inplace=True), nn.Flatten())


CASES: list[tuple[Callable[[], nn.Module], str, tuple[int, int], list[tuple[int, ...]]]] = [
    (lambda: Tokens(0), "layer", (24, 16), [(8, 6, 4)]),
    (lambda: Tokens(1), "layer", (24, 16), [(8, 6, 4), (8, 1, 1)]),
    (lambda: Tokens(5), "layer", (20, 28), [(8, 5, 7), (40, 1, 1)]),
    (lambda: nn.Sequential(Unfolded(), nn.Linear(192, 6), nn.ReLU()), "0", (24, 48), [(192, 3, 6)]),
    (lambda: nn.Sequential(Unfolded(), nn.Linear(192, 6), nn.ReLU()), "1", (24, 48), [(6, 3, 6)]),
    (channels_last, "1", (16, 16), [(8, 4, 4)]),
    (
        lambda: nn.Sequential(nn.Conv2d(3, 7, 4), nn.Flatten(2), nn.ReLU(), nn.Linear(81, 2)),
        "1",
        (12, 12),
        [(81, 1, 7)],
    ),
    (lambda: nn.Sequential(nn.Conv2d(3, 8, 8), nn.Flatten(), nn.ReLU(), nn.Linear(8, 2)), "1", (8, 8), [(8, 1, 1)]),
]


@pytest.mark.parametrize(("make", "split", "size", "shapes"), CASES)
def test_what_crosses_is_maps(
    make: Callable[[], nn.Module], split: str, size: tuple[int, int], shapes: list[tuple[int, ...]]
) -> None:
    torch.manual_seed(0)
    network, images = make().eval(), torch.rand(3, 3, *size)
    parts = cut(network, split, images[:1])
    maps = parts.head(images)
    assert [tensor.shape for tensor in parts.crossing] == shapes
    assert [tuple(tensor.shape) for tensor in maps] == [(3, *shape) for shape in shapes]
    before = [tensor.clone() for tensor in maps]
    assert torch.allclose(parts.finish(maps), network(images), atol=1e-6)
    assert all(torch.equal(tensor, own) for tensor, own in zip(maps, before, strict=True))


def test_a_grid_of_tokens_follows_the_image() -> None:
    network = Tokens(1).eval()
    parts = cut(network, "layer", torch.zeros(1, 3, 24, 16))
    images = torch.rand(2, 3, 32, 40)
    grid, prefix = parts.head(images)
    assert grid.shape == (2, 8, 8, 10) and prefix.shape == (2, 8, 1, 1)
    assert torch.allclose(parts.finish((grid, prefix)), network(images), atol=1e-6)


def test_the_map_of_tokens_has_them_where_their_patches_are() -> None:
    tokens = torch.arange(2 * 7 * 3.0).view(2, 7, 3)
    grid, prefix = tokens_to_maps(tokens, torch.zeros(2, 3, 32, 48), prefix=1, rows=2, height=32)
    assert torch.equal(grid[1, :, 1, 2], tokens[1, 6]) and torch.equal(prefix[1, :, 0, 0], tokens[1, 0])
    assert torch.equal(maps_to_tokens(grid, prefix), tokens)


def test_the_names_of_the_maps() -> None:
    parts = cut(Tokens(1), "layer", torch.zeros(1, 3, 24, 16))
    assert [tensor.name for tensor in parts.crossing] == ["layer", "layer.prefix"]


def test_a_cut_inside_attention_is_refused() -> None:
    class Heads(nn.Module):
        def forward(self, tokens: Tensor) -> Tensor:
            return tokens.unflatten(2, (4, 2)).transpose(1, 2)

    network = nn.Sequential(Unfolded(), nn.Linear(192, 8), Heads(), nn.ReLU())
    with pytest.raises(UsageError, match=r"^split=2: the features there have shape \(4, 18, 2\); units take maps"):
        cut(network, "2", torch.zeros(1, 3, 24, 48))
