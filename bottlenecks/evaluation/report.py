"""What is written and shown of one or several curves: figures of merit and images."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from rich.table import Table

from bottlenecks.console.terminal import markdown, say, show
from bottlenecks.errors import UsageError
from bottlenecks.evaluation.curve import Curve
from bottlenecks.evaluation.headline import headline
from bottlenecks.evaluation.plot import draw, draw_work, save
from bottlenecks.evaluation.record import FORMER_RECORD, RECORD, Record
from bottlenecks.evaluation.summary import Merit, merit_table, merits_as_json, series_of, summarise
from bottlenecks.files import write_atomically
from bottlenecks.settings.evaluation import FRAME


@dataclass(frozen=True)
class Report:
    """Curves, and what they are worth beside one another.

    Attributes:
        curves: by what their codecs' labels begin with; "" where there is one.
        records: of every image, of those curves that have one.
        anchor: label of the codec that the others are compared with; None takes the first.
        framing: that bytes are counted in, in tables, figures and images; the curves' files have them in all.
    """

    curves: Mapping[str, Curve]
    records: Mapping[str, Record]
    anchor: str | None = None
    framing: str = FRAME

    def __post_init__(self) -> None:
        metrics = {curve.metric for curve in self.curves.values()}
        if len(metrics) > 1:
            raise UsageError(f"these curves are of different metrics ({', '.join(sorted(metrics))}); compare like ones")

    @cached_property
    def counted(self) -> dict[str, Curve]:
        """The curves with their bytes in the framing."""
        return {prefix: curve.counted(self.framing) for prefix, curve in self.curves.items()}

    @cached_property
    def merits(self) -> list[Merit]:
        """Figures of merit of every codec.

        Raises:
            UsageError: the anchor is not among them.
        """
        series = [
            one for prefix, curve in self.counted.items() for one in series_of(curve, self.records.get(prefix), prefix)
        ]
        return summarise(series, self._anchor)

    @property
    def headline(self) -> str | None:
        """The comparison in one sentence; None where the anchor is never within a point of the whole network."""
        found = headline(self.merits, self._anchor)
        return found if found is None or self.framing == FRAME else f"In a {self.framing} {found}"

    @property
    def _anchor(self) -> str:
        if self.anchor is not None:
            return self.anchor
        prefix, curve = next(iter(self.curves.items()))
        return prefix + curve.codecs[0]

    def write(self, folder: Path) -> None:
        """Write figures of merit and images, each file all or nothing; of a single curve that itself, too."""
        merits = merits_as_json(self.merits, self._anchor)  # before anything is written: the anchor may not be there
        folder.mkdir(parents=True, exist_ok=True)
        if "" in self.curves:
            self.curves[""].write(folder)
        if "" in self.records:
            self.records[""].write(folder / RECORD)
        front = len({curve.split for curve in self.curves.values()}) > 1
        save(draw(self.counted, front, self.framing), folder / "curve")
        work = draw_work(self.counted, self.framing)
        if work is not None:
            save(work, folder / "work")
        tables = [markdown(table) for table in self.tables()]
        first = [] if self.headline is None else [f"{self.headline}.\n"]
        write_atomically(folder / "report.md", "\n".join([*first, "![](curve.svg)\n", *tables]).encode())
        content = json.dumps(merits, indent=2, allow_nan=False)
        write_atomically(folder / "merit.json", (content + "\n").encode())
        there = {RECORD: "" in self.records, "curve.csv": "" in self.curves, "work.png": work, "work.svg": work}
        there |= {FORMER_RECORD: False}
        for name in (name for name, written in there.items() if not written):
            (folder / name).unlink(missing_ok=True)  # an earlier report's, which had more files than this one

    def tables(self) -> list[Table]:
        """Draw figures of merit, and the points of each curve."""
        metric = next(iter(self.curves.values())).metric
        found = [*(curve.table() for curve in self.counted.values()), merit_table(self.merits, self._anchor, metric)]
        if self.framing != FRAME:
            for table in found:
                table.title = f"{table.title}; bytes in a {self.framing}"
        return found


def write_and_say(report: Report, folder: Path) -> None:
    """Write a report, show it, and say where it lies."""
    report.write(folder)
    for table in report.tables():
        show(table)
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    say(f"Wrote {folder}: {', '.join(names)}")
    if report.headline:
        say(report.headline)
