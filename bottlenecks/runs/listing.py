"""List where a network can be cut."""

from __future__ import annotations

import torch

from bottlenecks.architecture import build_network
from bottlenecks.graph import Graph
from bottlenecks.macs import count_macs
from bottlenecks.settings.model import BackboneSpec
from bottlenecks.splitting.cut import crowded_points, graph_points, render_table
from bottlenecks.terminal import show


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
