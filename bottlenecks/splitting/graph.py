"""A network as a graph: its nodes, their names, and what each of them gives and costs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

from torch import Tensor, nn
from torch.fx import Node
from torch.utils._pytree import tree_leaves

from bottlenecks.errors import UsageError, reason
from bottlenecks.splitting.macs import Run, run_shapes
from bottlenecks.splitting.tracing import name_kind, trace

Layout = Literal["NCHW", "NHWC", "NTC", "NC", "other"]

PROBE_BATCH = 8  # images in the run that shows which sizes follow the batch
PROBE_GROWTH = 64  # pixels added to both sides in the run that shows which sizes follow the image


class Graph:
    """The graph of a network in eval mode, and what is known of it for images of one size.

    A node's value is *data* if it is computed from what the image shows. Sizes, and tensors made of
    parameters and sizes alone, are not: they can be made again wherever they are needed.

    Args:
        network: the network; it is put into eval mode, since its mode becomes part of the graph.
        example: images, (N, C, H, W); only shape, type and device matter.

    Attributes:
        title: the network's class, for messages.
        module: the network as a graph module with the network's own parameters.
        image: one image of the example's size, (1, C, H, W).
        nodes: those that the output depends on, in the order of execution.
        run: what they give and cost for one image.
        data: those among them whose value is data.
        names: what a feature tensor can be called by, such as `layer3.5.relu_2`, `layer3.5` and `layer3`: the
            name of a module stands for its last tensor, as in torchvision's feature extraction.
        module_names: the names of the network's modules.

    Raises:
        UsageError: the network cannot be traced, refuses the example, or overwrites a tensor that is still
            read.
    """

    def __init__(self, network: nn.Module, example: Tensor) -> None:
        self.title = type(network).__name__
        self.module, paths, self._any_size = trace(network, example)
        self.image = example[:1]
        nodes = list(self.module.graph.nodes)
        self.nodes = needed_for(nodes, nodes[-1:])
        self.run = self._first_run(network)
        self.data = _data_nodes(self.nodes, self.run.values)
        self.names = self._feature_names(paths)
        self.module_names = frozenset(name for name, _ in network.named_modules(remove_duplicate=False))
        self._refuse_overwriting()

    @cached_property
    def batched(self) -> Run:
        """The run for several images: sizes that differ from `run` follow the batch."""
        return run_shapes(self.module, self.image, (PROBE_BATCH, *self.image.shape[1:]))

    @cached_property
    def larger(self) -> Run | None:
        """The run for a larger image, or None where the network takes one size only."""
        if not self._any_size:
            return None
        _, channels, height, width = self.image.shape
        shape = (1, channels, height + PROBE_GROWTH, width + PROBE_GROWTH)
        try:
            return run_shapes(self.module, self.image, shape)
        except Exception:  # whatever the network's own code raises
            return None

    @cached_property
    def ancestors(self) -> Mapping[Node, frozenset[Node]]:
        """The data that each data node is computed from, the node itself among it."""
        ancestors: dict[Node, frozenset[Node]] = {}
        for node in self.data:
            sources = (ancestors[source] for source in node.all_input_nodes if source in ancestors)
            ancestors[node] = frozenset({node}).union(*sources)
        return ancestors

    @cached_property
    def names_of(self) -> Mapping[Node, list[str]]:
        """Each feature tensor's names, the shortest path first."""
        names_of = defaultdict(list)
        for name in sorted(self.names, key=lambda name: (name.count("."), len(name))):
            names_of[self.names[name]].append(name)
        return names_of

    def is_feature(self, node: Node) -> bool:
        """Return whether a node gives a tensor of a batch of images that could cross a cut."""
        value = self.run.values[node]
        return isinstance(value, Tensor) and 2 <= value.dim() <= 4 and value.shape[0] == 1

    def shape(self, node: Node) -> tuple[int, ...]:
        """Return the shape of a node's tensor without the batch."""
        return tuple(self.run.values[node].shape[1:])

    def layout(self, node: Node) -> Layout:
        """Return what a feature tensor's dimensions are: N images, C channels, H and W space, T tokens.

        Space is two neighbours that are equal or have the image's proportions; where this does not decide,
        it is those of which a larger image makes more.
        """
        shape = self.shape(node)
        if len(shape) < 3:
            return "NC" if len(shape) == 1 else "NTC"
        channels_first, channels_last = self._is_space(shape[1:]), self._is_space(shape[:2])
        if channels_first == channels_last and self.larger:
            larger = self.larger.values[node].shape[1:]
            grown = [size != other for size, other in zip(larger, shape, strict=True)]
            channels_first, channels_last = grown == [False, True, True], grown == [True, True, False]
        return "NCHW" if channels_first else "NHWC" if channels_last else "other"

    def macs(self, nodes: Iterable[Node]) -> int:
        """Add up the multiply-accumulates of nodes, per image."""
        return sum(self.run.macs[node] for node in nodes)

    def _is_space(self, shape: tuple[int, ...]) -> bool:
        (rows, columns), (height, width) = shape, self.image.shape[2:]
        return rows == columns or rows * width == columns * height

    def _first_run(self, network: nn.Module) -> Run:
        try:
            return run_shapes(self.module, self.image, tuple(self.image.shape))
        except Exception as error:  # whatever the network's own code raises
            if kind := name_kind(network, self.image):
                raise UsageError(f"model={self.title}: {kind}") from error
            height, width = self.image.shape[2:]
            raise UsageError(
                f"data.image_size={height}x{width}: {self.title} refuses images of this size "
                f"({reason(error)}); set data.image_size to one that it takes"
            ) from error

    def _feature_names(self, paths: Mapping[Node, str]) -> dict[str, Node]:
        last = {}
        for node in self.data:
            parts = paths[node].split(".") if node in paths else []
            last.update({".".join(parts[: depth + 1]): node for depth in range(len(parts))})
        return {name: node for name, node in last.items() if self.is_feature(node)}

    def _refuse_overwriting(self) -> None:
        for node in self.data:
            num_readers = sum(holds_tensor(self.run.values[user]) for user in node.users)
            if node in self.run.overwritten and num_readers > 1:
                raise UsageError(
                    f"model={self.title}: overwrites the tensor `{node.name}` in place while other layers "
                    "still read it, so no cut would be exact; let the layer that does so work out of place"
                )


def needed_for(nodes: Sequence[Node], wanted: Iterable[Node], given: Iterable[Node] = ()) -> list[Node]:
    """List what has to be computed for some nodes.

    Args:
        nodes: all nodes, in the order of execution.
        wanted: the nodes to be computed.
        given: nodes whose values are there already; what only they need is left out.

    Returns:
        The wanted nodes and what they are computed from, given nodes included, in the order of execution.
    """
    needed, there = set(wanted), set(given)
    for node in reversed(nodes):
        if node in needed and node not in there:
            needed.update(node.all_input_nodes)
    return [node for node in nodes if node in needed]


def holds_tensor(value: Any) -> bool:
    """Return whether this is a tensor or a container of tensors, and no size or other plain value."""
    return any(isinstance(leaf, Tensor) for leaf in tree_leaves(value))


def _data_nodes(nodes: Iterable[Node], values: Mapping[Node, Any]) -> list[Node]:
    data: dict[Node, None] = {}
    for node in nodes:
        from_image = node.op == "placeholder" or any(source in data for source in node.all_input_nodes)
        if from_image and holds_tensor(values[node]):
            data[node] = None
    return list(data)
