"""The two sides of a cut: the nodes on each, and the modules written from them."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Iterable
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx import Node
from torch.utils._pytree import tree_leaves, tree_map

from bottlenecks.splitting.graph import PROBE_BATCH, Graph, holds_tensor, needed_for
from bottlenecks.splitting.layouts import Arrangement, arrange


class Sides:
    """A cut of a graph: the data that a node is computed from is the head, all other data the tail.

    What is not data is written on the side that needs it, or on both. A size from before the cut that the
    crossing tensors do not tell becomes a constant in the tail where it is the same for all images, and is
    read off the first of them where it is the number of images or the device; otherwise it *travels* beside
    them. Assertions are left out.

    Args:
        graph: the network.
        node: the cut comes after it.

    Attributes:
        head: the data computed before the cut.
        tail: the data computed after it, the output among it.
        crossing: those of the head that the tail reads, in the order of execution.
    """

    def __init__(self, graph: Graph, node: Node) -> None:
        self._graph = graph
        head = set(graph.ancestors[node])
        head.update(part for part in graph.data if _container(graph, part) in head)  # only tensors cross
        self.head = frozenset(head)
        self.tail = frozenset(graph.data) - head
        self.crossing = tuple(node for node in graph.data if node in head and not self.tail.isdisjoint(node.users))

    @cached_property
    def arrangements(self) -> tuple[Arrangement, ...]:
        """How each of the tensors that cross becomes maps."""
        return tuple(arrange(self._graph, node) for node in self.crossing)

    def write_head(self) -> fx.GraphModule:
        """Write image -> tuple of the maps that cross."""
        head, copies = self._begin(self.crossing)
        image = copies[self._graph.nodes[0]]
        arranged = zip(self.crossing, self.arrangements, strict=True)
        head.output(tuple(one for node, how in arranged for one in how.write_maps(head, copies[node], image)))
        return fx.GraphModule(self._graph.module, head, "Head")

    def write_sizes(self) -> fx.GraphModule:
        """Write image -> tuple of the sizes that travel."""
        sizes, copies = self._begin(self._travelling)
        sizes.output(tuple(copies[node] for node in self._travelling))
        return fx.GraphModule(self._graph.module, sizes, "Sizes")

    def write_tail(self) -> fx.GraphModule:
        """Write maps that cross, sizes that travel -> the network's output.

        The sizes are those of the example by default. The tensors stay as they are, even where the network's
        next layer works in place.
        """
        tail, copies = fx.Graph(), dict[Node, Any]()
        arranged = list(zip(self.crossing, self.arrangements, strict=True))
        names = [name.replace(".", "_") for node, how in arranged for name in how.names(node.name)]
        maps = [tail.placeholder(name) for name in (names if len(names) > 1 else ["features"])]
        for node in self._travelling:
            copies[node] = tail.placeholder(node.name, default_value=self._default(node))
        for node in self._lost:
            if node not in copies:
                copies[node] = _recover(self._values(node), maps[0])
        rest = iter(maps)
        for node, how in arranged:
            copies[node] = how.write_tensor(tail, [next(rest) for _ in how.shapes])
            if node in self._graph.run.overwritten:
                copies[node] = tail.call_method("clone", (copies[node],))
        _copy(needed_for(self._graph.nodes, self._graph.nodes[-1:], given=copies), tail, copies)
        return fx.GraphModule(self._graph.module, tail, "Tail")

    def _begin(self, wanted: Iterable[Node]) -> tuple[fx.Graph, dict[Node, Any]]:
        """Write down what gives some nodes; the image is an argument in any case."""
        front, copies = fx.Graph(), dict[Node, Any]()
        _copy(needed_for(self._graph.nodes, {self._graph.nodes[0], *wanted}), front, copies)
        return front, copies

    @cached_property
    def _lost(self) -> list[Node]:
        """The sizes that the tail needs and cannot compute, neither from what crosses nor from sizes that it can."""
        graph, known, lost = self._graph, {*self.crossing, *self.tail}, set[Node]()
        for node in graph.nodes:
            can_be_made = holds_tensor(graph.run.values[node]) or known.issuperset(node.all_input_nodes)
            if node not in self.head and can_be_made:
                known.add(node)
            elif node not in self.head:
                lost.add(node)
                if not self._travels(node):
                    known.add(node)
        needed = needed_for(graph.nodes, graph.nodes[-1:], given={*self.crossing, *lost})
        return [node for node in needed if node in lost]

    @cached_property
    def _travelling(self) -> tuple[Node, ...]:
        """The lost sizes that cannot be recovered, those without a default first."""
        travelling = [node for node in self._lost if self._travels(node)]
        return tuple(sorted(travelling, key=lambda node: self._default(node) is not inspect.Signature.empty))

    def _travels(self, node: Node) -> bool:
        return "image" in tree_leaves(tree_map(_follows, *self._values(node)))

    def _values(self, node: Node) -> tuple[Any, Any, Any]:
        """A size for one image, for several, and for a larger one."""
        graph = self._graph
        one, several, larger = (run.values[node] for run in (graph.run, graph.batched, graph.larger or graph.run))
        return _plain(one), _plain(several), _plain(larger)

    def _default(self, node: Node) -> Any:
        one, several, _ = self._values(node)
        return one if one == several else inspect.Signature.empty


def _follows(one: Any, several: Any, larger: Any) -> str:
    """Return what a plain value follows, from its values for one image, for several, and for a larger one."""
    if isinstance(one, torch.device):
        return "device"
    if one == several == larger:
        return "nothing"
    return "batch" if (one, several, larger) == (1, PROBE_BATCH, 1) else "image"


def _recover(values: tuple[Any, Any, Any], features: Node) -> Any:
    """Write a size as constants and what the features tell."""

    def recover(*values: Any) -> Any:
        match _follows(*values):
            case "batch":
                return features.graph.call_method("size", (features, 0))
            case "device":
                return features.graph.call_function(getattr, (features, "device"))
        return values[0]

    return tree_map(recover, *values)


def _copy(nodes: Iterable[Node], target: fx.Graph, copies: dict[Node, Any]) -> None:
    for node in nodes:
        if node not in copies:
            copies[node] = target.node_copy(node, copies.__getitem__)


def _container(graph: Graph, node: Node) -> Node | None:
    """Return the tuple that a node takes a part out of."""
    if node.target is not operator.getitem:
        return None
    whole = node.all_input_nodes[0]
    return None if isinstance(graph.run.values[whole], Tensor) else whole


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, torch.Size) else value
