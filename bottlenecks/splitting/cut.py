"""Cut a network at a named node into head and tail."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table
from torch import Tensor, fx, nn
from torch.fx import Node
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from bottlenecks.errors import UsageError, closest, reason
from bottlenecks.features import Features, tensors_of
from bottlenecks.graph import Graph, Layout, name_kind
from bottlenecks.sides import Sides
from bottlenecks.splitting.mixing import is_mixed, random_images

MIXED = (
    "what it makes of an image depends on the other images of the batch, or on chance, also in eval mode; let "
    "BatchNorm use its running statistics there, take means over each image alone, and switch dropout off"
)
LISTING = "python -m bottlenecks.split model=..."


@dataclass(frozen=True)
class Crossing:
    """A tensor that crosses a cut.

    Attributes:
        name: the shortest name of the node that gives it.
        shape: its shape for one picture of the example's size, without the batch.
        layout: what its dimensions are, the batch (N) first.
    """

    name: str
    shape: tuple[int, ...]
    layout: Layout


@dataclass(frozen=True)
class SplitPoint:
    """A place where a single tensor crosses.

    Attributes:
        name: the shortest name of the module after which the network can be cut.
        aliases: other modules that end with the same tensor.
        shape: the features' shape without the batch.
        layout: what the dimensions are, the batch (N) first.
        relative_elements: number of feature elements, as a multiple of the picture's.
        head_macs: multiply-accumulates of the head per picture.
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
        """Number of feature elements per picture."""
        return math.prod(self.shape)


class SplitNetwork(nn.Module):
    """A network in two parts that share its parameters.

    picture -> head -> features -> tail -> the network's output

    A few tails need sizes from before the cut that the features do not tell. Where these follow the picture's
    size, they are arguments of the tail, after the features, with the example's as defaults: `tail(features)`
    is right for pictures of that size, `tail(features, *sizes(x))` for any.

    Attributes:
        split: the name of the cut.
        crossing: the tensors that cross, in the order of execution.
        head: picture (N, 3, H, W) -> features, or a tuple of them where several tensors cross.
        sizes: picture -> tuple of the sizes that travel beside the features; empty for most networks.
        tail: features -> the network's output. It leaves the features as they are, even where the network's
            next layer works in place.
    """

    def __init__(
        self,
        split: str,
        crossing: tuple[Crossing, ...],
        head: fx.GraphModule,
        sizes: fx.GraphModule,
        tail: fx.GraphModule,
    ) -> None:
        super().__init__()
        self.split = split
        self.crossing = crossing
        self.head = head
        self.sizes = sizes
        self.tail = tail

    @property
    def feature_shape(self) -> tuple[Any, ...]:
        """Shape of the tensor that crosses, without the batch; where several do, a tuple of their shapes."""
        shapes = tuple(tensor.shape for tensor in self.crossing)
        return shapes if len(shapes) > 1 else shapes[0]

    @property
    def layout(self) -> Layout | tuple[Layout, ...]:
        """What the dimensions of the tensor that crosses are; where several do, of each."""
        layouts = tuple(tensor.layout for tensor in self.crossing)
        return layouts if len(layouts) > 1 else layouts[0]

    def forward(self, x: Tensor) -> Any:
        """Run head and tail: what the network itself gives for pictures (N, 3, H, W)."""
        return self.finish(self.head(x), self.sizes(x))

    @property
    def usual_sizes(self) -> tuple[Any, ...]:
        """What `sizes` gives for pictures of the example's size; the tail takes these where none are given."""
        parameters = [*inspect.signature(self.tail.forward).parameters.values()]
        return tuple(parameter.default for parameter in parameters[len(self.crossing) :])

    def finish(self, features: Features, sizes: Sequence[Any] = ()) -> Any:
        """Run the tail on what crossed; without sizes, those of the example."""
        return self.tail(*tensors_of(features), *sizes)

    def side_information(self, x: Tensor) -> tuple[int, ...]:
        """Give the sizes that have to travel for pictures (N, 3, H, W), flat; none where they are the example's."""
        sizes = self.sizes(x)
        return () if sizes == self.usual_sizes else tuple(int(size) for size in tree_leaves(sizes))

    def finish_with(self, features: Features, side_information: Sequence[int]) -> Any:
        """Run the tail on what crossed and the sizes that travelled.

        Raises:
            ValueError: another number of sizes than the tail needs.
        """
        usual, structure = tree_flatten(self.usual_sizes)
        if side_information and len(side_information) != len(usual):
            raise ValueError(f"{len(side_information)} sizes came with the features, the tail needs {len(usual)}")
        return self.finish(features, tree_unflatten([*(side_information or usual)], structure))


def cut(network: nn.Module, split: str, example: Tensor, *, several: bool = False) -> SplitNetwork:
    """Cut a network after a node.

    Args:
        network: a network of one picture tensor that `torch.fx` can trace; it is put into eval mode.
        split: name of a module (`layer3`, `features.12`), or of an operation in one (`layer3.5.add`).
        example: pictures, (N, 3, H, W); only shape, type and device matter, and N is free later on.
        several: whether more than one tensor may cross.

    Returns:
        Head and tail with the network's own parameters; together they equal the network in eval mode.

    Raises:
        UsageError: the network cannot be traced or refuses the example, no tensor has that name, one side
            would be empty, several tensors cross where one was asked for, or what comes of an image depends on the
            other images of the batch.
    """
    graph = Graph(network, example)
    parts = cut_graph(graph, split, several=several)
    try:
        refuse_mixing(graph.title, parts, example)
    except UsageError:
        raise
    except Exception as error:  # whatever the network's own code raises
        why = name_kind(network, example) or f"fails on images ({reason(error)})"
        raise UsageError(f"model={graph.title}: {why}") from error
    return parts


