"""The restoring network: nothing at first, then what training makes of it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bottlenecks.training.seeds import generator_for
from bottlenecks.units.laplacian import PARTS, RATIO
from bottlenecks.units.restorer import FEW_CHANNELS, Restorer
from bottlenecks.units.transform_part import TransformPart


@pytest.mark.parametrize("channels", [FEW_CHANNELS, FEW_CHANNELS + 1])
def test_it_begins_as_nothing_and_learns_at_once(channels: int) -> None:
    restorer = Restorer(channels, 8)
    features = torch.randn(2, channels, 5, 3, generator=generator_for("features"))
    assert torch.equal(restorer(features), features)
    (restorer(features) - 2 * features).square().sum().backward()
    assert restorer.narrow.weight.grad is not None and restorer.narrow.weight.grad.abs().max() > 0
    torch.nn.init.normal_(restorer.narrow.weight)
    assert restorer(features).shape == features.shape and not torch.allclose(restorer(features), features)


def test_few_channels_see_their_neighbours_and_many_are_cheap() -> None:
    assert Restorer(FEW_CHANNELS, 8).widen.kernel_size == (3, 3) == Restorer(FEW_CHANNELS, 8).narrow.kernel_size
    assert Restorer(FEW_CHANNELS + 1, 8).widen.kernel_size == (1, 1) == Restorer(FEW_CHANNELS + 1, 8).narrow.kernel_size


def test_it_sees_features_of_mean_0_and_deviation_1_and_gives_them_back_in_their_own_scale() -> None:
    """Other units of the features change nothing but the units of what comes out."""
    torch.manual_seed(0)
    plain, scaled = Restorer(3, 8), Restorer(3, 8)
    torch.nn.init.normal_(plain.narrow.weight)
    scaled.load_state_dict(plain.state_dict())
    mean, deviation = torch.tensor([5.0, -40.0, 0.0]), torch.tensor([100.0, 1e-3, 0.0])
    scaled.normalise(mean, deviation)
    assert scaled.deviation.tolist() == pytest.approx([100.0, 1e-3, 1.0])  # a constant channel counts as one of 1
    features = torch.randn(2, 3, 4, 4)
    restored = scaled(features * scaled.deviation[:, None, None] + mean[:, None, None])
    back = (restored - mean[:, None, None]) / scaled.deviation[:, None, None]
    assert torch.allclose(back, plain(features), atol=2e-2)


def test_it_knows_the_steps_where_it_is_told() -> None:
    torch.manual_seed(0)
    restorer, features = Restorer(4, 6, tuned=True), torch.randn(3, 4, 5, 5)
    nn.init.normal_(restorer.narrow.weight)
    none, coarse, fine = (restorer(features, multiplier) - features for multiplier in (0, -40, 40))
    factor = RATIO ** (40 / PARTS)  # of the steps
    assert torch.allclose(coarse, factor * none, rtol=1e-2) and torch.allclose(factor * fine, none, rtol=1e-2)
    every = restorer(features, torch.tensor([0, -40, 40])) - features
    assert torch.allclose(every[1], coarse[1], atol=1e-6) and torch.allclose(every[2], fine[2], atol=1e-6)


def test_without_being_told_it_has_what_it_had() -> None:
    assert not [name for name in Restorer(4, 6).state_dict() if "tuning" in name]
    assert "tuned" not in TransformPart((4, 5, 5), "separable", 4, (5, 5), 6, False, 0.5, ranged=True).config()
