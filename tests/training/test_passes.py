"""Several passes give the gradient of one."""

from __future__ import annotations

import torch
from torch import Tensor

from bottlenecks.splitting.features import Features
from bottlenecks.training.passes import in_groups, with_gradient_now


def test_the_gradient_taken_now_is_the_one_taken_later() -> None:
    weight = torch.randn(5, 4, requires_grad=True)
    inputs = torch.randn(3, 5)

    def function(features: Features) -> Tensor:
        return features[0].sin().square().sum()

    function((inputs @ weight,)).backward()
    assert weight.grad is not None
    later = weight.grad.clone()
    weight.grad = None
    (2 * with_gradient_now(function, (inputs @ weight,))).backward()
    assert torch.allclose(weight.grad / 2, later)


def test_nothing_is_kept_where_no_gradient_is_wanted() -> None:
    def total(features: Features) -> Tensor:
        return features[0].sum()

    value = with_gradient_now(total, (torch.ones(3),))
    assert value == 3 and not value.requires_grad
    with torch.no_grad():
        assert not with_gradient_now(total, (torch.ones(3, requires_grad=True),)).requires_grad


def test_groups() -> None:
    assert in_groups([1, 2, 3], None) == [[1, 2, 3]]
    assert in_groups([1, 2, 3], 2) == [[1, 2], [3]]
