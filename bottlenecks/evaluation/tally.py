"""What was measured of every image, gathered from all processes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from bottlenecks.baselines.codec import Codec
from bottlenecks.coding.session import SessionWriter, Terms
from bottlenecks.evaluation.record import Record
from bottlenecks.processes import add_up, own_share
from bottlenecks.tasks.neighbours import classes_of_neighbours, ranks, same_nearest


class Tally:
    """Measurements of every image, which several processes gather, each of its share.

    Args:
        num_points: how many codecs.
        names: of all images, in order.
    """

    def __init__(self, num_points: int, names: Sequence[str]) -> None:
        self.names, share = names, own_share()
        self.num_points, self.next, self.step = num_points, share.rank, share.world_size
        self.num_pixels = torch.zeros(len(names), dtype=torch.float64)
        self.num_bytes, self.session_bytes, self.bits, self.agreement = (
            torch.zeros(num_points, len(names), dtype=torch.float64) for _ in range(4)
        )
        self.labels = torch.zeros(len(names), dtype=torch.int64)
        self.statistics, self.vectors = torch.zeros(0), torch.zeros(0)

    def begin(self, images: Tensor, targets: Tensor, statistics: Tensor, vectors: Tensor | None) -> None:
        """Take in a batch of images, and what the unsplit network made of it.

        Args:
            images: the network's input, (N, 3, H, W).
            targets: of the images.
            statistics: what each adds to the metric, (N, E).
            vectors: what stands for each among others, (N, D), or None.
        """
        if not len(self.statistics):
            shape = 1 + self.num_points, len(self.names)
            self.statistics = torch.zeros(*shape, statistics.shape[1], dtype=torch.float64)
            self.vectors = torch.zeros(0) if vectors is None else torch.zeros(*shape, vectors.shape[1])
        self.batch = slice(self.next, self.next + self.step * len(images), self.step)
        self.next += self.step * len(images)
        self.num_pixels[self.batch] = images.shape[-2] * images.shape[-1]
        self.labels[self.batch] = targets.cpu() if targets.dim() == 1 else -1
        self._keep(0, statistics, vectors)

    def add(
        self,
        index: int,
        codec: Codec,
        streams: Sequence[bytes],
        bits: Tensor | None,
        agreement: Tensor,
        statistics: Tensor,
        vectors: Tensor | None,
    ) -> None:
        """Take in what one codec made of the batch."""
        self.num_bytes[index, self.batch] = torch.tensor([len(stream) for stream in streams], dtype=torch.float64)
        if terms := codec.terms():
            messages = [SessionWriter(terms).write(stream)[0] for stream in streams]
            self.session_bytes[index, self.batch] = torch.tensor([len(one) for one in messages], dtype=torch.float64)
        self.bits[index, self.batch] = math.nan if bits is None else bits.double().cpu()
        self.agreement[index, self.batch] = agreement.double().cpu()
        self._keep(index + 1, statistics, vectors)

    def gather(self, device: torch.device) -> Record:
        """Put together what all processes have measured; where vectors stand for images, those are compared here."""
        for values in (
            self.num_pixels,
            self.num_bytes,
            self.session_bytes,
            self.bits,
            self.agreement,
            self.labels,
            self.statistics,
            self.vectors,
        ):
            add_up(values)
        self.vectors = self.vectors.to(device)
        for index, own in enumerate(self.vectors[1:]):
            self.agreement[index] = same_nearest(own, self.vectors[0]).cpu()
        statistics = self.statistics.numpy()
        return Record(self.names, self.num_bytes.numpy(), self.agreement.numpy(), statistics[1:], statistics[0])

    def mean_session_bytes(self, index: int, terms: Terms) -> float:
        """Return the mean bytes of an image in one session of all, the offer and running checks included.

        Args:
            index: of the codec.
            terms: of its session.
        """
        count = len(self.names)
        return (float(self.session_bytes[index].sum()) + terms.sent_beside(count)) / count

    def recall_at_1(self, index: int) -> float | None:
        """Return the share of images that are found by what a codec left of them; None where no vectors stand for them.

        Args:
            index: of the codec.
        """
        if not len(self.vectors):
            return None
        return float((ranks(self.vectors[index + 1], self.vectors[0]) == 0).double().mean())

    def knn_accuracy(self, index: int) -> float | None:
        """Return the share of images whose neighbours have their class; None where there are no classes or vectors.

        Args:
            index: of the codec, -1 for the unsplit network.
        """
        labelled = self.labels >= 0
        if not len(self.vectors) or labelled.sum() < 2:
            return None
        labels = self.labels[labelled].to(self.vectors.device)
        own, gallery = self.vectors[index + 1][labelled], self.vectors[0][labelled]
        return float((classes_of_neighbours(own, gallery, labels) == labels).double().mean())

    def _keep(self, row: int, statistics: Tensor, vectors: Tensor | None) -> None:
        self.statistics[row, self.batch] = statistics.double().cpu()
        if vectors is not None:
            self.vectors[row, self.batch] = vectors.float().cpu()
