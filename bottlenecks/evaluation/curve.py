"""The rate-accuracy curve: one JSON contract, and the CSV, image and table made from it."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from bottlenecks.errors import UsageError, reason
from bottlenecks.evaluation.record import interval
from bottlenecks.files import write_atomically
from bottlenecks.settings.evaluation import FRAME, check_framing

if TYPE_CHECKING:  # what only reads a curve needs no torch
    from matplotlib.figure import Figure

    from bottlenecks.evaluation.points import Evaluation, Point
    from bottlenecks.tasks import Task


def _is_share(value: Any) -> bool:
    return value is None or _is_known_share(value)


def _is_known_share(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value <= 1


def _is_interval(value: Any) -> bool:
    return value is None or (isinstance(value, list) and len(value) == 2 and all(map(_is_known_share, value)))


def _is_name(value: Any) -> bool:
    return isinstance(value, str)


def _is_amount(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value < math.inf


EXPECTED: Mapping[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("codec", "setting"), _is_name),
    "payload_bytes": lambda value: _is_amount(value) and value > 0,
    **dict.fromkeys(("bpp", "encode_ms", "decode_ms", "device_macs"), _is_amount),
    "agreement": _is_known_share,
    "estimated_bpp": lambda value: value is None or _is_amount(value),
}  # what plots and tables rely on
AMONG_OTHERS = {"recall_at_1": "recall at 1", "knn_accuracy": "kNN accuracy"}  # columns where vectors are evaluated


@dataclass(frozen=True)
class Curve:
    """Operating points on one set of images, as `curve.json` holds them (keys as in the README).

    Attributes:
        model: name of the network.
        split: the split point.
        data: name of the data.
        num_images: how many images were evaluated.
        image_shape: [3, H, W], None where sizes vary.
        feature_shapes: [C, H, W] of each tensor that crosses.
        metric: `accuracy`, `miou`, `map` or `cosine`.
        unsplit: the unsplit network's value of it.
        points: the operating points; beside the contract's keys, `interval` of the metric, `server_macs` and
            `state_bytes`.
        unsplit_interval: of `unsplit`. All intervals are of 95 %, by bootstrap over the images.
        unsplit_knn_accuracy: of the unsplit network, where the points have `knn_accuracy`.
    """

    model: str
    split: str
    data: str
    num_images: int
    image_shape: list[int] | None
    feature_shapes: dict[str, list[int]]
    metric: str
    unsplit: float | None
    points: list[dict[str, Any]]
    unsplit_interval: list[float] | None = None
    unsplit_knn_accuracy: float | None = None

    @classmethod
    def of(cls, evaluation: Evaluation, model: str, split: str, data: str, task: Task) -> Curve:
        """Make a curve of what was evaluated."""
        record = evaluation.record
        draws = record.bootstrap(task)
        intervals = [interval(scores) for scores in draws.metric.T]
        return cls(
            model,
            split,
            data,
            len(record.images),
            evaluation.image_shape,
            evaluation.feature_shapes,
            task.metric_name,
            evaluation.unsplit,
            [
                {**_point_keys(point, task.metric_name), "interval": own}
                for point, own in zip(evaluation.points, intervals, strict=True)
            ],
            interval(draws.unsplit),
            evaluation.unsplit_knn_accuracy,
        )

    @classmethod
    def read(cls, path: Path) -> Curve:
        """Read a `curve.json`.

        Raises:
            UsageError: it is missing, or no curve.
        """
        try:
            curve = cls(**json.loads(path.read_text()))
            curve._check()
        except (OSError, ValueError, TypeError) as error:
            raise UsageError(f"{path}: no readable curve ({reason(error)}); make one with evaluate.py") from None
        return curve

    def write(self, folder: Path) -> None:
        """Write `curve.json` and `curve.csv`, each all or nothing."""
        content = json.dumps(vars(self), indent=2, allow_nan=False)
        write_atomically(folder / "curve.json", (content + "\n").encode())
        write_atomically(folder / "curve.csv", self._csv().encode())

    def plot(self, framing: str = FRAME) -> Figure:
        """Draw the task's metric over the bytes of an image, a line a codec, as matplotlib's figure.

        Args:
            framing: `frame` for the bytes of frames that go alone, `session` for those in a session.
        """
        from bottlenecks.evaluation.plot import draw

        return draw({"": self.counted(framing)}, framing=framing)

    def counted(self, framing: str) -> Curve:
        """Count the bytes of units in a framing; codecs that have no session keep their frames.

        Returns:
            A curve whose `payload_bytes` and `bpp` are such; this one as it is for `frame`.

        Raises:
            UsageError: there is no such framing, or it was not measured.
        """
        check_framing(framing)
        if framing == FRAME:
            return self
        if all(point.get("session_bytes") is None for point in self.points):
            raise UsageError("framing=session: no unit was evaluated in a session; run evaluate.py anew")
        return replace(self, points=[_in_session(point) for point in self.points])

    @property
    def codecs(self) -> list[str]:
        """Names of the codecs, in the order of their first points."""
        return list(dict.fromkeys(point["codec"] for point in self.points))

    def table(self) -> Table:
        """Draw the points as a table for the terminal."""
        table = Table(title=escape(f"{self.model} at {self.split} on {self.num_images} images of {self.data}"))
        table.add_column("codec")
        table.add_column("setting")
        others = [key for key in AMONG_OTHERS if self.points[0].get(key) is not None]
        for name in (
            "bytes",
            "bpp",
            "estimated",
            self.metric,
            "95 %",
            "agreement",
            *(AMONG_OTHERS[key] for key in others),
            "encode ms",
            "decode ms",
            "MMACs",
        ):
            table.add_column(name, justify="right")
        known = {"knn_accuracy": self.unsplit_knn_accuracy}
        unsplit = [_share(known.get(key)) for key in others]
        table.add_row("unsplit", *[""] * 4, *_score(self.unsplit, self.unsplit_interval), "", *unsplit, "", "", "")
        for point in self.points:
            table.add_row(*self._row(point, others))
        return table

    def _check(self) -> None:
        if not isinstance(self.points, list) or not self.points:
            raise ValueError("it has no points")
        if not all(isinstance(getattr(self, name), str) for name in ("model", "split", "data", "metric")):
            raise ValueError("model, split, data and metric must be names")
        if not _is_share(self.unsplit) or not _is_interval(self.unsplit_interval):
            raise ValueError(f"unsplit={self.unsplit!r}, expected 0..1 or null")
        expected = {**EXPECTED, self.metric: _is_share if self.unsplit is None else _is_known_share}
        for index, point in enumerate(self.points):
            for key, holds in expected.items():
                if not isinstance(point, dict) or key not in point or not holds(point[key]):
                    raise ValueError(f"point {index} has no usable {key}")
            if not _is_interval(point.get("interval")) or point.keys() != self.points[0].keys():
                raise ValueError(f"point {index} has no usable interval, or other keys than the first")

    def _row(self, point: dict[str, Any], others: Sequence[str]) -> list[str]:
        estimate = point["estimated_bpp"]
        return [
            escape(point["codec"]),
            escape(point["setting"]),
            f"{point['payload_bytes']:.2f}",
            f"{point['bpp']:.4f}",
            "" if estimate is None else f"{estimate:.4f}",
            *_score(point[self.metric], point.get("interval")),
            f"{point['agreement']:.1%}",
            *(_share(point[key]) for key in others),
            f"{point['encode_ms']:.2f}",
            f"{point['decode_ms']:.2f}",
            f"{point['device_macs'] / 1e6:,.0f}",
        ]

    def _csv(self) -> str:
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, fieldnames=list(self.points[0]))
        writer.writeheader()
        writer.writerows(self.points)
        return buffer.getvalue()


def _in_session(point: dict[str, Any]) -> dict[str, Any]:
    num_bytes = point.get("session_bytes") or point["payload_bytes"]
    return {**point, "payload_bytes": num_bytes, "bpp": point["bpp"] * num_bytes / point["payload_bytes"]}


def rows_of(points: Sequence[dict[str, Any]]) -> list[list[Any]]:
    """Return the points' values row by row, in the order of their keys."""
    return [list(point.values()) for point in points]


def _point_keys(point: Point, metric: str) -> dict[str, Any]:
    names = {"lmbda": "lambda", "metric": metric}
    return {names.get(name, name): value for name, value in vars(point).items()}


def _score(value: float | None, ends: Sequence[float] | None) -> tuple[str, str]:
    return _share(value), "" if ends is None else f"{ends[0]:.1%}..{ends[1]:.1%}"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"
