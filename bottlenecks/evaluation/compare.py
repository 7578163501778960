"""Several curves on one plot and in one table: python -m bottlenecks.evaluation.compare results/*/*/*/curve.json."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from bottlenecks.cli import run
from bottlenecks.errors import UsageError
from bottlenecks.evaluation.curve import Curve
from bottlenecks.evaluation.record import Record
from bottlenecks.evaluation.report import RECORD, Report, write_and_say


def prefixes(curves: Sequence[Curve], paths: Sequence[Path]) -> list[str]:
    """Tell curves apart by model, split and data as far as these differ, else by their folders.

    Returns:
        What the labels of each curve's codecs begin with, such as `layer3: `; "" for a single curve.
    """
    if len(curves) == 1:
        return [""]
    rows = [(curve.model, curve.split, curve.data) for curve in curves]
    told = [index for index in range(3) if len({row[index] for row in rows}) > 1]
    names = ["/".join(row[index] for index in told) for row in rows]
    if len(set(names)) < len(names):
        names = [str(path.parent) for path in paths]
    return [f"{name}: " for name in names]


def combine(paths: Sequence[Path], anchor: str | None = None) -> Report:
    """Put curves together, each with the record of its pictures where one lies beside it.

    Raises:
        UsageError: one cannot be read, is there twice, or they do not belong together.
    """
    resolved = [path.resolve() for path in paths]
    twice = [str(path) for path, full in zip(paths, resolved, strict=True) if resolved.count(full) > 1]
    if twice:
        raise UsageError(f"{twice[0]}: is there twice; give each curve once")
    curves = [Curve.read(path) for path in paths]
    named = dict(zip(prefixes(curves, paths), curves, strict=True))
    records = {
        prefix: Record.read(path.parent / RECORD)
        for (prefix, curve), path in zip(named.items(), paths, strict=True)
        if (path.parent / RECORD).exists()
    }
    return Report(named, _fitting(named, records), anchor)


def _fitting(curves: Mapping[str, Curve], records: Mapping[str, Record]) -> dict[str, Record]:
    """Leave out records that are of another evaluation than the curve beside them."""
    return {prefix: record for prefix, record in records.items() if record.belongs_to(curves[prefix].points)}


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m bottlenecks.evaluation.compare", description=__doc__)
    parser.add_argument("curves", type=Path, nargs="+", help="curve.json files that evaluate.py wrote")
    parser.add_argument("--anchor", help="label of the codec that the others are compared with; the first if not given")
    parser.add_argument("--out", type=Path, default=Path("results/compared"), help="folder of plots and table")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Compare from the command line."""
    options = parse(arguments)
    write_and_say(combine(options.curves, options.anchor), options.out)


if __name__ == "__main__":
    run(main)
