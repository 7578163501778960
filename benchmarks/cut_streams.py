"""What is a byte string worth without its end, and what the next coarser rate? python -m benchmarks.cut_streams.

    python -m benchmarks.cut_streams model=efficientnet_lite0 split=blocks.4 data=imagenet data.root=PATH

Takes settings of evaluate.py. Each rate codes the evaluation images so that byte strings may be cut, and several shares
of their payloads are decoded; agreement is with the unsplit network. `--figure docs/cut_streams` draws it. The last
line of output is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table
from torch import Tensor

from bottlenecks.console.cli import hush_lightning, run
from bottlenecks.evaluation.plot import save
from bottlenecks.network import BottleneckNetwork
from bottlenecks.runs.experiment import make_data
from bottlenecks.settings.composed import composed
from bottlenecks.settings.experiment import ExperimentPlan

SHARES = (1.0, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.3)
TOGETHER = 32


def in_parts(images: Tensor) -> Iterator[Tensor]:
    """Return images a few at a time."""
    yield from images.split(TOGETHER)


@torch.no_grad()
def measure(arguments: Sequence[str]) -> list[dict[str, float]]:
    """Code, cut, decode and compare, at each rate and share."""
    plan = ExperimentPlan.of(composed("evaluate", list(arguments)))
    data = make_data(plan.network)
    network = BottleneckNetwork.load(plan.folder, unit=plan.unit.name)
    data.preprocessing = network.preprocessing
    data.setup("test")
    images = torch.cat([batch[0] for batch in data.test_dataloader()])
    expected = torch.cat([network.network(some).argmax(1) for some in in_parts(images)])
    found = []
    for lmbda in network.ladder:
        network.lmbda = lmbda
        whole = [stream for some in in_parts(images) for stream in network.encode(some, cuttable=True)]
        headers = [7 if len(stream) >= 128 + 7 else 6 for stream in whole]  # their lengths take one byte or two
        for share in SHARES:
            ends = [head + round(share * (len(one) - head)) for one, head in zip(whole, headers, strict=True)]
            cut = [one[:end] for one, end in zip(whole, ends, strict=True)]
            classes = [network.decode(cut[at : at + TOGETHER]).argmax(1) for at in range(0, len(cut), TOGETHER)]
            agreement = float((torch.cat(classes) == expected).float().mean())
            found.append({"lambda": lmbda, "share": share, "bytes": statistics.mean(ends), "agreement": agreement})
    return found


def draw(found: Sequence[Mapping[str, float]]) -> Figure:
    """Draw agreement over bytes: whole byte strings of all rates, and each rate's as its end is lost."""
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    whole = [one for one in found if one["share"] == 1]
    for first in whole:
        line = [one for one in found if one["lambda"] == first["lambda"]]
        numbers = [one["bytes"] for one in line], [100 * one["agreement"] for one in line]
        axes.plot(*numbers, "o--", markersize=3, linewidth=0.9, label=f"lambda={first['lambda']:g}, cut")
    numbers = [one["bytes"] for one in whole], [100 * one["agreement"] for one in whole]
    axes.plot(*numbers, "ks-", markersize=5, label="whole, rate by rate", zorder=0)
    axes.set(xscale="log", xlabel="mean bytes that arrived", ylabel="agreement with the unsplit network in %")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    return figure


def main() -> None:
    """Measure, and show a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="+", help="of evaluate.py")
    parser.add_argument("--figure", type=Path, help="where to write it, without .png and .svg")
    options = parser.parse_args()
    hush_lightning()
    found = run(lambda: measure(options.settings))
    table = Table(title="Agreement with the unsplit network")
    for name in ("lambda", "share of the payload", "bytes", "agreement"):
        table.add_column(name, justify="right")
    for one in found:
        table.add_row(f"{one['lambda']:g}", f"{one['share']:.0%}", f"{one['bytes']:.0f}", f"{one['agreement']:.1%}")
    Console(width=100).print(table)
    if options.figure is not None:
        save(draw(found), options.figure)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
