"""The factorized prior: its noise, its grid, its tables, its precision."""

from __future__ import annotations

import math

import pytest
import torch

from bottlenecks.coding.coder import ideal_bits
from bottlenecks.training.seeds import generator_for
from bottlenecks.units.entropy import FactorizedPrior


def prior() -> FactorizedPrior:
    """A prior that has learned something: shifted, narrow densities."""
    torch.manual_seed(0)
    model = FactorizedPrior(4, init_scale=3.0)
    with torch.no_grad():
        model.biases[0].add_(torch.tensor([0.3, -0.2, 0.0, 0.6])[:, None, None])
    model.refresh()
    return model.eval()


def test_training_noise_is_uniform_and_centred() -> None:
    model = prior().train()
    y = torch.zeros(50, 4, 20, 20)
    noise = model(y, generator_for("noise"))[0]
    assert noise.min() >= -0.5 and noise.max() <= 0.5
    assert abs(float(noise.mean())) < 0.01
    assert abs(float(noise.var()) - 1 / 12) < 0.002


def test_the_grid_of_each_channel_has_its_origin_at_the_median() -> None:
    model = prior()
    y = torch.randn(2, 4, 5, 5, generator=generator_for("y")) * 3
    steps = model(y)[0] - model.medians
    assert torch.allclose(steps, steps.round(), atol=1e-5)
    logits = model._logits_cumulative(model.medians, stop_gradient=True)
    assert torch.allclose(logits.sigmoid(), torch.full_like(logits, 0.5), atol=1e-3)


def test_tables_code_at_the_estimated_rate() -> None:
    model = prior()
    y = torch.randn(1, 4, 30, 30, generator=generator_for("y")) * 2
    y_hat, rate_bits = model(y)
    symbols = (y_hat - model.medians).round()[0].to(torch.int32).numpy()
    assert abs(ideal_bits(symbols, model.tables()) / rate_bits.item() - 1) < 0.01


@pytest.mark.parametrize("deviation", [0.3, 1.0, 5.0])
def test_a_start_from_a_sample_costs_what_a_gaussian_does(deviation: float) -> None:
    model = FactorizedPrior(4)
    y = deviation * torch.randn(64, 4, 8, 8, generator=generator_for("y")) + 3
    model.start_from(y)
    with torch.no_grad():
        bits = float(model.train()(y, generator_for("noise"))[1].mean()) / (4 * 8 * 8)
    entropy = 0.5 * math.log2(2 * math.pi * math.e * (deviation**2 + 1 / 12))
    assert entropy - 0.05 < bits < entropy + 0.05
    assert torch.allclose(model.medians, torch.tensor(3.0), atol=0.3 * deviation)


def test_building_tables_leaves_the_state_alone() -> None:
    model = prior()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.tables()
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_the_rate_is_float32_under_autocast() -> None:
    model = prior()
    y = torch.randn(2, 4, 6, 6, generator=generator_for("y"))
    expected = model(y)[1]
    with torch.autocast("cpu", torch.bfloat16):
        rate_bits = model(y)[1]
    assert rate_bits.dtype == torch.float32
    assert torch.equal(rate_bits, expected)


def test_gradient_reaches_the_latent_and_not_the_quantiles() -> None:
    model = prior().train()
    y = torch.randn(2, 4, 3, 3, generator=generator_for("y"), requires_grad=True)
    model(y, generator_for("noise"))[1].sum().backward()
    assert y.grad is not None and y.grad.abs().sum() > 0
    assert model.quantiles.grad is None
