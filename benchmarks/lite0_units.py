"""Train, evaluate and push units for EfficientNet-lite0 at three cuts: python -m benchmarks.lite0_units --root PATH.

PATH holds ImageNet as data=imagenet takes it, a sample of it too. Each cut has one unit for any rate. It is pushed to
`--to` with the split's name behind it: the folders checkpoints/units/efficientnet_lite0-blocks.2 and so on, which are
in the repository, or `--to owner/efficientnet_lite0-` on the hub. Units that are finished are kept, so that an
interrupted run goes on with the same command.

    python -m benchmarks.lite0_units --root PATH --license apache-2.0
    python -m benchmarks.lite0_units --root PATH --split blocks.4 --to ./ladder- unit.range=false 'lambda=[0.01,0.1]'
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from bottlenecks.console.cli import hush_lightning, run
from bottlenecks.push import main as push
from bottlenecks.settings.composed import composed
from bottlenecks.settings.experiment import ExperimentPlan
from evaluate import evaluate
from train import train

SPLITS = ("blocks.2", "blocks.4", "blocks.5")  # 40x28x28, 112x14x14 and 192x7x7 cross
NETWORK = ("model=efficientnet_lite0", "data=imagenet", "logger=none", "trainer.enable_progress_bar=false")
ANY_RATE = ("unit.range=true", "lambda=[0.003,0.3]")


def configure(command: str, options: argparse.Namespace, split: str, settings: Sequence[str]) -> DictConfig:
    """Compose the shipped configuration of a command, with the folders of this program."""
    paths = [f"paths.{name}={options.work / name}" for name in ("checkpoints", "results", "logs", "cache")]
    given = [*NETWORK, f"data.root={options.root}", f"split={split}", *paths, *settings]
    return composed(command, given)


def make(split: str, options: argparse.Namespace) -> None:
    """Train the unit of a cut, evaluate it, and push it with its curve."""
    train(configure("train", options, split, [*ANY_RATE, *options.settings]))
    cfg = configure("evaluate", options, split, [one for one in options.settings if one.startswith("data.")])
    evaluate(cfg)
    plan = ExperimentPlan.of(cfg)
    licence = [] if options.license is None else ["--license", options.license]
    curve = ["--curve", str(plan.results / "curve.json")]
    push([str(plan.folder), f"{options.to}{split}", *curve, *licence, "--overwrite"])


def make_all(options: argparse.Namespace) -> None:
    """Make the cuts that are asked for, one after the other."""
    for split in SPLITS if options.split is None else [options.split]:
        make(split, options)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="folder of ImageNet, or of a sample of it")
    parser.add_argument("--split", choices=SPLITS, help="one cut instead of all")
    parser.add_argument("--to", default="checkpoints/units/efficientnet_lite0-", help="begins where each is pushed to")
    parser.add_argument("--license", help="identifier of the units' licence, such as apache-2.0")
    parser.add_argument("--work", type=Path, default=Path("results/lite0_units"), help="folder of all that is made")
    parser.add_argument("settings", nargs="*", help="any of train.py; those of data go to evaluate.py, too")
    hush_lightning()
    options = parser.parse_args()
    run(lambda: make_all(options))


if __name__ == "__main__":
    main()
