"""Where nonlinear encoders begin."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from bottlenecks.rates.places import Lmbda
from bottlenecks.training import nonlinear
from bottlenecks.training.any_rate import FITTED
from bottlenecks.training.nonlinear import FIRST, Learnt, learn_encoders, with_first, with_layer
from tests.units.transforms import begin

CLASSES = 4


def distil(output: Tensor, teacher: Tensor) -> Tensor:
    return F.kl_div(output.log_softmax(1), teacher.log_softmax(1), reduction="none", log_target=True).sum(1)


def images(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Draw coefficients that are far apart within a class, too, and outputs that tell classes alone."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (count,), generator=generator)
    centres = FIRST * torch.eye(CLASSES, 6) * 2
    y = centres[labels] + torch.randn(count, 6, generator=generator)
    return y, 12 * F.one_hot(labels, CLASSES).float()


def learn(lmbdas: list[Lmbda]) -> list[Learnt]:
    return learn_encoders(images(800, 0), images(200, 1), distil, lmbdas, 1024, 16, 0)


@pytest.fixture(autouse=True)
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nonlinear, "STEPS", 400)


def test_it_sends_the_class_and_little_else() -> None:
    """Six coefficients that deviate by a step or more take some 15 bits."""
    (found,) = learn([0.0003])
    (measured,) = found.measured
    assert measured.distortion < 40 and 1024 * measured.bpp < 12
    assert found.scales.shape == (6,) and float(found.scales.min()) >= 0


@pytest.mark.slow
def test_a_larger_lambda_loses_less() -> None:
    (coarse,), (fine,) = (one.measured for one in learn([0.0003, 0.03]))
    assert fine.distortion < coarse.distortion and fine.bpp > coarse.bpp


@pytest.mark.slow
def test_a_range_gives_what_rates_of_its_own_give() -> None:
    lmbdas = (0.001, 0.003, 0.009)
    alone, (between,) = learn([*lmbdas]), learn([(lmbdas[0], lmbdas[-1])])
    assert len(between.measured) == FITTED and between.measured[0].multiplier == -between.measured[-1].multiplier
    assert all(one.bpp <= two.bpp for one, two in pairwise(between.measured))
    for lmbda, own in zip(lmbdas, alone, strict=True):
        losses = [min(lmbda * one.distortion + one.bpp for one in each.measured) for each in (own, between)]
        assert losses[1] < 1.1 * losses[0]


@pytest.mark.slow
def test_a_rate_learns_what_it_would_alone() -> None:
    ((alone,), (_, beside)) = ([one.measured[0] for one in learn(lmbdas)] for lmbdas in ([0.01], [0.001, 0.01]))
    assert beside.bpp == pytest.approx(alone.bpp, rel=0.1)
    assert beside.distortion == pytest.approx(alone.distortion, rel=0.5, abs=2)


@pytest.mark.slow
def test_a_unit_takes_what_was_learnt() -> None:
    features = torch.randn(64, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    linear = begin([features], "joint", (2, 2))
    y = linear.parts[0].encode(features).detach()
    unit = with_first(linear, y)
    y = unit.parts[0].encode(features).detach().flatten(1)
    assert float(y[:, 0].std()) == pytest.approx(FIRST, rel=1e-4)
    teacher = torch.randn(64, CLASSES, generator=torch.Generator().manual_seed(1))
    (own,) = learn_encoders((y, teacher), (y, teacher), distil, [0.01], 1024, 16, 0)
    bent = with_layer(unit, own, features)
    (part,) = bent.parts
    with torch.no_grad():
        assert torch.allclose(part.encode(features).flatten(1), own.layer(y[:, :, None, None]).flatten(1), atol=1e-4)
    assert part.config()["hidden"] == 16 and part.rounding == 0.5
    bent.finalise()
    assert bent.estimated_bits((features,)).mean() == pytest.approx(1024 * own.measured[0].bpp, rel=0.05)
