"""Shapes and multiply-accumulates, found without computing anything."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_map_only
from torch.utils.flop_counter import FlopCounterMode

FLOPS_PER_MAC = 2

_SHAPE_LOG = logging.getLogger("torch._subclasses.fake_tensor")


@contextmanager
def without_fused_attention() -> Iterator[None]:
    """Take attention apart into matrix products, since its fused kernels are not counted on every device."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.inference_mode(False), torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


@contextmanager
def shapes_only() -> Iterator[FakeTensorMode]:
    """Let modules run on tensors that have shape, type and device but no values: no arithmetic, no memory.

    PyTorch's log of shapes that do not fit is silenced: the exception says the same.

    Yields:
        The mode; its `from_tensor` turns a tensor into such a one.
    """
    silent = _SHAPE_LOG.disabled
    _SHAPE_LOG.disabled = True
    try:
        with without_fused_attention(), FakeTensorMode(allow_non_fake_inputs=True) as mode:
            yield mode
    finally:
        _SHAPE_LOG.disabled = silent


@contextmanager
def forgetting(module: nn.Module) -> Iterator[None]:
    """Take back what modules keep from one call to the next: here these would be tensors without values."""
    before = [(vars(one), {**vars(one)}) for one in module.modules()]
    held = [
        (kept, copy.copy(kept)) for _, values in before for kept in values.values() if isinstance(kept, (dict, list))
    ]
    try:
        yield
    finally:
        for own, state in before:
            own.clear()
            own.update(state)
        for kept, content in held:
            kept.clear()
            kept.update(content) if isinstance(kept, dict) else kept.extend(content)


def count_macs(function: Callable[..., Any], *inputs: Any) -> int:
    """Count the multiply-accumulates of one call.

    Convolutions and matrix products count; biases, activations, normalisation and pooling do not, as in the
    figures that torchvision gives for its networks.

    Args:
        function: what is called: a module in eval mode, or a method of one.
        inputs: its arguments. Only shapes, types and devices matter; one image gives the count per image.

    Returns:
        The number of multiply-accumulates (half the floating-point operations).
    """
    module = getattr(function, "__self__", function)
    memory = forgetting(module) if isinstance(module, nn.Module) else nullcontext()
    with memory, shapes_only() as mode, FlopCounterMode(display=False) as counter:
        function(*tree_map_only(Tensor, mode.from_tensor, inputs))
    return counter.get_total_flops() // FLOPS_PER_MAC


@dataclass(frozen=True)
class Run:
    """What one run of a graph over shapes alone has shown.

    Attributes:
        values: what each node gives; its tensors are without values.
        macs: multiply-accumulates of each node.
        overwritten: nodes whose tensor a later node writes into.
    """

    values: Mapping[fx.Node, Any]
    macs: Mapping[fx.Node, int]
    overwritten: frozenset[fx.Node]


def run_shapes(module: fx.GraphModule, image: Tensor, shape: tuple[int, ...]) -> Run:
    """Run a graph over shapes alone.

    Args:
        module: the network.
        image: its type and device are taken; tensors on the meta device have no values anyway.
        shape: that of the input, (N, C, H, W).

    Raises:
        Exception: whatever the network raises for such an input.
    """
    shapes = without_fused_attention() if image.is_meta else shapes_only()
    with forgetting(module), shapes, FlopCounterMode(display=False) as counter:
        recorder = _Recorder(module, counter)
        recorder.run(image.new_empty(shape))
    return Run(recorder.env, recorder.macs, recorder.overwritten())


class _Recorder(fx.Interpreter):
    """Runs a graph, keeping every node's value, cost and the version of its tensor."""

    def __init__(self, module: fx.GraphModule, counter: FlopCounterMode) -> None:
        super().__init__(module, garbage_collect_values=False)
        self.macs: dict[fx.Node, int] = {}
        self._versions: dict[fx.Node, int] = {}
        self._counter = counter

    def run_node(self, n: fx.Node) -> Any:
        before = self._counter.get_total_flops()
        value = super().run_node(n)
        if isinstance(value, Tensor) and value.requires_grad and n.op != "get_attr":
            value = value.detach()  # shapes of a parameter's view ask for a gradient also where none is taken
        self.macs[n] = (self._counter.get_total_flops() - before) // FLOPS_PER_MAC
        if isinstance(value, Tensor):
            self._versions[n] = value._version
        return value

    def overwritten(self) -> frozenset[fx.Node]:
        versions = self._versions.items()
        return frozenset(node for node, version in versions if self.env[node]._version != version)
