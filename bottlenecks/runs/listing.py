"""List where a network can be cut."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import torch
from rich.table import Table
from torch import nn

from bottlenecks.backbones.architecture import build_network, settle_task, sized
from bottlenecks.console.terminal import show
from bottlenecks.images.geometry import Size
from bottlenecks.settings.model import BackboneSpec
from bottlenecks.splitting.graph import Graph
from bottlenecks.splitting.macs import count_macs
from bottlenecks.splitting.points import SplitPoint, crowded_points, graph_points, times

USUAL_SIZE = 224  # pixels


def list_points(spec: BackboneSpec, image_size: int | None) -> None:
    """Show the split points of a network as a table.

    Args:
        spec: the network.
        image_size: side of its input in pixels; None for its own.

    Raises:
        UsageError: there is no such network, it cannot be traced, or refuses images of this size.
    """
    network = build_network(sized(settle_task(spec), image_size))
    height, width = _pair(image_size or own_size(network, spec) or USUAL_SIZE)
    example = torch.zeros(1, 3, height, width)
    graph = Graph(network, example)
    title = f"{spec.name} at {height}x{width}"
    show(render_table(graph_points(graph), count_macs(network, example), title, crowded_points(graph)))


def own_size(network: nn.Module, spec: BackboneSpec) -> Size | None:
    """Return the side, or `(height, width)`, of the images that a network is built for, None where it takes others."""
    if spec.library == "timm" and (given := (spec.arguments or {}).get("img_size")):
        return given
    config = getattr(network, "pretrained_cfg", {})  # timm's
    if config.get("fixed_input_size"):
        return tuple(config["input_size"][1:])
    owners = (getattr(module, "config", module) for module in network.modules())  # of transformers, or torchvision
    sizes: Iterator[Size | None] = (getattr(owner, "image_size", None) for owner in owners)
    return next((size for size in sizes if size is not None), None)


def render_table(points: Iterable[SplitPoint], total_macs: int, title: str, crowded: Mapping[str, int]) -> Table:
    """Draw split points as a table.

    Args:
        points: the rows.
        total_macs: multiply-accumulates of the whole network per image.
        title: stands above, with the total.
        crowded: where several tensors cross, and how many; stands below.
    """
    places = ", ".join(f"{name} ({count})" for name, count in crowded.items())
    table = Table(
        title=f"{title}: {total_macs / 1e6:,.0f} M multiply-accumulates per image",
        caption=f"several tensors cross after {places}" if places else None,
    )
    table.add_column("split point")
    table.add_column("also")
    table.add_column("features")
    for heading in ("elements", "of the image's", "device MACs, M", "share"):
        table.add_column(heading, justify="right")
    for point in points:
        table.add_row(
            point.name,
            ", ".join(point.aliases),
            f"{point.layout[1:]} {times(point.shape)}",
            f"{point.num_elements:,}",
            f"{point.relative_elements:.2f} x",
            f"{point.head_macs / 1e6:,.1f}",
            f"{point.macs_share:.1%}",
        )
    return table


def _pair(size: Size) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])
