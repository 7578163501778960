"""Gradients taken in several passes, so that only one pass's activations are held at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from bottlenecks.splitting.features import Features

T = TypeVar("T")


class _GradientNow(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, function: Callable[[Features], Tensor], scale: Tensor | None, *inputs: Tensor) -> Tensor:
        with torch.enable_grad():
            leaves = tuple(tensor.detach().requires_grad_() for tensor in inputs)
            value = function(leaves)
        ctx.scale = scale
        with torch.autocast(inputs[0].device.type, enabled=False):
            ctx.save_for_backward(*torch.autograd.grad(value, leaves, scale))
        return value.detach()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        share = grad_output if ctx.scale is None else grad_output / ctx.scale
        return None, None, *(share * gradient for gradient in ctx.saved_tensors)


def with_gradient_now(function: Callable[[Features], Tensor], inputs: Features, scale: Tensor | None = None) -> Tensor:
    """Evaluate a scalar function and, where gradients are wanted, its gradient at once.

    What the function held for its backward pass is free again on return; the gradient, as large as `inputs`, waits
    for the caller's own backward pass. The function must not depend on other tensors that want a gradient.

    Args:
        function: gives a scalar.
        inputs: its argument.
        scale: factor that the caller's backward pass will begin with, (); the gradient is taken with it already, so
            that in half precision small values do not become zero. None for none.
    """
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs):
        value: Tensor = _GradientNow.apply(function, scale, *inputs)
        return value
    return function(inputs)


def in_groups(items: Sequence[T], size: int | None) -> list[Sequence[T]]:
    """Divide a sequence into groups of at most `size`; None makes one."""
    step = size or max(1, len(items))
    return [items[start : start + step] for start in range(0, len(items), step)]
