"""Let codecs look at training images before they are evaluated on others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from bottlenecks.baselines.base import Baseline, Calibration
from bottlenecks.console.terminal import progress
from bottlenecks.evaluation.points import features_of, outputs_of
from bottlenecks.evaluation.workers import Workers
from bottlenecks.images.preprocessing import Preprocessing
from bottlenecks.splitting.cut import SplitNetwork
from bottlenecks.splitting.features import Arrays, cat, to_arrays, to_tensors
from bottlenecks.tasks import Task


class Calibrator:
    """Passes some training images through the network, and measures what codecs do to them.

    Args:
        network: the cut network, on `device`.
        batches: (images, targets) of training images; the labels are not looked at.
        task: its label-free distortion measures.
        device: where to run.
        workers: code for the baselines.
        num_images: how many images are enough.
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
        self.images = torch.cat(found)[:num_images].to(device)
        self.features = cat([features_of(network, part) for part in self.images.split(len(found[0]))])
        self.reference = network.finish(self.features)

    def calibration(self, preprocessing: Preprocessing) -> Calibration:
        """Return what codecs are made with."""
        return Calibration(to_arrays(self.features), self.distortion, self.measure, preprocessing)

    @torch.no_grad()
    def distortion(self, features_hat: Arrays) -> float:
        """Mean distortion of the task's output where these features take the place of the true ones."""
        return self._mean(self.network.finish(to_tensors(features_hat, self.device)))

    @torch.no_grad()
    def measure(self, codecs: Sequence[Baseline]) -> list[tuple[float, float]]:
        """Return mean bytes and mean distortion of each codec."""
        trips = self.workers.round_trips(codecs, self.features, self.images)
        finished = outputs_of(self.network, codecs, progress(trips, f"Calibrating {codecs[0].name}", len(codecs)))
        return [(sum(map(len, streams)) / len(streams), self._mean(output)) for streams, output in finished]

    def _mean(self, output: Any) -> float:
        return float(self.task.distillation(output, self.reference).double().mean())
