"""The parts of benchmarks.rate_accuracy, put together: docs/results.md, and a folder a case beside it."""

from __future__ import annotations

import json
import shlex
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks.against import bd_rates, figure_at, levels_where_dearer
from benchmarks.cases import CODECS, DATA, RANGE, UNITS, Case, Part, parts_of
from benchmarks.cells import between, cell, number
from benchmarks.parts import keep, parts_folder, place_of, read_part
from bottlenecks.console.terminal import markdown, say
from bottlenecks.errors import UsageError
from bottlenecks.evaluation.compare import combine
from bottlenecks.evaluation.curve import Curve
from bottlenecks.evaluation.plot import draw, save
from bottlenecks.evaluation.summary import (
    AGREEMENT,
    Figure,
    Merit,
    Series,
    merit_table,
    merits_as_json,
    series_of,
    summarise,
)
from bottlenecks.files import write_atomically
from bottlenecks.settings.evaluation import SESSION

ANCHOR, LADDER = "hevc", "transform"
INTRODUCTION = """# Results

    python -m benchmarks.rate_accuracy --data PATH
    python -m benchmarks.rate_accuracy --report

Bytes on the wire, header included, of images that nothing was chosen on. [evaluation.md](evaluation.md) and
[dense.md](dense.md) say what is counted, and how the other codecs choose their settings.

- `transform` is the default unit, `closed` the same without training (`training.epochs=0`), `range` one unit for any
  rate (`unit.range=true`), `factorized` the former default with the settings that served it best.
- Of several seeds the tables have mean ± standard deviation. Brackets hold 95 % intervals by bootstrap over the images,
  of several seeds from the lowest end to the highest. ≤ is an upper bound: the coarsest point is within already.
- BD-rate is the mean difference in bytes at equal agreement with the unsplit network, paired. Whether another codec
  takes fewer bytes was asked at agreements from 70 to 97 %, in whole per cents; it counts where the paired interval
  leaves no doubt.
- Seconds are those of `train.py` for a whole ladder, from reading the data to writing the last rate; other parts were
  made on the same machine at times.

Bytes within 1 point of the unsplit network:
"""


