"""Which networks can be cut? All classification networks of torchvision and timm: python -m benchmarks.cutting.

Each is built without memory for its weights, becomes a graph, and is cut in the middle; it counts as cut if every
tensor that crosses becomes maps, which is what units take. The smallest of each family is also run: at three cuts, head
and tail together must equal the network. What was found of a network is kept in `--out`, a line each, and not asked
again. `--report` writes docs/networks.md from it.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import timm
import torch
from rich.progress import track
from torch import nn
from torchvision import models

from bottlenecks.errors import UsageError, reason
from bottlenecks.files import write_atomically
from bottlenecks.splitting.cut import cut_graph
from bottlenecks.splitting.graph import Graph
from bottlenecks.splitting.points import crowded_points, graph_points

REPORT = Path(__file__).resolve().parent.parent / "docs" / "networks.md"
TOLERANCE = 1e-5  # of the largest output
TORCHVISION_SIDE = {"inception_v3": 299}


def networks() -> Iterator[tuple[str, str, str]]:
    """Return library, name and family of every network."""
    for name in models.list_models(module=models):
        yield "torchvision", name, models.get_model_builder(name).__module__.rpartition(".")[2]
    for name in timm.list_models():
        yield "timm", name, timm.models.model_entrypoint(name).__module__.rpartition(".")[2]


def in_turns(named: Iterable[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """Put one network of every family first, then another of each, that a part of the list tells of all families."""
    ranks: Counter[tuple[str, str]] = Counter()
    ranked = []
    for library, name, family in named:
        ranked.append((ranks[library, family], library, name, family))
        ranks[library, family] += 1
    return [(library, name, family) for _, library, name, family in sorted(ranked)]


def build(library: str, name: str, device: str) -> tuple[nn.Module, torch.Tensor]:
    """Build a network with random weights in eval mode, and an image of its usual size."""
    torch.manual_seed(0)
    if name.startswith("regnet_") and library == "torchvision" and device == "meta":  # reads values as it is built
        network, image = build(library, name, "cpu")
        return network.to("meta"), image.to("meta")
    with torch.device(device):
        if library == "torchvision":
            options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
            side = TORCHVISION_SIDE.get(name, 224)
            return models.get_model(name, **options).eval(), torch.zeros(1, 3, side, side)
        network = timm.create_model(name, pretrained=False).eval()
        return network, torch.zeros(1, *network.pretrained_cfg["input_size"])


def examine(library: str, name: str, family: str) -> dict[str, Any]:
    """Cut a network on the meta device; what stands in the way is said."""
    start = time.perf_counter()
    found: dict[str, Any] = {"library": library, "name": name, "family": family, "cuts": False, "why": ""}
    try:
        network, image = build(library, name, "meta")
        found["parameters"] = sum(parameter.numel() for parameter in network.parameters())
        graph = Graph(network, image)
        points = graph_points(graph)
        found |= {"points": len(points), "layouts": sorted({point.layout for point in points})}
        places = [point.name for point in points] or list(crowded_points(graph))
        cut_graph(graph, places[len(places) // 2], several=True)
        found["cuts"] = True
    except Exception as error:  # of the libraries or ours
        found["why"] = reason(error) if isinstance(error, UsageError) else f"{type(error).__name__}: {reason(error)}"
    return found | {"seconds": round(time.perf_counter() - start, 1)}


@torch.no_grad()
def difference(library: str, name: str) -> float:
    """Return the largest difference between a network and its two sides, at three cuts, relative to the output."""
    network, image = build(library, name, "cpu")
    images = torch.randn(2, *image.shape[1:])
    graph = Graph(network, image)
    places = [point.name for point in graph_points(graph)] or list(crowded_points(graph))
    expected = network(images)
    worst = 0.0
    for share in (0.25, 0.5, 0.75):
        parts = cut_graph(graph, places[int(share * len(places))], several=True)
        worst = max(worst, float((parts(images) - expected).abs().max() / expected.abs().max()))
    return worst


def read(path: Path) -> list[dict[str, Any]]:
    """Return what was found so far."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def append(path: Path, found: dict[str, Any]) -> None:
    """Keep what was found of a network."""
    with path.open("a") as file:
        file.write(json.dumps(found) + "\n")


