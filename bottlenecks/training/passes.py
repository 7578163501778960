"""Gradients taken in several passes, so that only one pass's activations are held at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

T = TypeVar("T")


class _GradientNow(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        with torch.enable_grad():
            leaf = inputs.detach().requires_grad_()
            value = function(leaf)
        with torch.autocast(inputs.device.type, enabled=False):
            (gradient,) = torch.autograd.grad(value, leaf)
        ctx.save_for_backward(gradient)
        return value.detach()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return grad_output * gradient, None


def with_gradient_now(function: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
    """Evaluate a scalar function and, where gradients are wanted, its gradient at once.

    What the function held for its backward pass is free again on return; the gradient, as large as `inputs`, waits
    for the caller's own backward pass. The function must not depend on other tensors that want a gradient.

    Args:
        function: gives a scalar.
        inputs: its argument.
    """
    if torch.is_grad_enabled() and inputs.requires_grad:
        return _GradientNow.apply(inputs, function)
    return function(inputs)


def in_groups(items: Sequence[T], size: int | None) -> list[Sequence[T]]:
    """Divide a sequence into groups of at most `size`; None makes one."""
    step = size or max(1, len(items))
    return [items[start : start + step] for start in range(0, len(items), step)]
