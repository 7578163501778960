"""What batches of a user's own images have to be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bottlenecks.errors import UsageError

Shape = tuple[int | None, ...]  # None for any number


@dataclass(frozen=True)
class BatchCheck:
    """Refuses batches that are not what the cut network takes; nothing is converted but the width of integers.

    Attributes:
        argument: that the images were given as.
        task: says what targets are.
        image_shape: (C, H, W).
    """

    argument: str
    task: str
    image_shape: Shape

    def __call__(self, batch: Any, count: int) -> tuple[Tensor, Tensor]:
        """Return images (N, C, H, W) and targets, -1 where there are none.

        Args:
            batch: what was put together.
            count: of items that went into it, N.

        Raises:
            UsageError: they are not there, fewer or more than N, or of another shape or type.
        """
        if isinstance(batch, Tensor):
            batch = (batch,)
        if isinstance(batch, Mapping) or not isinstance(batch, Sequence) or not len(batch):
            kind = type(batch).__name__
            raise UsageError(f"{self.argument}: expected batches of images or (images, targets), got {kind}")
        images = batch[0]
        self._check("images", images, self.image_shape, torch.float32, "convert them, or cut for an example like them")
        targets = torch.full((len(images),), -1)
        if len(batch) > 1 and isinstance(batch[1], Tensor):
            targets = self._targets(images, batch[1])
        for what, tensor in (("images", images), ("targets", targets)):
            if len(tensor) != count:
                raise UsageError(
                    f"{self.argument}: {count} items make a batch of {len(tensor)} {what}; collate_fn has to keep each "
                    "of them; leave images out by torch.utils.data.Subset"
                )
        return images, targets

    def _targets(self, images: Tensor, targets: Tensor) -> Tensor:
        if not (targets.is_floating_point() or targets.is_complex() or targets.dtype == torch.bool):
            targets = targets.long().clamp_min(-1)
        shape, dtype = {
            "segmentation": (images.shape[2:], torch.int64),
            "detection": ((None, 5), torch.float32),
        }.get(self.task, ((), torch.int64))
        way_out = "-1 is for no label; or give the images alone"
        if targets.shape[1:] == images.shape[1:]:
            way_out = "if these are batches of images, put them together by torch.cat"
        self._check("targets", targets, shape, dtype, way_out)
        return targets

    def _check(self, what: str, tensor: Any, shape: Shape, dtype: torch.dtype, way_out: str) -> None:
        is_tensor = isinstance(tensor, Tensor)
        fits = is_tensor and tensor.dim() == len(shape) + 1 and tensor.dtype == dtype
        if fits and all(wanted in (None, size) for wanted, size in zip(shape, tensor.shape[1:], strict=True)):
            return
        got = f"{tuple(tensor.shape)} of {tensor.dtype}" if is_tensor else type(tensor).__name__
        sides = "".join(f", {'any' if side is None else side}" for side in shape) or ","
        raise UsageError(f"{self.argument}: expected {what} (N{sides}) of {dtype}, got {got}; {way_out}")
