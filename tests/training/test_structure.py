"""Structure and step by measurement: on images that a candidate was not fitted to, and by the loss itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from bottlenecks.training.seeds import generator_for
from bottlenecks.training.structure import (
    EVALUATED,
    FOLDS,
    Candidate,
    Distort,
    Fit,
    Trial,
    encode,
    fold_images,
    high_rate_step,
    set_step,
    try_candidates,
)
from tests.units.transforms import samples_of

SHAPES = ((4, 6, 6), (3, 4, 4))
CANDIDATE = Candidate("separable", (4, 3), ((3, 3), (4, 4)), 0.45)


@pytest.mark.parametrize("count", [2, 7, 100, 2 * EVALUATED - 1])
def test_few_images_are_all_measured_once_by_what_was_fitted_to_the_others(count: int) -> None:
    folds = fold_images(count)
    assert len(folds) == min(FOLDS, count)
    assert sorted(index for _, measured in folds for index in measured.tolist()) == [*range(count)]
    for fitted, measured in folds:
        assert sorted([*fitted.tolist(), *measured.tolist()]) == [*range(count)]


def test_of_many_images_some_are_measured() -> None:
    ((fitted, measured),) = fold_images(2 * EVALUATED + 88)
    assert len(measured) == EVALUATED
    assert torch.equal(torch.cat([fitted, measured]), torch.arange(2 * EVALUATED + 88))


def test_one_image_is_fitted_and_measured() -> None:
    ((fitted, measured),) = fold_images(1)
    assert fitted.tolist() == measured.tolist() == [0]


def features_of(count: int = 20) -> list[Tensor]:
    return [3 * torch.randn(count, *shape, generator=generator_for("features", *shape)) for shape in SHAPES]


def squared_error(features: Sequence[Tensor]) -> Distort:
    def distort(features_hat: Sequence[Tensor], images: Tensor) -> Tensor:
        pairs = zip(features_hat, features, strict=True)
        return sum((hat - own[images]).square().mean((1, 2, 3)) for hat, own in pairs)  # type: ignore[return-value]

    return distort


def trial_of(features: Sequence[Tensor], seen: Sequence[Tensor]) -> Trial:
    """Measure on what is seen of the images by squared error."""
    return try_candidates([CANDIDATE], samples_of(features), seen, [False, False], squared_error(seen), 500, 4)[0]


def test_a_trial_measures_what_units_fitted_to_the_other_images_really_do() -> None:
    features = features_of()
    seen = [own + 0.5 for own in features]  # a view of each image
    trial, samples = trial_of(features, seen), samples_of(features)
    found = trial.measure(3)
    distortion, bits = 0.0, 0.0
    for fitted, measured in fold_images(20):
        fit = Fit([sample.select(fitted) for sample in samples], 4)
        unit, own = fit.unit(CANDIDATE, [False, False], [0, 0]), [one[fitted] for one in features]
        set_step(unit, own, encode(unit, own), 2**1.5)
        held = tuple(one[measured] for one in seen)
        with torch.no_grad():
            output = unit(held)
        distortion += sum(float((a - b).square().mean((1, 2, 3)).sum()) for a, b in zip(output[0], held, strict=True))
        bits += float(output.rate_bits.sum())
    assert found == pytest.approx((distortion / 20, bits / 20 / 500), rel=1e-4)
    assert found[1] > 0.1
    assert trial.loss(0.5, 3) == pytest.approx(0.5 * found[0] + found[1])


def test_finer_steps_cost_more_and_lose_less() -> None:
    trial = trial_of(features_of(), features_of())
    measured = [trial.measure(place) for place in (6, 3, 0, -3)]
    assert all(one[0] > two[0] and one[1] < two[1] for one, two in pairwise(measured))


def ideal(count: int, lost: float = 1.0) -> Trial:
    """A source of so many coefficients at high rates: a step costs its square, and halving it a bit each."""

    class Ideal(Trial):
        def measure(self, place: int) -> tuple[float, float]:
            step = 2.0 ** (place / 2)
            self.measured[place] = (
                lost * count * step**2 / 24,
                count * max(0.0, 9 - math.log2(step)) / self.num_pixels,
            )
            return self.measured[place]

    return Ideal(CANDIDATE, [], lambda hat, images: images, 1000)


@pytest.mark.parametrize("lmbda", [1e-4, 0.003, 0.01, 0.3, 10.0])
def test_the_search_finds_the_step_that_theory_gives(lmbda: float) -> None:
    place, loss = ideal(50).best(lmbda)
    assert place == pytest.approx(2 * math.log2(high_rate_step(lmbda, 1000)), abs=0.15)
    fine = min(lmbda * 50 * 2**at / 24 + 0.05 * (9 - at / 2) for at in (place + shift / 10 for shift in range(-30, 31)))
    assert fine <= loss <= 1.02 * fine


def test_the_search_goes_on_from_what_was_measured_and_finds_the_same() -> None:
    fresh, used = ideal(50), ideal(50)
    for lmbda in (10.0, 1e-4, 0.3):
        used.best(lmbda)
    assert used.best(0.01)[0] == pytest.approx(fresh.best(0.01)[0], abs=0.01)


def test_what_is_no_number_is_no_choice_and_ends_the_search() -> None:
    trial = ideal(50, lost=math.nan)
    place, loss = trial.best(0.01)
    assert math.isfinite(place) and loss == math.inf


def test_a_candidate_is_named_in_words() -> None:
    assert str(CANDIDATE) == "separable, 4 and 3 channels, blocks of 3x3 and 4x4, rounding 0.45"
