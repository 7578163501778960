"""Cut a network at a named node into head and tail."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx import Node
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from bottlenecks.errors import UsageError, closest, reason
from bottlenecks.splitting.features import Features
from bottlenecks.splitting.graph import Graph
from bottlenecks.splitting.layouts import Shape
from bottlenecks.splitting.mixing import is_mixed, random_images
from bottlenecks.splitting.points import places_of, times
from bottlenecks.splitting.sides import Sides
from bottlenecks.splitting.tracing import name_kind

MIXED = (
    "what it makes of an image depends on the other images of the batch, or on chance, also in eval mode; let "
    "BatchNorm use its running statistics there, take means over each image alone, and switch dropout off"
)
LISTING = "python -m bottlenecks.split model=..."


@dataclass(frozen=True)
class Crossing:
    """A map that crosses a cut.

    Attributes:
        name: the shortest name of the node that gives it; where a tensor becomes two maps, the second has more to it.
        shape: its shape (C, H, W) for one image of the example's size.
    """

    name: str
    shape: Shape


class SplitNetwork(nn.Module):
    """A network in two parts that share its parameters.

    image -> head -> features -> tail -> the network's output

    A few tails need sizes from before the cut that the features do not tell. Where these follow the image's
    size, they are arguments of the tail, after the features, with the example's as defaults: `tail(features)`
    is right for images of that size, `tail(features, *sizes(x))` for any.

    Attributes:
        split: the name of the cut.
        crossing: the maps that cross, in the order of execution.
        head: image (N, 3, H, W) -> features, a tuple of the maps that cross, (N, C, H, W) each.
        sizes: image -> tuple of the sizes that travel beside the features; empty for most networks.
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
        for part in (head, tail):
            part.register_forward_pre_hook(_stay_in_eval_mode)

    @property
    def feature_shape(self) -> tuple[Shape, ...]:
        """Shapes of the maps that cross, (C, H, W) each."""
        return tuple(tensor.shape for tensor in self.crossing)

    def forward(self, x: Tensor) -> Any:
        """Run head and tail: what the network itself gives for images (N, 3, H, W)."""
        return self.finish(self.head(x), self.sizes(x))

    @property
    def usual_sizes(self) -> tuple[Any, ...]:
        """What `sizes` gives for images of the example's size; the tail takes these where none are given."""
        parameters = [*inspect.signature(self.tail.forward).parameters.values()]
        return tuple(parameter.default for parameter in parameters[len(self.crossing) :])

    def finish(self, features: Features, sizes: Sequence[Any] = ()) -> Any:
        """Run the tail on what crossed; without sizes, those of the example."""
        return self.tail(*features, *sizes)

    def side_information(self, x: Tensor) -> tuple[int, ...]:
        """Return the sizes that have to travel for images (N, 3, H, W), flat; none where they are the example's."""
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


def _stay_in_eval_mode(part: nn.Module, given: Any) -> None:
    """Put a part back into eval mode: the network that it shares modules with may have been put into another."""
    if any(module.training for module in part.modules()):
        part.eval()


def cut(network: nn.Module, split: str, example: Tensor, *, several: bool = False) -> SplitNetwork:
    """Cut a network after a node.

    Args:
        network: a network of one image tensor that `torch.fx` can trace; it is put into eval mode.
        split: name of a module (`layer3`, `features.12`), or of an operation in one (`layer3.5.add`).
        example: images, (N, 3, H, W); only shape, type and device matter, and N is free later on.
        several: whether more than one tensor may cross.

    Returns:
        Head and tail with the network's own parameters; together they equal the network in eval mode.

    Raises:
        UsageError: the network cannot be traced or refuses the example, no tensor has that name, what crosses are no
            floats of 32 bits or more, one side would be empty, several tensors cross where one was asked
            for, or what comes of an image depends on the other images of the batch.
    """
    graph = Graph(network, example)
    parts = cut_graph(graph, split, several=several)
    try:
        _refuse_other_numbers(parts, example)
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
        example: images, (N, 3, H, W); only shape, type and device matter.

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
    crossing = tuple(
        Crossing(name, shape)
        for tensor, how in zip(sides.crossing, sides.arrangements, strict=True)
        for name, shape in zip(how.names(_name(graph, tensor)), how.shapes, strict=True)
    )
    return SplitNetwork(split, crossing, sides.write_head(), sides.write_sizes(), sides.write_tail())


@torch.no_grad()
def _refuse_other_numbers(network: SplitNetwork, example: Tensor) -> None:
    kinds = {tensor.dtype for tensor in network.head(example[:1])} - {torch.float32, torch.float64}
    if kinds:
        raise UsageError(
            f"split={network.split}: what crosses there is {', '.join(map(str, kinds))}, and units code torch.float32; "
            "convert the network with .float(), or cut elsewhere"
        )


def _refuse_empty_side(graph: Graph, split: str, sides: Sides) -> None:
    for side, name, end in ((sides.head, "head", "input"), (sides.tail, "tail", "output")):
        if len(side) == 1:
            raise UsageError(
                f"split={split}: this is the network's {end}, the {name} would be empty; {_nearest(graph, sides)}"
            )


def _refuse_several(graph: Graph, split: str, sides: Sides) -> None:
    tensors = [f"{_name(graph, node)} ({times(graph.shape(node))})" for node in sides.crossing]
    raise UsageError(
        f"split={split}: {len(tensors)} tensors cross here where one was asked for: {', '.join(tensors)}; "
        f"{_nearest(graph, sides)}"
    )


def _nearest(graph: Graph, sides: Sides) -> str:
    """Name the split points around a cut that cannot be made."""
    places = list(places_of(graph))
    before = [f"{names[0]} before" for node, names in places if node in sides.head]
    after = [f"{names[0]} after" for node, names in places if node in sides.tail]
    return f"nearest split points: {' and '.join(before[-1:] + after[:1]) or 'none'}"


def _name(graph: Graph, node: Node) -> str:
    return next(iter(graph.names_of[node]), node.name)
