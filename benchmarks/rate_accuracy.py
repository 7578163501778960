"""Units and other codecs on five cases, joined into docs/results.md: python -m benchmarks.rate_accuracy.

Works in parts: a ladder of units that is trained and evaluated, or another codec that is evaluated. Each is kept in
`--out`/<case>/<part>, by `--report` in docs/results/<case>/parts, too, and not made again while its settings are the
same; delete its folders for that. Parts of one case have to be of the same network.

    python -m benchmarks.rate_accuracy --data ROOT                                            # all that is left to do
    python -m benchmarks.rate_accuracy --data ROOT --case camvid --unit transform --seed 1    # one part of it
    python -m benchmarks.rate_accuracy --report                                               # join what there is

ROOT holds what the cases name, such as camvid/ and resnet50-cifar10-64.safetensors; a case whose data is not there is
left out. digits needs none.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

import torch
from omegaconf import DictConfig

from benchmarks.cases import CASES, CODECS, DATA, UNITS, Case, Part, parts_of
from benchmarks.parts import place_of, write_part
from benchmarks.results import write_results
from bottlenecks.console.cli import hush_lightning, run
from bottlenecks.console.terminal import say
from bottlenecks.settings.composed import composed
from bottlenecks.settings.experiment import ExperimentPlan
from evaluate import evaluate
from train import train

T = TypeVar("T")
QUIET = ("logger=none", "trainer.enable_progress_bar=false")


def absent(case: Case, data: Path) -> list[Path]:
    """Return the files and folders of a case that are not there."""
    named = [argument.partition("=")[2] for argument in case.network if DATA in argument]
    return [path for path in (Path(name.replace(DATA, str(data))) for name in named) if not path.exists()]


def configure(command: str, arguments: Sequence[str], data: Path, out: Path) -> DictConfig:
    """Compose the shipped configuration of a command, with the folders of this benchmark."""
    paths = [f"paths.{name}={out / name}" for name in ("checkpoints", "logs", "cache")]
    given = [argument.replace(DATA, str(data)) for argument in arguments]
    return composed(command, [*paths, *QUIET, *given])


def make(part: Part, data: Path, out: Path, docs: Path) -> None:
    """Make a part, unless it is finished; what tells so, and how long it took, is written last."""
    folder, commands = out / part.case.name / part.label, part.commands()
    place = place_of(part, out, docs)
    if place is not None:
        say(f"Kept {place}: finished with these very settings")
        return
    say(f"Making {folder}")
    if part.case.backbone is not None:
        train(configure("train", ["stage=backbone", *part.case.network, *part.case.backbone], data, out))
    seconds = {}
    if "train" in commands:
        cfg = configure("train", [*commands["train"], "overwrite=true"], data, out)  # rates of a part that was cut off
        seconds["train"], rates = timed(lambda: train(cfg))
        drop_others(rates)
    cfg = configure("evaluate", [*commands["evaluate"], f"paths.results={folder}"], data, out)
    seconds["evaluate"], _ = timed(lambda: evaluate(cfg))
    curve = (ExperimentPlan.of(cfg).results / "curve.json").relative_to(folder)
    made = {"commands": commands, "seconds": seconds, "threads": torch.get_num_threads(), "curve": str(curve)}
    write_part(folder, made)
    say(f"Made {folder}: " + ", ".join(f"{name} {value:,.0f} s" for name, value in seconds.items()))


def timed(function: Callable[[], T]) -> tuple[float, T]:
    """Return the seconds that a call takes, and what it returns."""
    start = time.perf_counter()
    made = function()
    return time.perf_counter() - start, made


def drop_others(rates: Iterable[Path]) -> None:
    """Delete what a part of other settings left beside the rates of a ladder."""
    kept = set(rates)
    for path in {other for rate in kept for other in rate.parent.glob("*.safetensors")} - kept:
        path.unlink()


def make_all(cases: Sequence[Case], codec: str | None, seed: int | None, data: Path, out: Path, docs: Path) -> None:
    """Make the parts that are asked for, of every case whose data is there."""
    for case in cases:
        missing = absent(case, data)
        for path in missing:
            say(f"Left out {case.name}: {path} is not there; --data=FOLDER says where such files are")
        for part in [] if missing else parts_of(case, codec, seed):
            make(part, data, out, docs)


def main() -> None:
    """Make parts, or join them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=[case.name for case in CASES], help="one instead of all")
    parser.add_argument("--unit", choices=[*UNITS, *CODECS], help="one, or one of the other codecs, instead of all")
    parser.add_argument("--seed", type=int, help="one instead of all")
    parser.add_argument("--data", type=Path, default=Path("data"), help="where the data lies; data/ if not given")
    parser.add_argument("--out", type=Path, default=Path("results/rate_accuracy"), help="folder of the parts")
    parser.add_argument(
        "--docs", type=Path, default=Path("docs"), help="folder that --report writes into, and keeps parts in"
    )
    parser.add_argument("--report", action="store_true", help="join all parts that are there, make none")
    options = parser.parse_args()
    cases = [case for case in CASES if options.case in (None, case.name)]
    hush_lightning()
    if options.report:
        run(lambda: write_results(CASES, options.out, options.docs))
    else:
        run(lambda: make_all(cases, options.unit, options.seed, options.data, options.out, options.docs))


if __name__ == "__main__":
    main()
