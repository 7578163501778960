"""Tensors that cross a cut become maps (N, C, H, W), which is what units take, and maps become the tensors again.

Tokens (N, T, C) that stand for a grid become one map, and those before the grid, such as a class token, one more of
a single position that has all of their channels. Channels last become channels first, and a vector (N, C) a map of one
position.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx import Node

from bottlenecks.errors import UsageError
from bottlenecks.splitting.graph import Graph

Shape = tuple[int, int, int]

MOST_BEFORE = 32  # tokens before a grid that is known: class, distillation and register tokens
FEW_BEFORE = 2  # before one that is guessed: class and distillation token


@dataclass(frozen=True)
class Arrangement:
    """How one tensor that crosses becomes maps: one that is a map already stays as it is.

    Attributes:
        shapes: of the maps, (C, H, W) each.
    """

    shapes: tuple[Shape, ...]

    def names(self, name: str) -> list[str]:
        """Name the maps of a tensor."""
        return [name, f"{name}.prefix"][: len(self.shapes)]

    def write_maps(self, graph: fx.Graph, tensor: Node, image: Node) -> list[Node]:
        """Write tensor -> maps."""
        return [tensor]

    def write_tensor(self, graph: fx.Graph, maps: Sequence[Node]) -> Node:
        """Write maps -> tensor."""
        return maps[0]


@dataclass(frozen=True)
class Rearranged(Arrangement):
    """How a tensor that is no map becomes one or more.

    Attributes:
        to_maps: the tensor, an image and `settings` -> a tuple of maps.
        to_tensor: the maps -> the tensor.
        settings: further arguments of `to_maps`.
    """

    to_maps: Callable[..., tuple[Tensor, ...]]
    to_tensor: Callable[..., Tensor]
    settings: tuple[int, ...] = ()

    def write_maps(self, graph: fx.Graph, tensor: Node, image: Node) -> list[Node]:
        """Write tensor -> maps."""
        maps = graph.call_function(self.to_maps, (tensor, image, *self.settings))
        return [graph.call_function(operator.getitem, (maps, index)) for index in range(len(self.shapes))]

    def write_tensor(self, graph: fx.Graph, maps: Sequence[Node]) -> Node:
        """Write maps -> tensor."""
        return graph.call_function(self.to_tensor, tuple(maps))


def arrange(graph: Graph, node: Node) -> Arrangement:
    """Find how a tensor of a graph becomes maps.

    Raises:
        UsageError: its dimensions have no meaning that is known.
    """
    shape: Any = graph.shape(node)
    match graph.layout(node):
        case "NCHW":
            return Arrangement((shape,))
        case "NHWC":
            rows, columns, channels = shape
            return Rearranged(((channels, rows, columns),), channels_first, channels_last)
        case "NC":
            return Rearranged(((*shape, 1, 1),), vector_to_map, map_to_vector)
        case "NTC":
            tokens, channels = shape
            rows, columns = find_grid(graph, node, tokens)
            prefix = tokens - rows * columns
            shapes = ((channels, rows, columns), (channels * prefix, 1, 1))
            settings = (prefix, rows, graph.image.shape[-2])
            return Rearranged(shapes if prefix else shapes[:1], tokens_to_maps, maps_to_tokens, settings)
    raise UsageError(
        f"split={graph.names_of[node][0]}: the features there have shape {shape}; units take maps (C, H, W), "
        "also with channels last, tokens (T, C) and vectors (C,); python -m bottlenecks.split lists where they cross"
    )


def find_grid(graph: Graph, node: Node, num_tokens: int) -> tuple[int, int]:
    """Find the rows and columns that tokens stand for, but for some before them.

    They are those of the nearest map that the tokens were made of, or else have the image's proportions. Where there is
    no such grid, the tokens are one row.
    """
    ancestors = graph.ancestors[node]
    for source in reversed(graph.data):
        if source in ancestors and graph.is_feature(source) and graph.layout(source) in ("NCHW", "NHWC"):
            shape = graph.shape(source)
            rows, columns = shape[1:] if graph.layout(source) == "NCHW" else shape[:2]
            if 0 <= num_tokens - rows * columns <= MOST_BEFORE:
                return rows, columns
    height, width = graph.image.shape[-2:]
    for prefix in range(min(FEW_BEFORE, num_tokens - 1) + 1):
        rows = round(math.sqrt((num_tokens - prefix) * height / width))
        if rows and rows * width == height * (num_tokens - prefix) / rows:
            return rows, (num_tokens - prefix) // rows
    return 1, num_tokens


def tokens_to_maps(tokens: Tensor, image: Tensor, prefix: int, rows: int, height: int) -> tuple[Tensor, ...]:
    """Turn tokens (N, P + H * W, C) into the grid's map (N, C, H, W), and the P before it into one (N, P * C, 1, 1).

    Args:
        tokens: in rows, from the top.
        image: (N, 3, H', W').
        prefix: P.
        rows: of the grid for images of `height`; larger ones have more.
        height: of images, in pixels.
    """
    grid = tokens[:, prefix:].transpose(1, 2).unflatten(2, (image.shape[-2] * rows // height, -1))
    return (grid, vector_to_map(tokens[:, :prefix].flatten(1), image)[0]) if prefix else (grid,)


def maps_to_tokens(grid: Tensor, prefix: Tensor | None = None) -> Tensor:
    """Undo `tokens_to_maps`."""
    tokens = grid.flatten(2).transpose(1, 2)
    return tokens if prefix is None else torch.cat([prefix.flatten(1).unflatten(1, (-1, grid.shape[1])), tokens], 1)


def channels_first(tensor: Tensor, image: Tensor) -> tuple[Tensor]:
    """Turn (N, H, W, C) into (N, C, H, W)."""
    return (tensor.permute(0, 3, 1, 2),)


def channels_last(tensor: Tensor) -> Tensor:
    """Turn (N, C, H, W) into (N, H, W, C)."""
    return tensor.permute(0, 2, 3, 1)


def vector_to_map(vector: Tensor, image: Tensor) -> tuple[Tensor]:
    """Turn (N, C) into (N, C, 1, 1)."""
    return (vector[:, :, None, None],)


def map_to_vector(tensor: Tensor) -> Tensor:
    """Turn (N, C, 1, 1) into (N, C)."""
    return tensor.flatten(1)
