"""List where a network can be cut."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from rich.table import Table

from bottlenecks.backbones.architecture import build_network
from bottlenecks.console.terminal import show
from bottlenecks.settings.model import BackboneSpec
from bottlenecks.splitting.graph import Graph
from bottlenecks.splitting.macs import count_macs
from bottlenecks.splitting.points import SplitPoint, crowded_points, graph_points, times


def list_points(spec: BackboneSpec, image_size: int) -> None:
    """Show the split points of a network as a table.

    Args:
        spec: the network.
        image_size: side of its input in pixels.

    Raises:
        UsageError: there is no such network, it cannot be traced, or refuses images of this size.
    """
    network = build_network(spec)
    example = torch.zeros(1, 3, image_size, image_size)
    graph = Graph(network, example)
    title = f"{spec.name} at {image_size}x{image_size}"
    show(render_table(graph_points(graph), count_macs(network, example), title, crowded_points(graph)))


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
