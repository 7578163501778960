"""Frozen means frozen: what a program does to its own module after the cut changes nothing, or is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import bottlenecks as bn
from tests.networks import Tiny
from tests.test_api import IMAGES, network

FAST = {"training.epochs": 0, "training.fit_images": 64, "unit.structure": "separable", "unit.block": 4}


def test_a_module_that_is_put_into_train_mode_behaves_as_in_eval_mode(tmp_path: Path) -> None:
    cut, other = network(), network()
    before = {name: tensor.clone() for name, tensor in cut.backbone.network.state_dict().items()}
    other.backbone.network.train()
    folders = []
    for name, one in (("eval", cut), ("train", other)):
        folders += bn.fit(one, IMAGES, lmbdas=1.0, settings=FAST).save(tmp_path / name)
    assert folders[0].read_bytes() == folders[1].read_bytes()
    net = bn.load(tmp_path / "eval", network=cut)
    streams, outputs = net.encode(IMAGES[:4]), net.decode(net.encode(IMAGES[:4]))
    cut.backbone.network.train()
    assert net.encode(IMAGES[:4]) == streams
    cut.backbone.network.train()
    assert torch.equal(net.decode(streams), outputs)
    after = cut.backbone.network.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


def test_weights_that_change_after_the_cut_are_refused(tmp_path: Path) -> None:
    cut = network()
    bn.fit(cut, IMAGES, lmbdas=1.0, settings=FAST).save(tmp_path / "rates")
    cut.backbone.network.classifier.weight.data += 1  # type: ignore[operator,union-attr]
    for use in (lambda: bn.fit(cut, IMAGES, settings=FAST), lambda: bn.load(tmp_path / "rates", network=cut)):
        with pytest.raises(bn.UsageError, match="network: the weights of tiny have changed since it was cut; cut it"):
            use()


@pytest.mark.parametrize("register", [nn.Module.register_forward_hook, nn.Module.register_forward_pre_hook])
def test_hooks_that_a_graph_leaves_out_are_refused(register: Callable[..., Any]) -> None:
    model = Tiny()
    register(model, lambda *given: None)
    with pytest.raises(bn.UsageError, match=r"model=Tiny: has forward hooks of its own, which a graph leaves out"):
        bn.cut(model, at="body", example=IMAGES[:2])
    wrapped = nn.Sequential(model)
    model.register_forward_hook(lambda module, given, output: output * 2)
    cut = bn.cut(wrapped, at="0.body", example=IMAGES[:2])
    assert torch.equal(cut.network(IMAGES[:2]), wrapped(IMAGES[:2]))


class Blocking(nn.Module):
    """Has a function in front of its top.

    Args:
        through: that function.
    """

    def __init__(self, through: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.own, self.through = Tiny(), through

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        maps = self.through(10 * self.own.body(self.own.stem(x)))
        return self.own.classifier(self.own.top(maps).mean((2, 3)))


@pytest.mark.parametrize("through", [torch.Tensor.detach, torch.Tensor.round])
def test_a_tail_without_a_gradient_is_refused_and_trains_on_the_features_own_error(through: Any) -> None:
    cut = bn.cut(Blocking(through), at="own.body", example=IMAGES[:2])
    with pytest.raises(
        bn.UsageError, match=r"split=own\.body: the output depends on the features .* loss\.kd=0 loss\.mse=1"
    ):
        bn.fit(cut, IMAGES, lmbdas=1.0, settings=FAST)
    assert bn.fit(cut, IMAGES, lmbdas=1.0, settings={**FAST, "loss.kd": 0, "loss.mse": 1})
