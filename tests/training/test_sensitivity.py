"""Drawn gradients against exact Fisher matrices and against the true distortion of a small change."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn

from bottlenecks.backbones.detectors.small import small_fcos
from bottlenecks.errors import UsageError
from bottlenecks.splitting.cut import SplitNetwork, cut
from bottlenecks.tasks import Classification, Segmentation, Task, make_task
from bottlenecks.training.frozen import FrozenBatch
from bottlenecks.training.loss import RateDistortionLoss
from bottlenecks.training.sensitivity import identity_share, score_draws
from tests.networks import Tiny, TinySegmenter

KD = {"kd": 1.0}


def sharpen(network: nn.Module) -> nn.Module:
    """Give a network weights whose output varies with the image."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)
    return network.eval().requires_grad_(False)


def split(make: Callable[[], nn.Module], at: str, size: int) -> tuple[SplitNetwork, tuple[Tensor, ...]]:
    """Cut a network; give it and what its head makes of four images."""
    images = torch.randn(4, 3, size, size, generator=Generator().manual_seed(0))
    network = cut(sharpen(make()), at, images[:1], several=True)
    return network, network.head(images)


def all_draws(*arguments: Any, **named: Any) -> list[Tensor]:
    """Put the chunks of draws together, one tensor (num_draws, N, C, H, W) for each that crosses."""
    return [torch.cat(parts, 1) for parts in zip(*score_draws(*arguments, **named), strict=True)]


def test_draws_have_the_exact_fisher_matrix() -> None:
    network, features = split(Tiny, "body", 16)
    one = features[0][:1]
    jacobian = torch.autograd.functional.jacobian(network.tail, one).flatten(2)[0, :, :].reshape(10, -1)
    shares = network.tail(one)[0].softmax(0)
    fisher = jacobian.T @ (shares.diag() - shares.outer(shares)) @ jacobian
    many = (one.repeat(500, 1, 1, 1),)
    (draws,) = all_draws(network, many, Classification(), {"kd": 0.5, "ce": 1.5}, range(500), 20)
    rows = draws.flatten(2).flatten(0, 1)
    assert rows.dtype == torch.float32 and len(rows) == 10_000
    moment = rows.T @ rows / len(rows)
    assert (moment - 200 * fisher).norm() < 0.03 * 200 * fisher.norm()
    assert float(moment.trace()) == pytest.approx(200 * float(fisher.trace()), rel=0.03)


@pytest.mark.parametrize(
    ("make", "at", "size", "task", "count"),
    [
        (Tiny, "body", 32, "classification", 1),
        (TinySegmenter, "body", 64, "segmentation", 1),
        (TinySegmenter, "top", 64, "segmentation", 2),
        pytest.param(small_fcos, "backbone.body.layer2", 64, "detection", 1, marks=pytest.mark.slow),
        pytest.param(small_fcos, "backbone.body.layer3", 64, "detection", 2, marks=pytest.mark.slow),
    ],
)
def test_half_the_mean_square_is_the_distortion_of_a_small_change(
    make: Callable[[], nn.Module], at: str, size: int, task: str, count: int
) -> None:
    network, features = split(make, at, size)
    assert len(features) == count
    evaluate = make_task(task, make())
    exact = copy.deepcopy(network).double()
    generator = Generator().manual_seed(3)
    draws = all_draws(network, features, evaluate, KD, range(4), 100)
    teacher = exact.finish(tuple(tensor.double() for tensor in features))
    predicted, true = torch.zeros(4), torch.zeros(4, dtype=torch.float64)
    for _ in range(16):
        change = [1e-4 * torch.randn(tensor.shape, generator=generator) for tensor in features]
        along = sum((g * dx).flatten(2).sum(2) for g, dx in zip(draws, change, strict=True))
        predicted += along.square().mean(0) / 2
        for sign in (-0.5, 0.5):  # both ways, so that terms of the third order cancel
            moved = tuple(tensor.double() + 2 * sign * dx for tensor, dx in zip(features, change, strict=True))
            true += 100 * evaluate.distillation(exact.finish(moved), teacher) / 2
    assert float(predicted.sum()) == pytest.approx(float(true.sum()), rel=0.05)
    assert predicted.tolist() == pytest.approx(true.tolist(), rel=0.15)


def test_mse_is_a_multiple_of_the_identity() -> None:
    generator = Generator().manual_seed(0)
    shapes, variances, weights = [(4, 6, 5), (3, 2, 2)], [2.5, 0.3], {"kd": 0.0, "mse": 0.7}
    features = tuple(torch.randn(2, *shape, generator=generator) for shape in shapes)
    change = tuple(torch.randn(2, *shape, generator=generator) for shape in shapes)
    moved = tuple(one + dx for one, dx in zip(features, change, strict=True))
    loss = RateDistortionLoss(Classification(), weights, variances)
    frozen = FrozenBatch(features, torch.zeros(2, 3), torch.zeros(2), 1)
    distortion = loss(1.0, torch.zeros(2), torch.zeros(2, 3), moved, frozen).distortion
    shares = identity_share(weights, variances, shapes)
    expected = sum(share * dx.square().flatten(1).sum(1) / 2 for share, dx in zip(shares, change, strict=True))
    assert torch.allclose(distortion, expected, rtol=1e-5)
    assert identity_share(KD, variances, shapes) == [0.0, 0.0]