@dataclass(frozen=True)
class Outcome:
    """What there is of a case.

    Attributes:
        case: it is of.
        parts: that are finished.
        places: the folder of each by label.
        made: how each of them was made.
        curve: all of their operating points.
        series: the same by label, resampled, too.
        anchor: label of the codec that the others are compared with.
        merits: figures of merit by label.
        sent: series of the units that were evaluated in a session, with their bytes in it.
        in_session: figures of merit of these.
    """

    case: Case
    parts: Sequence[Part]
    places: Mapping[str, Path]
    made: Mapping[str, Any]
    curve: Curve
    series: Mapping[str, Series]
    anchor: str
    merits: Mapping[str, Merit]
    sent: Mapping[str, Series]
    in_session: Mapping[str, Merit]

    @classmethod
    def read(cls, case: Case, out: Path, docs: Path) -> Outcome | None:
        """Join the parts of a case; None where there is none.

        Raises:
            UsageError: they are not of the same images and network.
        """
        found = {part: place_of(part, out, docs) for part in parts_of(case)}
        places = {part.label: place for part, place in found.items() if place is not None}
        if not places:
            return None
        parts = [part for part in found if part.label in places]
        made = {label: read_part(place) for label, place in places.items()}
        joined = combine([place / made[label]["curve"] for label, place in places.items()])
        if "" not in joined.curves:
            raise UsageError(
                f"{out / case.name}, {parts_folder(docs, case)}: the parts there were evaluated on different images "
                "or with different networks; delete those that are out of date, and have them made again"
            )
        curve, record = joined.curves[""], joined.records.get("")
        series = {one.label: one for one in series_of(curve, record)}
        anchor = ANCHOR if ANCHOR in series else parts[0].label
        merits = {merit.label: merit for merit in summarise(list(series.values()), anchor)}
        talked = {point["codec"] for point in curve.points if point.get("session_bytes") is not None}
        counted = series_of(curve.counted(SESSION), record) if talked else []
        sent = {one.label: one for one in counted if one.label in talked}
        in_session = {one.label: one for one in (summarise(counted, anchor) if counted else ()) if one.label in sent}
        return cls(case, parts, places, made, curve, series, anchor, merits, sent, in_session)

    @property
    def labels(self) -> dict[str, list[str]]:
        """Labels of each codec: several where there are several seeds."""
        return {
            codec: [part.label for part in self.parts if part.codec == codec]
            for codec in dict.fromkeys(part.codec for part in self.parts)
        }

    def bytes_within(self, codec: str, merits: Mapping[str, Merit] | None = None) -> str:
        """Return the bytes within 1 point of the unsplit network; nothing of a codec that is not among the merits."""
        merits = self.merits if merits is None else merits
        found = [merits[label].bytes_at_loss[0] for label in self.labels.get(codec, []) if label in merits]
        return cell(found, number)

    def sessions(self) -> list[str]:
        """Say how many bytes units take within 1 point in a session."""
        found = {unit: self.bytes_within(unit, self.in_session) for unit in UNITS}
        told = ", ".join(f"`{unit}` {figure}" for unit, figure in found.items() if figure)
        return [f"Bytes within 1 point in a session, all in: {told}."] if told else []

    def best(self) -> str:
        """Return the fewest bytes within 1 point that a codec other than the units takes."""
        figures = {codec: self.merits[codec].bytes_at_loss[0] for codec in CODECS if codec in self.merits}
        reached = [codec for codec in figures if figures[codec].value is not None]
        first = min(reached, key=lambda codec: figures[codec].value or 0, default=None)
        return "" if first is None else f"{cell([figures[first]], number)}, `{first}`"

    def table(self) -> Table:
        """Draw a row a codec."""
        level = self.case.agreement
        asked = [] if level is None else [f"bytes at {level:.0%} agreement"]
        table = Table()
        table.add_column("codec")
        for name in ("bytes within 1 point", *asked, "highest agreement", f"BD-rate against {self.anchor}", "seconds"):
            table.add_column(name, justify="right")
        for codec, labels in self.labels.items():
            lines = [self.series[label].lines[AGREEMENT] for label in labels]
            rates = [self.merits[label].bd.get("bd_rate_at_agreement", Figure(None, note="")) for label in labels]
            table.add_row(
                f"`{codec}`",
                self.bytes_within(codec),
                *([] if level is None else [cell([figure_at(line, level) for line in lines], number)]),
                f"{statistics.mean(float(line.values.max()) for line in lines):.1%}",
                cell(rates, lambda value: f"{value:+.1%}"),
                cell([Figure(self.made[label]["seconds"].get("train"), note="") for label in labels], "{:,.0f}".format),
            )
        return table

    def section(self) -> str:
        """Write what came out as Markdown."""
        curve, folder = self.curve, f"results/{self.case.name}"
        files = ", ".join(f"[{name}]({folder}/{name})" for name in ("curve.json", "merit.json"))
        whole = "" if curve.unsplit is None else f", unsplit {curve.unsplit:.1%} {curve.metric}"
        threads = sorted({one["threads"] for one in self.made.values()})
        return "\n".join(
            [
                f"## {self.case.title}\n",
                f"{curve.num_images} images{whole}. Threads: {', '.join(map(str, threads))}.\n",
                markdown(self.table()),
                *(f"- {sentence}" for sentence in [*self.sessions(), *self.dearer(), *self.ranged(), *self.lacking()]),
                f"\n![{curve.metric} over bytes]({folder}/curve.svg)\n",
                f"[Every point and figure]({folder}/report.md); {files}.\n",
                *(f"    {line}" for line in self.commands()),
                "",
            ]
        )

    def dearer(self) -> list[str]:
        """Say of each unit at which agreements it takes more bytes than another codec, beyond the paired interval."""
        said, others = [], [self.series[codec] for codec in CODECS if codec in self.series]
        for label in (label for codec in UNITS for label in self.labels.get(codec, [])):
            found = {other.label: levels_where_dearer(self.series[label], other) for other in others}
            told = [f"`{name}` at {between(levels)} %" for name, levels in found.items() if levels]
            none = f"At no agreement does another codec take fewer bytes than `{label}`."
            said.append(f"`{label}` takes more bytes than {', '.join(told)} agreement." if told else none)
        return said

    def ranged(self) -> list[str]:
        """Hold the unit of any rate against ladders of separate ones."""
        if RANGE not in self.series or LADDER not in self.series:
            return []
        ranges, ladders = self.labels[RANGE], self.labels[LADDER]
        rate = bd_rates(ranges, ladders, self.series)
        talked = {*ranges, *ladders} <= self.sent.keys()
        sent = f", in sessions {bd_rates(ranges, ladders, self.sent)}" if talked else ""
        sizes = {
            codec: [point["state_bytes"] for point in self.curve.points if point["codec"] == codec]
            for codec in (RANGE, LADDER)
        }
        return [
            f"`{RANGE}`: BD-rate against `{LADDER}` {rate}{sent}; {max(sizes[RANGE]) / 2**20:.2f} MiB, where the "
            f"ladder has {sum(sizes[LADDER]) / 2**20:.2f}."
        ]

    def lacking(self) -> list[str]:
        """Name the parts that have not been made."""
        missing = [f"`{part.label}`" for part in parts_of(self.case) if part.label not in self.made]
        return [f"Not measured so far: {', '.join(missing)}."] if missing else []

    def commands(self) -> list[str]:
        """Return the commands that the parts stand for, the first seed's."""
        shared = " ".join(self.case.network).replace(DATA, "PATH")
        lines = [f'N="{shared}"']
        if self.case.backbone is not None:
            lines.append(" ".join(["python train.py stage=backbone $N", *self.case.backbone]))
        own = [self.made[labels[0]]["commands"].get("train", []) for labels in self.labels.values()]
        for arguments in (arguments[len(self.case.network) :] for arguments in own if arguments):
            lines.append(f"python train.py $N {shlex.join(arguments)}")
        codecs = shlex.quote(f"codecs=[{','.join(self.labels)}]")
        return [*lines, " ".join(["python evaluate.py $N", *self.case.evaluating, codecs])]

    def row(self) -> list[str]:
        """Return the cells of the first table."""
        return [self.case.title, *map(self.bytes_within, UNITS), self.best()]

    def write(self, docs: Path) -> None:
        """Write curve, figures of merit and image, and keep the parts; of several seeds the image has the first."""
        folder = docs / "results" / self.case.name
        folder.mkdir(parents=True, exist_ok=True)
        self.curve.write(folder)
        merits = list(self.merits.values())
        content = json.dumps(merits_as_json(merits, self.anchor), indent=2, allow_nan=False)
        write_atomically(folder / "merit.json", (content + "\n").encode())
        tables = [markdown(self.curve.table()), markdown(merit_table(merits, self.anchor, self.curve.metric))]
        write_atomically(folder / "report.md", "\n".join(["![](curve.svg)\n", *tables]).encode())
        shown = [point for point in self.curve.points if point["codec"] in self.labels]
        save(draw({"": replace(self.curve, points=shown)}), folder / "curve")
        for label, place in self.places.items():
            keep(place, self.made[label], parts_folder(docs, self.case) / label)


