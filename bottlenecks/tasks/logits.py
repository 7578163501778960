"""What networks give for classes."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from bottlenecks.errors import UsageError

FORMS = {2: "(N, classes)", 4: "(N, classes, H, W)"}


def is_logits(value: Any, dims: int) -> bool:
    """Tell a tensor of logits from whatever else is in an output."""
    return isinstance(value, Tensor) and value.dim() == dims and value.is_floating_point()


def check_logits(value: Any, dims: int, num_classes: int | None) -> None:
    """Refuse what is no tensor of logits, or one for other classes.

    Args:
        value: a network's output.
        dims: 2 for one decision an image, 4 for one a pixel.
        num_classes: that the data has; None where it has no labels.

    Raises:
        UsageError: it is.
    """
    if not is_logits(value, dims):
        found = f"a tensor {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
        raise UsageError(
            f"it gives {found} in eval mode, where logits {FORMS[dims]} are expected; wrap it so that it does"
        )
    if num_classes is not None and value.shape[1] != num_classes:
        raise UsageError(
            f"it has {value.shape[1]} outputs, and the data {num_classes} classes; give it a head of {num_classes}"
        )
