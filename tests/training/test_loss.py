"""The loss against independent oracles, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.distributions import Categorical, kl_divergence

from bottlenecks.errors import UsageError
from bottlenecks.tasks import Classification
from bottlenecks.training.frozen import FrozenBatch
from bottlenecks.training.loss import RateDistortionLoss


@pytest.fixture
def batch() -> dict[str, Any]:
    torch.manual_seed(0)
    return {
        "rate_bits": torch.tensor([64.0, 128.0, 0.0]),
        "output": torch.randn(3, 5),
        "features_hat": (torch.randn(3, 2, 4, 4),),
        "frozen": FrozenBatch((torch.randn(3, 2, 4, 4),), torch.randn(3, 5), torch.tensor([0, 4, 2]), 32 * 32),
    }


def test_kd_is_the_divergence_in_percent_nats(batch: dict[str, Any]) -> None:
    parts = RateDistortionLoss(Classification(), {"kd": 1.0})(0.01, **batch).parts
    expected = kl_divergence(Categorical(logits=batch["frozen"].teacher), Categorical(logits=batch["output"]))
    assert torch.allclose(parts["kd"], 100 * expected, atol=1e-4)


def test_ce_is_the_negative_log_probability_in_percent_nats(batch: dict[str, Any]) -> None:
    parts = RateDistortionLoss(Classification(), {"ce": 1.0})(0.01, **batch).parts
    expected = -Categorical(logits=batch["output"]).log_prob(batch["frozen"].targets)
    assert torch.allclose(parts["ce"], 100 * expected, atol=1e-4)


def test_mse_is_the_lost_share_of_the_variance(batch: dict[str, Any]) -> None:
    parts = RateDistortionLoss(Classification(), {"mse": 1.0}, variances=[4.0])(0.01, **batch).parts
    error = (batch["features_hat"][0] - batch["frozen"].features[0]).numpy() ** 2
    assert parts["mse"].numpy() == pytest.approx(100 * error.reshape(3, -1).mean(1) / 4.0)


def test_loss_is_lambda_times_distortion_plus_bits_per_input_pixel(batch: dict[str, Any]) -> None:
    weights = {"kd": 1.0, "ce": 0.5, "mse": 0.25}
    result = RateDistortionLoss(Classification(), weights, [2.0])(0.03, **batch)
    assert set(result.parts) == set(weights)
    distortion = sum(weight * result.parts[name] for name, weight in weights.items())
    assert torch.allclose(result.distortion, distortion)
    assert result.bpp.tolist() == [64 / 1024, 128 / 1024, 0.0]
    assert torch.allclose(result.loss, 0.03 * distortion + result.bpp)


def test_labels_are_not_looked_at_without_ce(batch: dict[str, Any]) -> None:
    batch["frozen"] = batch["frozen"]._replace(targets=torch.full((3,), -1))
    result = RateDistortionLoss(Classification(), {"kd": 1.0, "ce": 0.0})(0.01, **batch)
    assert result.loss.isfinite().all() and set(result.parts) == {"kd"}


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"kd": 0.0}, "every weight is 0"),
        ({"kd": -1.0}, r"loss.kd=-1.0: expected a number of at least 0"),
        ({"kl": 1.0}, "loss.kl: no such distortion; there are kd, ce, mse"),
    ],
)
def test_bad_weights_are_named(weights: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        RateDistortionLoss(Classification(), weights)
