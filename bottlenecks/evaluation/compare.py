"""Several curves on one plot and in one table: python -m bottlenecks.evaluation.compare results/*/*/*/curve.json."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bottlenecks.console.cli import run
from bottlenecks.errors import UsageError
from bottlenecks.evaluation.curve import Curve
from bottlenecks.evaluation.record import FORMER_RECORD, PER_POINT, RECORD, FloatArray, Record
from bottlenecks.settings.evaluation import FRAME, FRAMINGS

if TYPE_CHECKING:
    from bottlenecks.evaluation.report import Report


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
    if len(set(names)) < len(names):
        names = [str(path) for path in paths]
    return [f"{name}: " for name in names]


def combine(paths: Sequence[Path], anchor: str | None = None, framing: str = FRAME) -> Report:
    """Put curves together, each with the record of its images where one lies beside it.

    Raises:
        UsageError: one cannot be read, is there twice, or they do not belong together.
    """
    resolved = [path.resolve() for path in paths]
    twice = [str(path) for path, full in zip(paths, resolved, strict=True) if resolved.count(full) > 1]
    if twice:
        raise UsageError(f"{twice[0]}: is there twice; give each curve once")
    curves = [Curve.read(path) for path in paths]
    records = [read_record(path.parent, curve) for path, curve in zip(paths, curves, strict=True)]

    from bottlenecks.evaluation.report import Report  # it draws, for which torch and matplotlib are imported

    if can_join(curves, records):
        curve, record = join(curves, [record for record in records if record is not None])
        return Report({"": curve}, {"": record}, anchor, framing)
    names = prefixes(curves, paths)
    found = {name: record for name, record in zip(names, records, strict=True) if record is not None}
    return Report(dict(zip(names, curves, strict=True)), found, anchor, framing)


def read_record(folder: Path, curve: Curve) -> Record | None:
    """Read the record beside a curve; None where there is none, or it is of another evaluation."""
    path = next((folder / name for name in (RECORD, FORMER_RECORD) if (folder / name).exists()), None)
    record = None if path is None else Record.read(path)
    return record if record is not None and record.belongs_to(curve.points) else None


def can_join(curves: Sequence[Curve], records: Sequence[Record | None]) -> bool:
    """Return whether curves are parts of one: different codecs on the same images at the same cut."""
    told = [(curve.model, curve.split, curve.data, curve.unsplit, curve.image_shape) for curve in curves]
    codecs = [codec for curve in curves for codec in curve.codecs]
    first = records[0]
    same = first is not None and all(
        record is not None and record.images == first.images and _alike(record.unsplit, first.unsplit)
        for record in records
    )
    return same and told.count(told[0]) == len(told) and len(set(codecs)) == len(codecs)


def _alike(one: FloatArray, other: FloatArray) -> bool:
    """Return whether outcomes are the same up to rounding, which another number of threads changes."""
    return one.shape == other.shape and np.allclose(one, other, rtol=0, atol=1e-5, equal_nan=True)


def join(curves: Sequence[Curve], records: Sequence[Record]) -> tuple[Curve, Record]:
    """Put curves of different codecs at one cut into one, as if they had been evaluated together."""
    found = [point for curve in curves for point in curve.points]
    keys = {key: None for point in found for key in point}  # curves of before have fewer
    points = [{**keys, **point} for point in found]
    arrays = {name: np.concatenate([getattr(record, name) for record in records]) for name in PER_POINT}
    return replace(curves[0], points=points), replace(records[0], **arrays)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m bottlenecks.evaluation.compare", description=__doc__)
    parser.add_argument("curves", type=Path, nargs="+", help="curve.json files that evaluate.py wrote")
    parser.add_argument("--anchor", help="label of the codec that the others are compared with; the first if not given")
    parser.add_argument("--framing", choices=FRAMINGS, default=FRAME, help="count the bytes of units in such; frame")
    parser.add_argument("--out", type=Path, default=Path("results/compared"), help="folder of plots and table")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Compare from the command line."""
    options = parse(arguments)
    report = combine(options.curves, options.anchor, options.framing)

    from bottlenecks.evaluation.report import write_and_say

    write_and_say(report, options.out)


if __name__ == "__main__":
    run(main)