def refuse_mixing(title: str, network: SplitNetwork, example: Tensor) -> None:
    """Refuse a network that mixes the images of a batch: each of a server's answers would depend on who else asks.

    Args:
        title: names the network.
        network: the network, cut.
        example: pictures, (N, 3, H, W); only shape, type and device matter.

    Raises:
        UsageError: it does, or it draws at random.
    """

    def run(images: Tensor) -> Any:
        features = network.head(images)
        return features, network.finish(features, network.sizes(images))

    if is_mixed(run, random_images(tuple(example.shape[1:]), example.device).to(example.dtype)):
        raise UsageError(f"model={title}: {MIXED}")


def cut_graph(graph: Graph, split: str, *, several: bool = False) -> SplitNetwork:
    """Cut a network whose graph is there already; see `cut`."""
    if split not in graph.names:
        raise UsageError(
            f"split={split}: no tensor of {graph.title} has this name; closest: "
            f"{closest(split, list(graph.names))}; {LISTING} lists the split points"
        )
    node = graph.names[split]
    sides = Sides(graph, node)
    _refuse_empty_side(graph, split, sides)
    if not several and sides.crossing != (node,):
        _refuse_several(graph, split, sides)
    crossing = tuple(_describe(graph, tensor) for tensor in sides.crossing)
    return SplitNetwork(split, crossing, sides.write_head(), sides.write_sizes(), sides.write_tail())


def split_points(network: nn.Module, example: Tensor) -> list[SplitPoint]:
    """List where a network can be cut so that a single tensor crosses, in the order of execution.

    Args:
        network: the network; it is put into eval mode.
        example: pictures, (N, 3, H, W); only shape, type and device matter.

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
    for node, (name, *aliases) in _places(graph):
        shape, macs = graph.shape(node), graph.macs(graph.ancestors[node])
        relative = math.prod(shape) / graph.picture.numel()
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


def render_table(points: Iterable[SplitPoint], total_macs: int, title: str, crowded: Mapping[str, int]) -> Table:
    """Draw split points as a table.

    Args:
        points: the rows.
        total_macs: multiply-accumulates of the whole network per picture.
        title: stands above, with the total.
        crowded: where several tensors cross, and how many; stands below.
    """
    places = ", ".join(f"{name} ({count})" for name, count in crowded.items())
    table = Table(
        title=f"{title}: {total_macs / 1e6:,.0f} M multiply-accumulates per picture",
        caption=f"several tensors cross after {places}" if places else None,
    )
    table.add_column("split point")
    table.add_column("also")
    table.add_column("features")
    for heading in ("elements", "of the picture's", "device MACs, M", "share"):
        table.add_column(heading, justify="right")
    for point in points:
        table.add_row(
            point.name,
            ", ".join(point.aliases),
            f"{point.layout[1:]} {_times(point.shape)}",
            f"{point.num_elements:,}",
            f"{point.relative_elements:.2f} x",
            f"{point.head_macs / 1e6:,.1f}",
            f"{point.macs_share:.1%}",
        )
    return table


def _places(graph: Graph) -> Iterator[tuple[Node, list[str]]]:
    """Find the nodes after which one tensor crosses, with the names of the modules that end there."""
    for node in graph.data[1:]:  # the first is the picture
        names = [name for name in graph.names_of[node] if name in graph.module_names]
        if names and graph.layout(node) != "other":
            sides = Sides(graph, node)
            if sides.crossing == (node,) and len(sides.tail) > 1:
                yield node, names


def _refuse_empty_side(graph: Graph, split: str, sides: Sides) -> None:
    for side, name, end in ((sides.head, "head", "input"), (sides.tail, "tail", "output")):
        if len(side) == 1:
            raise UsageError(
                f"split={split}: this is the network's {end}, the {name} would be empty; {_nearest(graph, sides)}"
            )


def _refuse_several(graph: Graph, split: str, sides: Sides) -> None:
    tensors = [_describe(graph, node) for node in sides.crossing]
    raise UsageError(
        f"split={split}: {len(tensors)} tensors cross here where one was asked for: "
        f"{', '.join(f'{tensor.name} ({_times(tensor.shape)})' for tensor in tensors)}; "
        f"{_nearest(graph, sides)}"
    )


def _nearest(graph: Graph, sides: Sides) -> str:
    """Name the split points around a cut that cannot be made."""
    places = list(_places(graph))
    before = [f"{names[0]} before" for node, names in places if node in sides.head]
    after = [f"{names[0]} after" for node, names in places if node in sides.tail]
    return f"nearest split points: {' and '.join(before[-1:] + after[:1]) or 'none'}"


def _describe(graph: Graph, node: Node) -> Crossing:
    name = next(iter(graph.names_of[node]), node.name)
    return Crossing(name, graph.shape(node), graph.layout(node))


def _times(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
