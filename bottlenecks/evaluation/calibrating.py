"""Let codecs look at training pictures before they are judged on others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from bottlenecks.baselines.base import Baseline, Calibration, FloatArray
from bottlenecks.evaluation.workers import Workers
from bottlenecks.preprocessing import Preprocessing
from bottlenecks.split import SplitNetwork
from bottlenecks.tasks import Task


class Calibrator:
    """Passes some training pictures through the network, and measures what codecs do to them.

    Args:
        network: the cut network, on `device`.
        batches: (images, targets) of training pictures; the labels are not looked at.
        task: its label-free distortion measures.
        device: where to run.
        workers: code for the baselines.
        num_images: how many pictures are enough.
    """

    @torch.no_grad()
    def __init__(
        self,
        network: SplitNetwork,
        batches: Iterable[tuple[Tensor, Tensor]],
        task: Task,
        device: torch.device,
        workers: Workers,
        num_images: int,
    ) -> None:
        self.network, self.task, self.device, self.workers = network, task, device, workers
        found: list[Tensor] = []
        for images, _ in batches:
            found.append(images)
            if sum(map(len, found)) >= num_images:
                break
        self.batch_size = len(found[0])
        self.images = torch.cat(found)[:num_images].to(device)
        parts = self.images.split(self.batch_size)
        self.features = torch.cat([network.head(part) for part in parts])
        self.reference = torch.cat([network.tail(part) for part in self.features.split(self.batch_size)])

    def calibration(self, preprocessing: Preprocessing) -> Calibration:
        """Give what codecs are made with."""
        return Calibration(self.features.float().cpu().numpy(), self.distortion, self.measure, preprocessing)

    def distortion(self, features_hat: FloatArray) -> float:
        """Mean distortion of the task's output where these features take the place of the true ones."""
        return self._distortion(torch.from_numpy(features_hat), "features")

    def measure(self, codecs: Sequence[Baseline]) -> list[tuple[float, float]]:
        """Give mean bytes and mean distortion of each codec."""
        trips = self.workers.round_trips(codecs, self.features, self.images)
        return [
            (sum(map(len, streams)) / len(streams), self._distortion(decoded, codec.sends))
            for codec, (streams, decoded) in zip(codecs, trips, strict=True)
        ]

    @torch.no_grad()
    def _distortion(self, decoded: Tensor, sends: str) -> float:
        rest = self.network.tail if sends == "features" else self.network
        outputs = [rest(part.to(self.device)) for part in decoded.split(self.batch_size)]
        return float(self.task.distillation(torch.cat(outputs), self.reference).double().mean())
