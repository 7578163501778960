"""What distortion costs in training: of one rate, and of each multiplier of a range."""

from __future__ import annotations

import pytest
import torch

from bottlenecks.coding.rate_range import RateRange
from bottlenecks.training.any_rate import Measured
from bottlenecks.training.prices import OnePrice, RangePrices, prices_of
from bottlenecks.units import TransformUnit

RATES = RateRange((-40.0, 0.0, 40.0), (0.001, 0.01, 0.1))
START = [Measured(-50, 9.0, 0.1), Measured(0, 3.0, 0.2), Measured(50, 1.0, 0.4)]
PART = {
    "feature_shape": [4, 4, 4],
    "structure": "separable",
    "rank": 4,
    "block": [4, 4],
    "restorer": 0,
    "nonnegative": False,
    "rounding": 0.5,
}


def test_a_unit_of_one_rate_pays_its_lambda() -> None:
    prices = prices_of(TransformUnit([PART]), 0.01)
    drawn = prices.draw(8, torch.Generator().manual_seed(0), torch.device("cpu"))
    assert isinstance(prices, OnePrice) and prices.evaluated() == [drawn] == [(0.01, 1.0, 0)]


def test_each_image_pays_the_lambda_of_its_multiplier() -> None:
    prices = prices_of(TransformUnit([PART], RATES.to_dict()), (0.001, 0.1), START)
    lmbda, weight, multiplier = prices.draw(5000, torch.Generator().manual_seed(0), torch.device("cpu"))
    assert isinstance(multiplier, torch.Tensor) and isinstance(lmbda, torch.Tensor) and isinstance(weight, torch.Tensor)
    assert (int(multiplier.min()), int(multiplier.max())) == (-40, 40) and multiplier.unique().numel() == 81
    assert torch.allclose(lmbda.double(), 0.01 * 10 ** (multiplier.double() / 40), rtol=1e-5)
    assert (weight[multiplier == 0] == 1).all()


def test_a_share_of_the_start_s_loss_is_worth_the_same_at_all_rates() -> None:
    prices = RangePrices(RATES, [Measured(at, 300 / (40 + at + 10), 0.01 * (at + 50)) for at in range(-40, 41, 20)])
    losses = [
        one.weight * (one.lmbda * 300 / (one.multiplier + 50) + 0.01 * (one.multiplier + 50))
        for one in prices.evaluated()
    ]
    assert [one.multiplier for one in prices.evaluated()] == [-40, 0, 40]
    assert [one.lmbda for one in prices.evaluated()] == pytest.approx([0.001, 0.01, 0.1])
    assert losses == pytest.approx([losses[1]] * 3) and prices.evaluated()[1].weight == pytest.approx(1)
