"""Stand-ins for backbones: small enough to train within a test."""

from __future__ import annotations

from torch import Tensor, nn


def block(inputs: int, outputs: int) -> nn.Sequential:
    """Halve a map's sides."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )


class Tiny(nn.Module):
    """Three blocks and a linear layer: 32x32 pictures give 16x8x8 features at `body`."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.stem = block(3, 8)
        self.body = block(8, 16)
        self.top = block(16, 32)
        self.classifier = nn.Linear(32, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Give logits."""
        return self.classifier(self.top(self.body(self.stem(x))).mean((2, 3)))


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
        """Give logits."""
        maps = self.last(self.stem(x).permute(0, 2, 3, 1))
        return self.classifier(self.mix(self.flat(maps)).mean(1))


class TinySegmenter(nn.Module):
    """Maps each pixel from an eighth of the size: 128x128 pictures give 16x32x32 features at `body`."""

    def __init__(self, num_classes: int = 11) -> None:
        super().__init__()
        self.stem = block(3, 8)
        self.body = block(8, 16)
        self.top = block(16, 32)
        self.fine = nn.Conv2d(16, num_classes, 1)
        self.coarse = nn.Conv2d(32, num_classes, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Give logits at the size of the picture; two tensors cross after `top`."""
        middle = self.body(self.stem(x))
        coarse = nn.functional.interpolate(self.coarse(self.top(middle)), middle.shape[-2:], mode="bilinear")
        logits = nn.functional.interpolate(self.fine(middle) + coarse, x.shape[-2:], mode="bilinear")
        return {"out": logits}