def write_results(cases: Sequence[Case], out: Path, docs: Path) -> None:
    """Write `results.md`, and a folder a case, of the parts that there are; a case without parts stays as written.

    Raises:
        UsageError: there is none, or those of a case do not belong together.
    """
    outcomes = {case.title: Outcome.read(case, out, docs) for case in cases}
    found = {title: outcome for title, outcome in outcomes.items() if outcome is not None}
    if not found:
        raise UsageError(f"--out={out}: no part is finished there; make some without --report")
    path = docs / "results.md"
    before = path.read_text() if path.exists() else ""
    rows = {row.split(" | ")[0].removeprefix("| "): row for row in before.splitlines() if row.startswith("| ")}
    sections = {section.partition("\n")[0]: section.rstrip() for section in before.split("\n## ")[1:]}
    table, text = Table(), list[str]()
    for name in ("case", *(f"`{unit}`" for unit in UNITS), "best other codec"):
        table.add_column(name, justify="left" if name == "case" else "right")
    for title in outcomes:
        if title in found:
            found[title].write(docs)
            table.add_row(*found[title].row())
            text.append(found[title].section())
        elif title in sections:
            table.add_row(*(cell.strip() for cell in rows[title].strip("| ").split(" | ")))
            text.append(f"## {sections[title]}\n")
    write_atomically(path, "\n".join([INTRODUCTION, markdown(table), *text]).encode())
    say(f"Wrote {path}: {', '.join(outcome.case.name for outcome in found.values())}")
