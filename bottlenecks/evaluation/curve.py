"""The rate-accuracy curve: one JSON contract, and the CSV, picture and table made from it."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from bottlenecks.errors import UsageError
from bottlenecks.evaluation.points import Judgement, Point
from bottlenecks.weights import write_atomically

Z95 = 1.959964  # two-sided 95 % of the normal distribution


@dataclass(frozen=True)
class Curve:
    """Operating points on one set of pictures, as `curve.json` holds them (keys as in the README).

    Attributes:
        model: name of the network.
        split: the split point.
        data: name of the data.
        num_images: how many pictures were judged.
        image_shape: [3, H, W], None where sizes vary.
        feature_shapes: [C, H, W] of each tensor that crosses.
        metric: `accuracy`, `miou` or `map`.
        unsplit: the unsplit network's value of it.
        points: the operating points.
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

    @classmethod
    def of(cls, judgement: Judgement, model: str, split: str, data: str, metric: str) -> Curve:
        """Make a curve of what was judged."""
        return cls(
            model,
            split,
            data,
            judgement.num_images,
            judgement.image_shape,
            {split: judgement.feature_shape},
            metric,
            judgement.unsplit,
            [_point_keys(point, metric) for point in judgement.points],
        )

    @classmethod
    def read(cls, path: Path) -> Curve:
        """Read a `curve.json`.

        Raises:
            UsageError: it is missing, or no curve.
        """
        try:
            return cls(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise UsageError(f"{path}: no readable curve ({error}); make one with evaluate.py") from None

    def write(self, folder: Path) -> None:
        """Write `curve.json` and `curve.csv`, each all or nothing."""
        content = json.dumps(vars(self), indent=2, allow_nan=False)
        write_atomically(folder / "curve.json", (content + "\n").encode())
        write_atomically(folder / "curve.csv", self._csv().encode())

    def interval(self, value: float | None) -> tuple[float, float] | None:
        """Give the 95 % confidence interval of a share of the pictures (see `wilson`)."""
        return None if value is None else wilson(value, self.num_images)

    def table(self) -> Table:
        """Draw the points as a table for the terminal."""
        table = Table(title=f"{self.model} at {self.split} on {self.num_images} pictures of {self.data}")
        table.add_column("codec")
        table.add_column("setting")
        for name in (
            "bytes",
            "bpp",
            "estimated",
            self.metric,
            "95 %",
            "agreement",
            "encode ms",
            "decode ms",
            "MMACs",
        ):
            table.add_column(name, justify="right")
        table.add_row("unsplit", "", "", "", "", *self._score(self.unsplit), "", "", "", "")
        for point in self.points:
            table.add_row(*self._row(point))
        return table

    def _row(self, point: dict[str, Any]) -> list[str]:
        estimate = point["estimated_bpp"]
        return [
            point["codec"],
            point["setting"],
            f"{point['payload_bytes']:.2f}",
            f"{point['bpp']:.4f}",
            "" if estimate is None else f"{estimate:.4f}",
            *self._score(point[self.metric]),
            f"{point['agreement']:.1%}",
            f"{point['encode_ms']:.2f}",
            f"{point['decode_ms']:.2f}",
            f"{point['device_macs'] / 1e6:,.0f}",
        ]

    def _score(self, value: float | None) -> tuple[str, str]:
        interval = self.interval(value)
        if value is None or interval is None:
            return "", ""
        return f"{value:.1%}", f"{interval[0]:.1%}..{interval[1]:.1%}"

    def _csv(self) -> str:
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, fieldnames=list(self.points[0]))
        writer.writeheader()
        writer.writerows(self.points)
        return buffer.getvalue()


def wilson(share: float, count: int) -> tuple[float, float]:
    """Give Wilson's 95 % interval of a share of `count` pictures.

    E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 1927.
    """
    spread = Z95**2 / count
    centre = (share + spread / 2) / (1 + spread)
    half = Z95 * math.sqrt(share * (1 - share) / count + spread / (4 * count)) / (1 + spread)
    return max(0.0, centre - half), min(1.0, centre + half)


def rows_of(points: Sequence[dict[str, Any]]) -> list[list[Any]]:
    """Give the points' values row by row, in the order of their keys."""
    return [list(point.values()) for point in points]


def _point_keys(point: Point, metric: str) -> dict[str, Any]:
    names = {"lmbda": "lambda", "metric": metric}
    return {names.get(name, name): value for name, value in vars(point).items()}
