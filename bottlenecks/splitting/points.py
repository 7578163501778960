"""The places where a network can be cut, and what each of them costs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn
from torch.fx import Node

from bottlenecks.splitting.graph import Graph, Layout
from bottlenecks.splitting.sides import Sides


@dataclass(frozen=True)
class SplitPoint:
    """A place where a single tensor crosses.

    Attributes:
        name: the shortest name of the module after which the network can be cut.
        aliases: other modules that end with the same tensor.
        shape: the features' shape without the batch.
        layout: what the dimensions are, the batch (N) first.
        relative_elements: number of feature elements, as a multiple of the image's.
        head_macs: multiply-accumulates of the head per image.
        macs_share: the same as a share of the network's.
    """

    name: str
    aliases: tuple[str, ...]
    shape: tuple[int, ...]
    layout: Layout
    relative_elements: float
    head_macs: int
    macs_share: float

    @property
    def num_elements(self) -> int:
        """Number of feature elements per image."""
        return math.prod(self.shape)


def split_points(network: nn.Module, example: Tensor) -> list[SplitPoint]:
    """List where a network can be cut so that a single tensor crosses, in the order of execution.

    Args:
        network: the network; it is put into eval mode.
        example: images, (N, 3, H, W); only shape, type and device matter.

    Returns:
        The places after modules; operations between modules can be cut at as well but are not listed.

    Raises:
        UsageError: the network cannot be traced or refuses the example.
    """
    return graph_points(Graph(network, example))


def graph_points(graph: Graph) -> list[SplitPoint]:
    """List the split points of a network whose graph is there already; see `split_points`."""
    total = max(1, graph.macs(graph.nodes))
    points = []
    for node, (name, *aliases) in places_of(graph):
        shape, macs = graph.shape(node), graph.macs(graph.ancestors[node])
        relative = math.prod(shape) / graph.image.numel()
        points.append(SplitPoint(name, tuple(aliases), shape, graph.layout(node), relative, macs, macs / total))
    return points


def crowded_points(graph: Graph) -> dict[str, int]:
    """Count the tensors that cross after those parts of a network where more than one does.

    Only modules made of others are looked at: within a residual block two tensors cross nearly everywhere.

    Returns:
        Number of tensors by the module's shortest name, in the order of execution.
    """
    parts = {name.rpartition(".")[0] for name in graph.module_names}
    counts = {}
    for node in graph.data:
        names = [name for name in graph.names_of[node] if name in parts]
        sides = Sides(graph, node) if names else None
        if sides and len(sides.crossing) > 1 and len(sides.tail) > 1:
            counts[names[0]] = len(sides.crossing)
    return counts


def places_of(graph: Graph) -> Iterator[tuple[Node, list[str]]]:
    """Find the nodes after which one tensor crosses, with the names of the modules that end there."""
    for node in graph.data[1:]:  # the first is the image
        names = [name for name in graph.names_of[node] if name in graph.module_names]
        if names and graph.layout(node) != "other":
            sides = Sides(graph, node)
            if sides.crossing == (node,) and len(sides.tail) > 1:
                yield node, names


def times(shape: tuple[int, ...]) -> str:
    """Write a shape as `256x14x14`."""
    return "x".join(map(str, shape))
