"""What was measured of every single image, kept so that differences can be evaluated image by image."""

from __future__ import annotations

import io
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from bottlenecks.errors import UsageError, reason
from bottlenecks.files import write_atomically

if TYPE_CHECKING:
    from bottlenecks.tasks import Task

FloatArray = npt.NDArray[np.float64]
RECORD, FORMER_RECORD = "images.npz", "pictures.npz"  # beside the curve
FORMER_ARRAYS = {"images": "pictures", "statistics": "evidence"}
PER_POINT = ("num_bytes", "agreement", "statistics")
ARRAYS = (*PER_POINT, "unsplit")
RESAMPLES = 1000
MOST_WEIGHTS = 2**23  # that are held at once, of draws times images
LEVELS = (2.5, 97.5)  # per cent: a two-sided interval of 95 %


class Draws(NamedTuple):
    """What B sets of images, drawn with replacement, add up to.

    Attributes:
        num_bytes: mean on the wire, (B, P).
        agreement: mean, (B, P).
        metric: the task's, (B, P).
        unsplit: the same of the unsplit network, (B,).
    """

    num_bytes: FloatArray
    agreement: FloatArray
    metric: FloatArray
    unsplit: FloatArray


@dataclass(frozen=True)
class Record:
    """Measurements of P operating points on N images.

    Attributes:
        images: their names, N.
        num_bytes: on the wire, (P, N).
        agreement: with the unsplit network, (P, N).
        statistics: what each image adds to the task's metric, (P, N, E).
        unsplit: the same of the unsplit network, (N, E).
    """

    images: Sequence[str]
    num_bytes: FloatArray
    agreement: FloatArray
    statistics: FloatArray
    unsplit: FloatArray

    def write(self, path: Path) -> None:
        """Write an `.npz` file, all or nothing."""
        buffer = io.BytesIO()
        arrays = {name: getattr(self, name) for name in ARRAYS}
        np.savez_compressed(buffer, images=np.array(self.images, dtype=str), **arrays)
        write_atomically(path, buffer.getvalue())

    @classmethod
    def read(cls, path: Path) -> Record:
        """Read what `write` wrote.

        Raises:
            UsageError: it is missing, or no such file.
        """
        try:
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
                names = {} if "images" in file else FORMER_ARRAYS
                images, *arrays = (file[names.get(name, name)] for name in ("images", *ARRAYS))
            record = cls(images.tolist(), *(values.astype(np.float64) for values in arrays))
            record._check()
        except (OSError, ValueError, KeyError, TypeError, AttributeError, BadZipFile, zlib.error) as error:
            raise UsageError(f"{path}: no readable record ({reason(error)}); make one with evaluate.py") from None
        return record

    def _check(self) -> None:
        count, (points, size) = len(self.images), (len(self.num_bytes), self.unsplit.shape[-1])
        shapes = [(points, count), (points, count), (points, count, size), (count, size)]
        if count == 0 or [getattr(self, name).shape for name in ARRAYS] != shapes:
            raise ValueError("its arrays do not fit each other")
        if not all(np.isfinite(getattr(self, name)).all() for name in ARRAYS):
            raise ValueError("not all of its numbers are finite")

    def belongs_to(self, points: Sequence[Mapping[str, Any]]) -> bool:
        """Return whether these points were measured together with this record."""
        means = [point["payload_bytes"] for point in points]
        return len(means) == len(self.num_bytes) and np.allclose(self.num_bytes.mean(1), means)

    def bootstrap(self, task: Task, num: int = RESAMPLES, seed: int = 0) -> Draws:
        """Draw as many images with replacement as there are, `num` times.

        The same images are drawn for all points: differences between them are paired.
        B. Efron, "Bootstrap methods: another look at the jackknife", Annals of Statistics 1979.
        """
        count = len(self.images)
        generator, shares = np.random.default_rng(seed), np.full(count, 1 / count)
        drawn = []
        for size in chunks(num, max(1, MOST_WEIGHTS // count)):
            weights = generator.multinomial(count, shares, size).astype(np.float64)
            means = [weights @ values.T / count for values in (self.num_bytes, self.agreement)]
            scores = [task.score(statistics, weights) for statistics in self.statistics]
            drawn.append((*means, np.stack(scores, 1), task.score(self.unsplit, weights)))
        return Draws(*(np.concatenate(parts) for parts in zip(*drawn, strict=True)))


def chunks(total: int, size: int) -> list[int]:
    """Divide a number into parts of at most `size`."""
    return [min(size, total - start) for start in range(0, total, size)]


def interval(draws: FloatArray) -> list[float] | None:
    """Return the 95 % interval of a figure over resampled images; None where it is no number in some of them."""
    return None if np.isnan(draws).any() else [float(end) for end in np.percentile(draws, LEVELS)]
