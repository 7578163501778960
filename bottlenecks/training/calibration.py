"""What the features at the cut look like, from a pass over training images."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bottlenecks.splitting.features import Features


@dataclass(frozen=True)
class FeatureStatistics:
    """Statistics of one tensor of features over images and positions.

    Attributes:
        minimum: the smallest element seen.
        variance: mean square of the elements about their channels' means.
        sample: features of the first images, (N, C, H, W).
    """

    minimum: float
    variance: float
    sample: Tensor

    @property
    def nonnegative(self) -> bool:
        """Whether no element was below zero."""
        return self.minimum >= 0


def statistics_of(features: Features) -> tuple[FeatureStatistics, ...]:
    """Gather the statistics of features that are at hand, (N, C, H, W) of each tensor."""
    tallies = []
    for tensor in features:
        tallies.append(_Tally())
        for part in tensor.split(SOME):
            tallies[-1].add(part)
    return tuple(tally.statistics() for tally in tallies)


SOME = 64  # images at once
SAMPLE_ELEMENTS = 2**25  # 128 MiB of float32


@torch.no_grad()
def calibrate(
    head: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], device: torch.device, num_images: int = 512
) -> tuple[FeatureStatistics, ...]:
    """Pass images through the head and gather statistics of each tensor that comes out.

    Args:
        head: gives features (N, C, H, W), a tuple of tensors.
        batches: (images, targets); read until `num_images` have been seen.
        device: where the head is.
        num_images: how many images are enough.
    """
    tallies: list[_Tally] = []
    seen = 0
    for images, _ in batches:
        tensors = head(images.to(device))
        tallies = tallies or [_Tally() for _ in tensors]
        for tally, features in zip(tallies, tensors, strict=True):
            tally.add(features.float().cpu())
        seen += len(images)
        if seen >= num_images:
            break
    return tuple(tally.statistics() for tally in tallies)


class _Tally:
    """Gathers the statistics of one tensor, batch by batch."""

    def __init__(self) -> None:
        self.minimum, self.seen, self.count = float("inf"), 0, 0
        self.total = self.square = torch.zeros((), dtype=torch.float64)
        self.sample: list[Tensor] = []

    def add(self, features: Tensor) -> None:
        self.seen += len(features)
        if not self.sample or self.seen * features[0].numel() <= SAMPLE_ELEMENTS:
            self.sample.append(features)
        features = features.double()
        self.minimum = min(self.minimum, float(features.min()))
        self.total = self.total + features.sum((0, 2, 3))
        self.square = self.square + features.square().sum((0, 2, 3))
        self.count += features[:, 0].numel()

    def statistics(self) -> FeatureStatistics:
        variance = float((self.square / self.count - (self.total / self.count).square()).mean())
        return FeatureStatistics(self.minimum, max(variance, 1e-12), torch.cat(self.sample))
