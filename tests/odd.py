"""Networks that are odd to train."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from tests.networks import Tiny, block

Outputs = namedtuple("Outputs", ["logits", "aux_logits"])


@dataclass
class Output:
    """Two outputs, of which the second matters.

    Attributes:
        hidden: as wide as the logits.
        logits: of the classes.
    """

    hidden: Tensor
    logits: Tensor


class Named(Tiny):
    """Returns its logits in a container.

    Args:
        num_classes: of the output.
        kind: `dict`, `tuple`, `named` or `dataclass`; with `train-` before it in training alone, as those with
            auxiliary heads do.
    """

    def __init__(self, num_classes: int = 10, kind: str = "dict") -> None:
        super().__init__(num_classes)
        self.kind = kind

    def forward(self, x: Tensor) -> Any:
        """Return logits and a second output."""
        logits = super().forward(x)
        if self.kind.startswith("train-") and not self.training:
            return logits
        kind = self.kind.removeprefix("train-")
        if kind == "dict":
            return {"logits": logits, "aux": 2 * logits}
        if kind == "dataclass":
            return Output(2 * logits, logits)
        return Outputs(logits, 2 * logits) if kind == "named" else (logits, 2 * logits)


class Tied(nn.Module):
    """One layer used in two places, under two names."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.stem = block(3, 8)
        self.body = block(8, 16)
        self.first = nn.Conv2d(16, 16, 1)
        self.second = nn.Conv2d(16, 16, 1)
        self.second.weight = self.first.weight
        self.classifier = nn.Linear(16, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        return self.classifier(self.second(self.first(self.body(self.stem(x))).relu()).mean((2, 3)))


class Seven(Tiny):
    """Has seven outputs, whatever is asked for."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__(7)


class Frozen(Tiny):
    """Has no parameter that learns."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__(num_classes)
        self.requires_grad_(False)


class Pooled(Tiny):
    """Normalises what global pooling leaves, as DeepLab does: one image is too few to train on."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__(num_classes)
        self.norm = nn.BatchNorm1d(32)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        return self.classifier(self.norm(self.top(self.body(self.stem(x))).mean((2, 3))))


class Needy(Tiny):
    """Has to be told how many classes there are."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)


class Fixed(Tiny):
    """Knows how many classes there are and will not be told."""

    def __init__(self) -> None:
        super().__init__(10)


class Silent(Tiny):
    """Returns no logits while it trains."""

    def forward(self, x: Tensor) -> Any:
        """Return logits, or a loss."""
        logits = super().forward(x)
        return {"loss": logits.sum()} if self.training else logits
