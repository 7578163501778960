"""What the features at the cut look like, from a pass over training pictures."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class FeatureStatistics:
    """Statistics of features over pictures and positions.

    Attributes:
        minimum: the smallest element seen.
        variance: mean square of the elements about their channels' means.
        sample: features of the first pictures, (N, C, H, W).
    """

    minimum: float
    variance: float
    sample: Tensor

    @property
    def nonnegative(self) -> bool:
        """Whether no element was below zero."""
        return self.minimum >= 0


SAMPLE_ELEMENTS = 2**25  # 128 MiB of float32


@torch.no_grad()
def calibrate(
    head: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], device: torch.device, num_images: int = 512
) -> FeatureStatistics:
    """Pass pictures through the head and gather statistics of what comes out.

    Args:
        head: gives features (N, C, H, W).
        batches: (images, targets); read until `num_images` have been seen.
        device: where the head is.
        num_images: how many pictures are enough.
    """
    minimum, seen, count = float("inf"), 0, 0
    total = square = torch.zeros((), dtype=torch.float64)
    sample: list[Tensor] = []
    for images, _ in batches:
        features = head(images.to(device)).float().cpu()
        if not sample or (seen + len(images)) * features[0].numel() <= SAMPLE_ELEMENTS:
            sample.append(features)
        features = features.double()
        minimum = min(minimum, float(features.min()))
        total = total + features.sum((0, 2, 3))
        square = square + features.square().sum((0, 2, 3))
        count += features[:, 0].numel()
        seen += len(images)
        if seen >= num_images:
            break
    variance = float((square / count - (total / count).square()).mean())
    return FeatureStatistics(minimum, max(variance, 1e-12), torch.cat(sample))
