"""Do the fast ways of training end on the same curve? python -m benchmarks.curves.

Trains rates of ResNet-50 at layer3 on digits over several seeds, each by itself in float32 without a cache, and all at
once with everything on (see benchmarks.training), both from the same kind of start and for as long; evaluates them on
real bytes, and prints mean and spread of bytes, accuracy and loss. `--unit factorized` takes the former default unit
instead of today's. The last line of output is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.training import BEST, ONE_VIEW, SEPARATE, has_bfloat16
from bottlenecks.console.cli import hush_lightning
from bottlenecks.settings.composed import composed
from evaluate import evaluate
from train import train


def points(
    root: Path, architecture: str, name: str, lmbdas: Sequence[float], overrides: Sequence[str], together: bool
) -> list[Any]:
    """Train rates together or one by one, and give their points and held-back losses."""
    unit = [f"unit={architecture}", f"unit.name={name}", "logger=none"]
    paths = [f"paths.{folder}={root / folder}" for folder in ("checkpoints", "results", "logs", "cache")]
    written = {}
    for some in [lmbdas] if together else [[lmbda] for lmbda in lmbdas]:
        command = [*paths, *unit, *overrides, f"lambda={list(some)}", "trainer.enable_progress_bar=false"]
        written.update(train(composed("train", command)))
    curve = evaluate(composed("evaluate", [*paths, *unit]))
    losses = {info.lmbda: info.metrics["val/loss"] for info in written.values()}
    return [{**point, "loss": losses[point["lambda"]]} for point in curve.points]


def main() -> None:
    """Measure, and print JSON last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--unit", default="transform", help="that is trained")
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--lmbdas", type=float, nargs="+", default=[0.001, 0.003, 0.01, 0.03], help="the rates")
    parser.add_argument("--epochs", type=int, default=8, help="of every training")
    parser.add_argument("--root", type=Path, help="a folder with checkpoints/, so that the backbone is trained once")
    precision = "bf16-mixed" if has_bfloat16() else "32-true"
    parser.add_argument("--precision", default=precision, help=f"of the fast way; {precision} on this processor")
    options = parser.parse_args()
    hush_lightning()
    ways = {"separate": SEPARATE, "best": (*BEST, f"trainer.precision={options.precision}")}
    same = (ONE_VIEW, f"training.epochs={options.epochs}")  # without a cache there are no views to begin from
    found: dict[str, list[Any]] = {way: [] for way in ways}
    with tempfile.TemporaryDirectory() as folder:
        root = options.root or Path(folder)
        for seed in range(options.seeds):
            for way, overrides in ways.items():
                name, settings = f"{options.unit}-{way}-{seed}", [*overrides, f"seed={seed}", *same]
                found[way] += points(root, options.unit, name, options.lmbdas, settings, way == "best")
    table = Table(title=f"{options.unit}, ResNet-50 at layer3 on digits, mean ± spread of {options.seeds} seeds")
    for heading in ("lambda", "way", "bytes", "accuracy, %", "held-back loss"):
        table.add_column(heading, justify="right")
    rows = []
    for lmbda in options.lmbdas:
        for way in ways:
            mine = [point for point in found[way] if point["lambda"] == lmbda]
            row: dict[str, Any] = {"lambda": lmbda, "way": way}
            for key, factor in (("payload_bytes", 1), ("accuracy", 100), ("loss", 1)):
                values = [factor * point[key] for point in mine]
                row[key] = [statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0]
            rows.append(row)
            shown = (f"{mean:.3g} ± {spread:.2g}" for mean, spread in list(row.values())[2:])
            table.add_row(f"{lmbda}", way, *shown)
    Console(width=120).print(table)
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
