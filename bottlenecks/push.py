"""Share a ladder: bottlenecks push checkpoints/resnet50/layer3/digits owner/name.

What is shared: the rates as safetensors, their curve, a card that says what they are, and a list of SHA-256 of all of
these. The network itself goes by its name and its fingerprint, its weights stay here.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Sequence
from pathlib import Path

from bottlenecks.console.cli import run
from bottlenecks.errors import UsageError
from bottlenecks.rates.manifest import CURVE
from bottlenecks.rates.places import find_rates
from bottlenecks.sharing.hub import hub_name, import_hub, local_folder

DESTINATION = (
    "owner/name on the Hugging Face hub, or a folder: whatever is there already, lies in a folder that is there, or "
    "begins with ./ or /; hf://owner/name is on the hub whatever lies here"
)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="bottlenecks push", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("ladder", help="folder of the rates, such as checkpoints/resnet50/layer3/digits")
    parser.add_argument("destination", help=DESTINATION)
    parser.add_argument(
        "--curve", type=Path, help="curve.json of the rates; the one beside them or that evaluate.py wrote if not given"
    )
    parser.add_argument("--unit", help="whose rates, where several lie there; the default unit's where not given")
    parser.add_argument("--license", help="identifier of the licence, such as apache-2.0; none is stated if not given")
    parser.add_argument("--private", action="store_true", help="keep a new repository on the hub from others")
    parser.add_argument("--overwrite", action="store_true", help="take the place of another ladder at the destination")
    return parser.parse_args(arguments)


def check(options: argparse.Namespace) -> None:
    """Refuse options that cannot be used, before torch is imported.

    Raises:
        UsageError: there are some.
    """
    if options.license is not None and not re.fullmatch(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?", options.license):
        raise UsageError(f"--license={options.license}: expected an identifier, such as apache-2.0, mit or cc-by-4.0")
    name = hub_name(options.destination)
    if name is None and options.private:
        raise UsageError(
            f"--private: {options.destination} is a folder, whose permissions are the system's; leave it out"
        )
    if name is None and hub_name(options.ladder) is None:
        source, there = (Path(os.path.realpath(one)) for one in (options.ladder, options.destination))
        if source in there.parents or there in source.parents:
            raise UsageError(
                f"{options.destination}: one of it and {options.ladder} is within the other; choose a folder beside it"
            )
    if name is not None and name.revision is not None:
        raise UsageError(f"{name}: a revision is made by pushing; give {name.repository} alone")
    if name is not None:
        import_hub(str(name))
    if options.curve is not None and not options.curve.is_file():
        raise UsageError(f"--curve={options.curve}: no such file")


def curve_of(folder: Path, rates: Sequence[Path]) -> Path | None:
    """Find the curve of the rates in a folder.

    Args:
        folder: of the rates; of `checkpoints/<model>/<split>/<data>` the curve is looked for in `results/…`, too.
        rates: their files.

    Returns:
        The file, None where there is none.

    Raises:
        UsageError: a rate is newer than its curve.
    """
    if (folder / CURVE).is_file():
        return folder / CURVE
    around = folder.resolve().parents
    roots = [root for root in around[:4] if root.name == "checkpoints"]
    if not roots:
        return None
    path = roots[0].with_name("results") / folder.resolve().relative_to(roots[0]) / CURVE
    if not path.is_file():
        return None
    if path.stat().st_mtime < max(rate.stat().st_mtime for rate in rates):
        raise UsageError(
            f"{path}: is older than a rate; evaluate them anew with evaluate.py, or give it as --curve {path} if it is "
            "of these rates"
        )
    return path


def main(arguments: Sequence[str] | None = None) -> None:
    """Push from the command line."""
    options = parse(arguments)
    check(options)
    folder, name = local_folder(options.ladder), hub_name(options.destination)
    rates = find_rates(folder, options.unit)
    curve = options.curve or curve_of(folder, rates)

    from bottlenecks.rates.ladder import Ladder  # torch is imported here and no sooner: it takes seconds
    from bottlenecks.sharing.pushing import Shared, push_to_folder, push_to_hub

    shared = Shared(Ladder.load(folder, options.unit), curve, options.license)
    if name is None:
        push_to_folder(shared, Path(options.destination), options.overwrite)
    else:
        push_to_hub(shared, name, options.private, options.overwrite)


if __name__ == "__main__":
    run(main)