def report(found: list[dict[str, Any]]) -> str:
    """Write a page: the shares, what cannot be cut and why, and how exact the smallest of each family is."""
    lines = [
        "# Networks that can be cut",
        "",
        "    python -m benchmarks.cutting",
        "",
        f"Classification networks of torchvision and of timm {timm.__version__}, at their usual image size, one of",
        f"every family first: {len(found)} of {sum(1 for _ in networks())}. Each is traced, its split points",
        "are listed, and it is cut in the middle into maps for units. The smallest of each family is run too:",
        "`tail(head(image))` against the network, at three cuts.",
        "",
        "| library | tried | cut | share | families run | largest relative difference |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for library in ("torchvision", "timm"):
        own = [one for one in found if one["library"] == library]
        if not own:
            lines.append(f"| {library} | 0 |  |  |  |  |")
            continue
        cuts = sum(one["cuts"] for one in own)
        exact = [one["difference"] for one in own if one.get("difference") is not None]
        share = f"{cuts / len(own):.1%}"
        worst = f"{max(exact):.1e}" if exact else ""
        lines.append(f"| {library} | {len(own)} | {cuts} | {share} | {len(exact)} | {worst} |")
    rest: defaultdict[tuple[str, str, str], list[str]] = defaultdict(list)
    for one in found:
        if not one["cuts"]:
            rest[one["library"], one["family"], one["why"]].append(one["name"])
    if rest:
        lines += ["", "What cannot be cut:", "", "| library | family | networks | why |", "| --- | --- | ---: | --- |"]
    lines += [f"| {at[0]} | {at[1]} | {len(names)} | {plain(at[2])} |" for at, names in sorted(rest.items())]
    wrong = [one for one in found if (one.get("difference") or 0) > TOLERANCE or one.get("failure")]
    if wrong:
        lines += ["", "Smallest of a family that is not exact:", ""]
        lines += [f"- {one['library']} `{one['name']}`: {one.get('failure') or one['difference']}" for one in wrong]
    return "\n".join(lines) + "\n"


def plain(text: str) -> str:
    """Make a message fit for a cell of a table."""
    return text.replace("|", "/")[:200]


def main() -> None:
    """Examine what was not examined yet, and write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cutting", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/cutting.jsonl"), help="what was found")
    parser.add_argument("--library", choices=("torchvision", "timm"), help="one of the two alone")
    parser.add_argument("--report", action="store_true", help="only write docs/networks.md from what was found")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    known = {(one["library"], one["name"]) for one in read(options.out)}
    left = [one for one in in_turns(networks()) if one[:2] not in known and options.library in (None, one[0])]
    for library, name, family in [] if options.report else track(left, "Cutting"):
        append(options.out, examine(library, name, family))
    found = {(one["library"], one["name"]): one for one in read(options.out)}
    smallest: dict[tuple[str, str], dict[str, Any]] = {}
    for one in sorted(found.values(), key=lambda one: one.get("parameters", 0)):
        if one["cuts"]:
            smallest.setdefault((one["library"], one["family"]), one)
    todo = [one for one in smallest.values() if "difference" not in one and "failure" not in one]
    for one in [] if options.report else track(todo, "Running"):
        try:
            one["difference"] = difference(one["library"], one["name"])
        except Exception as error:  # of the libraries or ours
            one["failure"] = f"{type(error).__name__}: {reason(error)}"
        append(options.out, one)
    if options.library is None:
        write_atomically(REPORT, report(list(found.values())).encode())
    print(json.dumps(Counter(f"{one['library']} {'cut' if one['cuts'] else 'not cut'}" for one in found.values())))


if __name__ == "__main__":
    main()
