"""What networks give for classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from bottlenecks.errors import UsageError
from bottlenecks.splitting.tracing import to_plain

NAMES = ("logits", "out")  # of the entry that holds them, in transformers and in torchvision
FORMS = {2: "(N, classes)", 4: "(N, classes, H, W)"}


def logits_of(output: Any) -> Any:
    """Take the logits out of a network's output: itself, or the entry of a dict or a dataclass that is named so."""
    named = to_plain(output)
    if not isinstance(named, Mapping):
        return output
    return next((named[name] for name in NAMES if name in named), output)


def outputs_of(output: Any, dims: int) -> list[Tensor]:
    """List the logits that a network gives while it is trained, and those of auxiliary heads behind them."""
    named = to_plain(output)
    values = [*named.values()] if isinstance(named, Mapping) else [named] if isinstance(named, Tensor) else named
    main = logits_of(output)
    first = [main] if isinstance(main, Tensor) else []
    return [*first, *(one for one in values if one is not main and is_logits(one, dims))]


def is_logits(value: Any, dims: int) -> bool:
    """Return whether this is a tensor of logits, and not whatever else is in an output."""
    return isinstance(value, Tensor) and value.dim() == dims and value.is_floating_point()


def check_logits(value: Any, dims: int, num_classes: int | None) -> None:
    """Refuse a network's output without logits, or one for other classes.

    Args:
        value: the output, logits or a dict of them.
        dims: 2 for one decision an image, 4 for one a pixel.
        num_classes: that the data has; None where it has no labels.

    Raises:
        UsageError: it is.
    """
    value = logits_of(value)
    if not is_logits(value, dims):
        found = f"a tensor {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
        raise UsageError(
            f"it gives {found} in eval mode, where logits {FORMS[dims]} are expected; wrap it so that it does"
        )
    if num_classes is not None and value.shape[1] != num_classes:
        raise UsageError(
            f"it has {value.shape[1]} outputs, and the data {num_classes} classes; give it a head of {num_classes}"
        )


def check_targets(targets: Tensor, output: Any) -> Tensor:
    """Return labels, of images (N,) or of pixels (N, H, W), if the network has an output for each of their classes.

    Raises:
        UsageError: it has none for one of them.
    """
    outputs, most = logits_of(output).shape[1], int(targets.max()) if targets.numel() else 0
    if most >= outputs:
        raise UsageError(
            f"targets: class {most} is among them, and the network has {outputs} outputs; they count from 0"
        )
    return targets
