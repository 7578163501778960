"""Write a network down as a graph: by symbols where its code allows it, else by export."""

from __future__ import annotations

import copy
import dataclasses
import logging
import math
import re
import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import torchvision
from torch import Tensor, fx, nn
from torch.fx import Node
from torch.utils._pytree import tree_unflatten
from torchvision.models.feature_extraction import NodePathTracer

from bottlenecks.errors import UsageError, reason


class Trace(NamedTuple):
    """A network as a graph.

    Attributes:
        module: the graph with the network's own parameters.
        paths: where in the network each node was met, such as `layer3.5.relu_2`.
        any_size: whether the graph is right for images of other heights and widths, too.
    """

    module: fx.GraphModule
    paths: dict[Node, str]
    any_size: bool


def trace(network: nn.Module, example: Tensor) -> Trace:
    """Write a network down as a graph.

    Symbols go through its code first. Where that branches on what a symbol is, such as its shape, the network is run
    on an example by `torch.export`, and the graph is for images of this height and width.

    Args:
        network: the network; it is put into eval mode.
        example: images, (N, C, H, W); only shape, type and device matter.

    Raises:
        UsageError: the network cannot be traced.
    """
    if network._forward_hooks or network._forward_pre_hooks:
        raise UsageError(
            f"model={type(network).__name__}: has forward hooks of its own, which a graph leaves out; remove them, or "
            "wrap it in a module whose forward calls it"
        )
    network.eval()
    try:
        return _by_symbols(network)
    except Exception as error:  # whatever the network's own code raises when it meets a symbol
        title = f"model={type(network).__name__}"
        if kind := name_kind(network, example):
            raise UsageError(f"{title}: {kind}") from error
    try:
        return _by_export(network, example)
    except Exception as error:  # the same, or what torch.export finds
        raise UsageError(
            f"{title}: cannot be traced into a graph, so it cannot be cut ({_describe(error)}); name another model, "
            "or a part of it that takes one tensor and does not branch on its values"
        ) from error


def name_kind(network: nn.Module, example: Tensor) -> str | None:
    """Name what makes a network fail whatever size images have, with the way out; None where nothing is known."""
    if hasattr(network, "_orig_mod"):
        return "is compiled; give the network itself, without torch.compile"
    if isinstance(network, torch.jit.ScriptModule):
        return "is scripted; give the network itself, without torch.jit"
    if any(".quantized" in type(module).__module__ for module in network.modules()):
        return "is quantised; give the network that it was made of, in floating point"
    types = {tensor.dtype for tensor in network.parameters() if tensor.is_floating_point()} - {example.dtype}
    if types:
        return f"has weights of {types.pop()}, images are {example.dtype}; convert it with .float()"
    first = next((module for module in network.modules() if isinstance(module, nn.Conv2d)), None)
    if first is not None and first.in_channels != example.shape[1]:
        return f"takes {first.in_channels} channels, images have {example.shape[1]}; give a network for these"
    return None


def _by_symbols(network: nn.Module) -> Trace:
    tracer = _Tracer(autowrap_modules=(math, torchvision.ops), **_leaves_of_timm())
    own = set(vars(network))
    try:
        return Trace(fx.GraphModule(network, tracer.trace(network)), dict(tracer.node_to_qualname), any_size=True)
    finally:
        for name in set(vars(network)) - own:  # constants that the tracer hung there; the graph has them now
            delattr(network, name)


class _Tracer(NodePathTracer):
    """Takes the network's first argument as the image and leaves all others at their defaults.

    A module that says `is_leaf` of itself becomes one node.
    """

    def is_leaf_module(self, m: nn.Module, module_qualname: str) -> bool:
        return getattr(m, "is_leaf", False) is True or super().is_leaf_module(m, module_qualname)

    def create_args_for_root(self, root_fn: Any, is_module: bool, concrete_args: Any = None) -> tuple[Any, list[Any]]:
        image = self.create_proxy("placeholder", "input", (), {})
        return lambda root, image: to_plain(root_fn(root, image)), [self.root, image]


def _leaves_of_timm() -> dict[str, Sequence[Any]]:
    if "timm" not in sys.modules:  # then the network is not timm's either
        return {}
    from timm.layers import get_notrace_functions, get_notrace_modules

    return {"leaf_modules": get_notrace_modules(), "autowrap_functions": tuple(get_notrace_functions())}


def _by_export(network: nn.Module, example: Tensor) -> Trace:
    plain = copy.copy(network)  # an object of its own with the same modules and parameters
    plain.forward = lambda image: to_plain(network.forward(image))
    images = torch.zeros(2, *example.shape[1:], dtype=example.dtype, device=example.device)  # one would be a constant
    with _silence():
        free = ({0: torch.export.Dim.DYNAMIC},)
        program = torch.export.export(plain, (images,), dynamic_shapes=free, strict=False)
        module = program.module()
    graph = fx.Graph()
    (image,) = module.graph.find_nodes(op="placeholder")
    copies = {image: graph.placeholder("input")}
    device = graph.call_function(getattr, (copies[image], "device"))
    for node in module.graph.nodes:
        if node.op == "output":
            leaves = [copies[leaf] if isinstance(leaf, Node) else leaf for leaf in node.args[0]]
            graph.output(tree_unflatten(leaves, program.call_spec.out_spec))
        elif node is not image:
            copies[node] = graph.node_copy(node, copies.__getitem__)
    _free_device(graph, device)
    written = fx.GraphModule(module, graph)
    return Trace(written, _paths(graph, dict(network.named_modules())), any_size=False)


@contextmanager
def _silence() -> Iterator[None]:
    """Keep quiet what `torch.export` logs and warns of; what it fails of, it raises too."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def to_plain(output: Any) -> Any:
    """Turn the dataclasses, named tuples and mappings that a network gives into dicts, without what is None."""
    if isinstance(output, Mapping):
        return {str(name): to_plain(value) for name, value in output.items() if value is not None}
    if isinstance(output, tuple) and hasattr(output, "_asdict"):
        return to_plain(output._asdict())
    if dataclasses.is_dataclass(output) and not isinstance(output, type):
        return to_plain({field.name: getattr(output, field.name) for field in dataclasses.fields(output)})
    return output


def _free_device(graph: fx.Graph, device: Node) -> None:
    """Let tensors be made where the image is, not where the example was."""
    for node in graph.nodes:
        if node.op == "call_function" and isinstance(node.kwargs.get("device"), torch.device):
            node.kwargs = {**node.kwargs, "device": device}


def _paths(graph: fx.Graph, modules: Mapping[str, nn.Module]) -> dict[Node, str]:
    """Name the nodes: those of a module without children by it, others by the module and the operation."""
    paths, counts = {}, Counter[str]()
    for node in graph.nodes:
        stack = [path for path, _ in (node.meta.get("nn_module_stack") or {}).values()]
        path, *call = stack[-1].split("@") if stack else ("no module",)  # layer@1 is the second call of the layer
        if node.op != "call_function" or path not in modules:
            continue
        name = "_".join([path, *call])
        if next(modules[path].children(), None) is not None or not path:
            place = f"{name}.{re.sub(r'_[0-9]+$', '', node.name)}".lstrip(".")
            name = f"{place}_{counts[place]}" if counts[place] else place
            counts[place] += 1
        paths[node] = name
    return paths


def _describe(error: Exception) -> str:
    if "DataDependent" in type(error).__name__ or "data-dependent" in str(error):
        return "it branches on the values of a tensor"
    if "ConstraintViolation" in type(error).__name__ or "specialized" in str(error):
        return "it takes batches of one size only"
    return reason(error)
