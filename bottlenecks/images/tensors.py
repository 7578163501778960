"""Images as tensors, as programs hand them over."""

from __future__ import annotations

import torch
from torch import Tensor

from bottlenecks.errors import UsageError


def check_batch(
    argument: str, images: object, channels: int | None = None, dtype: torch.dtype | None = None, least: int = 0
) -> None:
    """Refuse what is no batch of images as a network takes it; its pixels are not read.

    Args:
        argument: its name.
        images: that were given.
        channels: that the network takes; None for any number.
        dtype: that it takes; None for any.
        least: number of images.

    Raises:
        UsageError: they are something else.
    """
    batch = isinstance(images, Tensor) and images.dim() == 4 and len(images) >= least and min(images.shape[1:]) > 0
    if batch and channels in (None, images.shape[1]) and dtype in (None, images.dtype):  # type: ignore[attr-defined]
        return
    found = f"{tuple(images.shape)} of {images.dtype}" if isinstance(images, Tensor) else type(images).__name__
    raise UsageError(
        f"{argument}: expected a tensor (N, {channels or 'C'}, H, W){f' of {dtype}' if dtype else ''}, got {found}; "
        "prepare images as for the network itself, one alone as image[None]"
    )


def check_finite(argument: str, images: Tensor) -> None:
    """Refuse images with pixels that are not finite numbers.

    Raises:
        UsageError: there are some; the message names the images.
    """
    broken = (~images.isfinite()).flatten(1).any(1).nonzero().flatten().tolist()
    if broken:
        raise UsageError(
            f"{argument}: pixels that are not finite numbers in images {broken} of the batch; leave them out"
        )