def test_an_images_draws_are_the_same_beside_any_others_and_in_any_chunks() -> None:
    network, features = split(TinySegmenter, "top", 64)
    task = Segmentation()
    whole = [*score_draws(network, features, task, KD, range(4), 3)]
    assert [tensor.shape for tensor in whole[0]] == [(3, 4, 16, 16, 16), (3, 4, 32, 8, 8)] and len(whole) == 1
    single = [*score_draws(network, features, task, KD, range(4), 3, memory=1)]
    assert [tensor.shape[1] for tensor, _ in single] == [1, 1, 1, 1]
    fewer = all_draws(network, tuple(tensor[[2, 0]] for tensor in features), task, KD, [2, 0], 2)
    for place, own in enumerate(whole[0]):
        close = {"rtol": 1e-3, "atol": 1e-4 * float(own.abs().max())}
        assert torch.allclose(torch.cat([parts[place] for parts in single], 1), own, **close)
        assert torch.allclose(fewer[place], own[:2, [2, 0]], **close)
        assert not torch.allclose(own[0], own[1], **close)
    other = all_draws(network, features, task, KD, range(1, 5), 3)
    assert not torch.allclose(other[0], whole[0][0], rtol=0.1)


def test_chunks_keep_within_the_memory() -> None:
    network, features = split(Tiny, "body", 32)
    many = (features[0].repeat(32, 1, 1, 1),)

    def sizes(memory: int) -> list[int]:
        return [len(one[0]) for (one,) in score_draws(network, many, Classification(), KD, range(128), 2, memory)]

    assert sizes(1) == [1] * 128 and sizes(2**30) == [128]
    some = sizes(2**20)
    assert sum(some) == 128 and 1 < some[0] < 128
    least = (1 + 2) * many[0][0].nbytes  # of an image: its features and two gradients
    assert some[0] * least <= 2**20
    assert sizes(2**21)[0] in (2 * some[0], 2 * some[0] + 1)


class WithSideOutput(TinySegmenter):
    """Two tensors cross after `top`, one of them for an output that the task does not look at."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        middle = self.body(self.stem(x))
        coarse = self.coarse(self.top(middle))
        return {"out": coarse, "side": self.fine(middle)}


class Deaf(Classification):
    """Asks about nothing."""

    def probe(self, output: Tensor, generators: Any) -> Tensor:
        return torch.zeros(len(output))


def test_what_the_output_does_not_depend_on_gets_zeros() -> None:
    network, features = split(WithSideOutput, "top", 64)
    unused, used = all_draws(network, features, Segmentation(), KD, range(4), 2)
    assert unused.shape == (2, 4, 16, 16, 16) and not unused.any() and used.any()
    network, features = split(Tiny, "body", 32)
    assert not all_draws(network, features, Deaf(), KD, range(4), 2)[0].any()


def test_gradients_are_drawn_where_none_are_wanted_and_leave_no_trace() -> None:
    network, features = split(Tiny, "body", 32)
    before = features[0].clone()
    expected = all_draws(network, features, Classification(), KD, range(4), 2)[0]
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        own = all_draws(network, features, Classification(), KD, range(4), 2)[0]
    assert torch.equal(own, expected) and not own.requires_grad and not features[0].requires_grad
    assert torch.equal(features[0], before) and all(one.grad is None for one in network.parameters())


class Broken(Classification):
    """Has gradients that are no numbers."""

    def probe(self, output: Tensor, generators: Any) -> Tensor:
        return (output * torch.nan).sum(1)


@pytest.mark.parametrize(
    ("task", "value", "message"),
    [
        (Classification(), torch.inf, r"split=body: the features there are not finite"),
        (Broken(), 1.0, r"split=body: the gradients of the output .* are not finite"),
    ],
)
def test_what_is_not_finite_is_told(task: Task, value: float, message: str) -> None:
    network, features = split(Tiny, "body", 32)
    features[0][3, 0, 0, 0] = value
    with pytest.raises(UsageError, match=message):
        all_draws(network, features, task, KD, range(4), 2)


def test_each_image_needs_a_seed() -> None:
    network, features = split(Tiny, "body", 32)
    weights: Mapping[str, float] = KD
    with pytest.raises(ValueError, match="3 seeds for 4 images"):
        next(score_draws(network, features, Classification(), weights, range(3), 2))
