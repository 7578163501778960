"""How long each command takes to its first line, a refusal or its help: python -m benchmarks.startup.

Each is run several times, in turns; the median counts. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

REPOSITORY = Path(__file__).resolve().parent.parent
COMMANDS = {
    "train, --help": ("train.py", "--help"),
    "train, a name misspelt": ("train.py", "model=resnet51"),
    "train, a value that cannot be": ("train.py", "lambda=0"),
    "train, stage=backbone": ("train.py", "stage=backbone", "backbone.epochs=0"),
    "evaluate, --help": ("evaluate.py", "--help"),
    "evaluate, no rates": ("evaluate.py", "paths.checkpoints=nowhere"),
    "evaluate, a codec misspelt": ("evaluate.py", "codecs=[jpg]"),
    "export, --help": ("export.py", "--help"),
    "export, no rates": ("export.py", "paths.checkpoints=nowhere"),
    "split, --help": ("-m", "bottlenecks.split", "--help"),
    "split, a name misspelt": ("-m", "bottlenecks.split", "model=resnet51"),
    "run, --help": ("-m", "bottlenecks.run", "--help"),
    "run, no rates": ("-m", "bottlenecks.run", "nowhere", "docs/seven.png"),
    "compare, --help": ("-m", "bottlenecks.evaluation.compare", "--help"),
    "compare, no curve": ("-m", "bottlenecks.evaluation.compare", "nowhere.json"),
    "client, --help": ("-m", "bottlenecks.deploy.client", "--help"),
    "client, no bundle": ("-m", "bottlenecks.deploy.client", "nowhere", "docs/seven.png"),
    "server, --help": ("-m", "bottlenecks.deploy.server", "--help"),
    "server, no bundle": ("-m", "bottlenecks.deploy.server", "nowhere"),
    "benchmarks.deploy, --help": ("-m", "benchmarks.deploy", "--help"),
}


def seconds_to_first_line(arguments: tuple[str, ...]) -> float:
    """Start a command, and wait for the first line that it writes to either stream."""
    start = time.perf_counter()
    command = [sys.executable, *arguments]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        process.stdout.readline()
        elapsed = time.perf_counter() - start
        process.stdout.read()
    return elapsed


def main() -> None:
    """Measure, and show a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.startup", description=__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="runs of each command; default: %(default)s")
    repeats = parser.parse_args().repeats
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(repeats):
        for name, arguments in COMMANDS.items():
            times[name].append(seconds_to_first_line(arguments))
    medians = {name: statistics.median(own) for name, own in times.items()}
    table = Table(title=f"Seconds to the first line, median of {repeats}")
    table.add_column("command")
    table.add_column("s", justify="right")
    for name, median in medians.items():
        table.add_row(name, f"{median:.2f}")
    Console(width=100).print(table)
    print(json.dumps(medians))


if __name__ == "__main__":
    main()
