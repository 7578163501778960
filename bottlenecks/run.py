"""Images to bytes to predictions, without a server: python -m bottlenecks.run FOLDER --lambda 0.01 IMAGE…."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from bottlenecks.console.cli import run
from bottlenecks.console.terminal import show
from bottlenecks.errors import UsageError
from bottlenecks.files import SUFFIX
from bottlenecks.images.reading import allow_megapixels
from bottlenecks.rates.places import find_rates
from bottlenecks.sharing.hub import local_folder


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m bottlenecks.run", description=__doc__)
    parser.add_argument(
        "folder", help="of the rates, such as checkpoints/resnet50/layer3/digits; or owner/name on the hub"
    )
    parser.add_argument("images", type=Path, nargs="+", help=f"images, or {SUFFIX} files that --out kept")
    parser.add_argument("--lambda", dest="lmbda", type=float, help="rate to code at; the finest where none is given")
    parser.add_argument("--budget-bytes", type=int, help="code each image at the finest rate that fits into so many")
    parser.add_argument("--unit", help="whose rates, where several lie there; the default unit's where not given")
    parser.add_argument("--out", type=Path, help="folder that keeps each image's bytes")
    parser.add_argument("--draw", type=Path, help="folder that keeps each image with its prediction drawn on it")
    parser.add_argument("--max-megapixels", type=float, help="of the largest image that is opened, where above 179")
    parser.add_argument("--weights", type=Path, help="of the backbone, where they have moved since training")
    return parser.parse_args(arguments)


def check(options: argparse.Namespace) -> None:
    """Refuse options that contradict each other or cannot be used, and files that are not there.

    Raises:
        UsageError: there are some.
    """
    if options.lmbda is not None and options.budget_bytes is not None:
        raise UsageError(f"--lambda={options.lmbda}: a fixed rate; give it, or --budget-bytes, not both")
    stems = [path.stem for path in options.images if path.suffix != SUFFIX]
    for option, folder in (("--out", options.out), ("--draw", options.draw)):
        if folder is not None and len(set(stems)) < len(stems):
            raise UsageError(f"{option}={folder}: some images have the same name and would overwrite each other")
    for path in (*options.images, *([options.weights] if options.weights else [])):
        if not path.exists():
            raise UsageError(f"{path}: no such file")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    options = parse(arguments)
    check(options)
    folder = local_folder(options.folder)
    find_rates(folder, options.unit)
    allow_megapixels("--max-megapixels", options.max_megapixels)

    from bottlenecks.network import BottleneckNetwork  # torch is imported here and no sooner: it takes seconds
    from bottlenecks.runs.sending import send

    network = BottleneckNetwork.load(folder, options.weights, options.unit)
    if options.lmbda is not None:
        network.lmbda = options.lmbda
    show(send(network, options.images, options.out, options.draw, options.budget_bytes))


if __name__ == "__main__":
    run(main)
