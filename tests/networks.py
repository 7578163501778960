"""Stand-ins for backbones: small enough to train within a test."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def block(inputs: int, outputs: int) -> nn.Sequential:
    """Halve a map's sides."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )


class Tiny(nn.Module):
    """Three blocks and a linear layer: 32x32 images give 16x8x8 features at `body`."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.stem = block(3, 8)
        self.body = block(8, 16)
        self.top = block(16, 32)
        self.classifier = nn.Linear(32, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        return self.classifier(self.top(self.body(self.stem(x))).mean((2, 3)))


class Forgetful(Tiny):
    """The same with dropout, which draws from the process's own generator while it trains."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__(num_classes)
        self.top = nn.Sequential(self.top, nn.Dropout(0.5))


class Mixing(Tiny):
    """The same, but that it mixes the images of a batch, or draws at random, also in eval mode.

    Args:
        num_classes: of the output.
        how: `mean` and `statistics` of the batch before the cut, `statistics_behind` it; `first`, one image is added to
            all; `pairs` of neighbours; `size` of the batch; `dropout` that stays.
    """

    def __init__(self, num_classes: int = 10, how: str = "mean") -> None:
        super().__init__(num_classes)
        self.how = how

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        maps = self.stem(x)
        if self.how == "mean":
            maps = maps - maps.mean(0)
        if self.how == "statistics":
            maps = nn.functional.batch_norm(maps, None, None, training=True)
        if self.how == "first":
            maps = maps + maps[:1]
        if self.how == "pairs":
            maps = maps + maps.roll(1, 0)
        if self.how == "size":
            maps = maps / maps.shape[0]
        maps = self.body(maps)
        if self.how == "statistics_behind":
            maps = nn.functional.batch_norm(maps, None, None, training=True)
        if self.how == "dropout":
            maps = nn.functional.dropout(maps, 0.5, training=True)
        return self.classifier(self.top(maps).mean((2, 3)))


class Tokens(nn.Module):
    """Features laid out as (N, tokens, channels) and (N, H, W, C)."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.stem = block(3, 8)
        self.last = nn.LayerNorm(8)
        self.flat = nn.Flatten(1, 2)
        self.mix = nn.Linear(8, 8)
        self.classifier = nn.Linear(8, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        maps = self.last(self.stem(x).permute(0, 2, 3, 1))
        return self.classifier(self.mix(self.flat(maps)).mean(1))


class Heads(Tokens):
    """Features of several heads, (N, heads, tokens, channels of each)."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__(num_classes)
        self.heads = nn.Unflatten(2, (2, 4))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        tokens = self.flat(self.last(self.stem(x).permute(0, 2, 3, 1)))
        heads = self.heads(tokens).transpose(1, 2)
        return self.classifier(self.mix(heads.transpose(1, 2).flatten(2)).mean(1))


class TinySegmenter(nn.Module):
    """Maps each pixel from an eighth of the size: 128x128 images give 16x32x32 features at `body`."""

    def __init__(self, num_classes: int = 11) -> None:
        super().__init__()
        self.stem = block(3, 8)
        self.body = block(8, 16)
        self.top = block(16, 32)
        self.fine = nn.Conv2d(16, num_classes, 1)
        self.coarse = nn.Conv2d(32, num_classes, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return logits at the size of the image; two tensors cross after `top`."""
        middle = self.body(self.stem(x))
        coarse = nn.functional.interpolate(self.coarse(self.top(middle)), middle.shape[-2:], mode="bilinear")
        logits = nn.functional.interpolate(self.fine(middle) + coarse, x.shape[-2:], mode="bilinear")
        return {"out": logits}


CONSTANTS = (0.1, -7.3, 1000.7)


class Edge(nn.Module):
    """A tiny network with something odd at its cut `body`, or behind it; maps are an eighth of the image's size there.

    Args:
        num_classes: of the output.
        odd: `dead` or `constant` channels; `deaf`, a tail that does not listen; `linear`, one that is an average;
            `small` and `large` features; features that are `broken`; `aside`, a second tensor that the tail ignores.
    """

    def __init__(self, num_classes: int = 10, odd: str = "") -> None:
        super().__init__()
        self.odd = odd
        self.stem = block(3, 8)
        self.pool = nn.AvgPool2d(4)
        self.mix = nn.Conv2d(8, num_classes if odd == "linear" else 8, 1)
        self.side = nn.Conv2d(8, 4, 1)
        self.body = nn.Identity()
        self.top = nn.Sequential(nn.Conv2d(8, 16, 1), nn.ReLU())
        self.classifier = nn.Linear(16, num_classes)
        self.scale = {"small": 1e-4, "large": 1e4}.get(odd, 1.0)

    def features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return what crosses at `body`, and what is aside of it."""
        pooled = self.pool(self.stem(x))
        maps, aside = self.scale * self.mix(pooled), self.side(pooled)
        if self.odd == "dead":
            maps = torch.cat([maps[:, :5].relu(), 0 * maps[:, 5:]], 1)
        if self.odd == "constant":
            maps = torch.cat([maps[:, :5], 0 * maps[:, 5:] + torch.tensor(CONSTANTS)[:, None, None]], 1)
        if self.odd == "aside":
            maps = maps + 0 * aside.mean(1, keepdim=True)
        return maps / 0 if self.odd == "broken" else maps, aside

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, far enough from each other that the tail listens to what is small."""
        maps, aside = self.features(x)
        maps = self.body(maps) / self.scale
        if self.odd == "constant":
            maps = maps / torch.tensor([1.0] * 5 + [*CONSTANTS])[:, None, None]
        if self.odd == "linear":
            return 50 * maps.mean((2, 3))
        if self.odd == "deaf":
            maps = 0 * maps
        logits = 50 * self.classifier(self.top(maps).mean((2, 3)))
        return logits + 0 * aside.mean((1, 2, 3))[:, None] if self.odd == "aside" else logits
