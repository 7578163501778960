"""The activation model against quadrature, and against the constants of the papers."""

import math
from itertools import pairwise

import numpy as np
import pytest
from scipy import integrate

from bottlenecks.baselines.lightweight.activations import ActivationModel, shortcut

RESNET50 = (1.1235656, 4.9280124)  # mean and variance of the output of layer 21 in Darknet
YOLOV3 = (0.4484323, 0.5742644)  # of layer 12
MODELS = [
    ActivationModel(lam, mu, kappa, alpha)
    for lam, mu, kappa in [(0.77, -1.4, 0.5), (2.4, 0.3, 0.5), (1.3, 0.0, 1.0), (0.9, 1.1, 1.7)]
    for alpha in (0.0, 0.1, 1.0)
]


def before(model: ActivationModel, x: float) -> float:
    """Density before the activation."""
    rate = -model.lam * model.kappa if x >= model.mu else model.lam / model.kappa
    return model.lam / (model.kappa + 1 / model.kappa) * math.exp(rate * (x - model.mu))


def expectation(model: ActivationModel, function, kinks=()) -> float:
    """Mean of a function of the output, by quadrature over what is before the activation."""

    def integrand(x: float) -> float:
        return function(x if x >= 0 else model.alpha * x) * before(model, x)

    before_kinks = [y / model.alpha if y < 0 and model.alpha > 0 else y for y in kinks]
    ends = sorted({-60 / model.lam, model.mu, 0.0, 60 / model.lam + max(model.mu, 0), *before_kinks})
    pieces = pairwise(ends)
    return sum(integrate.quad(integrand, *piece, epsabs=1e-13, epsrel=1e-12)[0] for piece in pieces)


@pytest.mark.parametrize("model", MODELS, ids=str)
def test_moments_are_those_of_quadrature(model):
    mean = expectation(model, lambda y: y)
    assert model.mean == pytest.approx(mean, abs=1e-9)
    assert model.variance == pytest.approx(expectation(model, lambda y: (y - mean) ** 2), rel=1e-8)


@pytest.mark.parametrize("model", MODELS, ids=str)
def test_density_and_point_mass_are_one_together(model):
    def density(y: float) -> float:
        return float(model.density(y))

    ends = sorted({-70 / model.lam, 0.0, model.mu, model.alpha * model.mu, 70 / model.lam + max(model.mu, 0)})
    mass = sum(integrate.quad(density, *piece)[0] for piece in pairwise(ends))
    assert mass + model.mass_at_zero == pytest.approx(1, abs=1e-8)
    below_zero = expectation(model, lambda y: float(y <= 0)) if model.alpha == 0 else 0
    assert model.mass_at_zero == pytest.approx(below_zero, abs=1e-9)


@pytest.mark.parametrize(("low", "high", "num_levels"), [(0.0, 2.5, 2), (-0.3, 5.0, 5)])
@pytest.mark.parametrize("model", MODELS, ids=str)
def test_error_is_that_of_quadrature(model, low, high, num_levels):
    step = (high - low) / (num_levels - 1)

    def squared_error(y: float) -> float:
        index = math.floor((min(max(y, low), high) - low) / step + 0.5)
        return (y - low - index * step) ** 2

    midpoints = [low + (index + 0.5) * step for index in range(num_levels - 1)]
    expected = expectation(model, squared_error, midpoints)
    assert model.error(low, high, num_levels) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize(
    ("moments", "lam", "mu", "highs"),
    [
        (RESNET50, 0.7716595, -1.4350621, [5.184, 7.511, 9.036, 10.175, 11.084, 11.842, 12.492]),
        (YOLOV3, 2.3899515, -0.3088777, [1.674, 2.425, 2.918, 3.285, 3.579, 3.824, 4.033]),
    ],
)
def test_published_ranges(moments, lam, mu, highs):
    model = ActivationModel.fit(*moments)
    assert (round(model.lam, 7), round(model.mu, 7)) == (lam, mu)
    assert [round(model.best_high(num_levels), 3) for num_levels in range(2, 9)] == highs
    assert [round(shortcut(num_levels) / model.decay, 3) for num_levels in range(2, 9)] == highs


FREE = {
    RESNET50: "0.361 5.544 0.147 7.658 0.053 9.089 0.001 10.176 -0.030 11.054 -0.051 11.792 -0.065 12.427",
    YOLOV3: "0.171 1.844 0.087 2.512 0.047 2.965 0.026 3.311 0.012 3.591 0.003 3.826 -0.004 4.030",
}


@pytest.mark.parametrize("moments", FREE)
def test_ranges_with_both_ends_free(moments):
    model = ActivationModel.fit(*moments)
    found = [end for num_levels in range(2, 9) for end in model.best_range(num_levels)]
    assert " ".join(f"{end:.3f}" for end in found) == FREE[moments]


def test_constants_of_the_shortcut():
    num_levels = [2, 3, 4, 5, 6, 7, 8, 12, 16, 32, 64, 256]
    constants = [2, 2.8978, 3.4864, 3.9257, 4.2767, 4.5691, 4.8199, 5.5712, 6.0980, 7.3586, 8.6178, 11.1555]
    assert [round(shortcut(number), 4) for number in num_levels] == constants


@pytest.mark.parametrize("num_levels", [2, 3, 5, 8])
def test_relu_needs_two_moments_alone(num_levels):
    model = ActivationModel.fit(0.5, 1.0, alpha=0)
    assert model.mu < 0
    expected = shortcut(num_levels) * (model.variance + model.mean**2) / (2 * model.mean)
    assert model.best_high(num_levels) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("num_levels", [2, 3, 8])
@pytest.mark.parametrize("model", MODELS[:3] + MODELS[-3:], ids=str)
def test_best_high_is_the_lowest_of_a_dense_grid(model, num_levels):
    highs = np.linspace(0.1, 25, 100)
    lowest = min(model.error(0.0, high, num_levels) for high in highs)
    assert model.error(0.0, model.best_high(num_levels), num_levels) <= lowest


@pytest.mark.parametrize("num_levels", [2, 3, 4, 8])
def test_best_range_of_signed_features_is_the_lowest_of_a_dense_grid(num_levels):
    model = ActivationModel.fit(0.2, 1.5, alpha=1, kappa=1)
    grid = [(low, high) for low in np.linspace(-5, 0, 16) for high in np.linspace(0.1, 5, 16)]
    lowest = min(model.error(low, high, num_levels) for low, high in grid)
    assert model.error(*model.best_range(num_levels), num_levels) <= lowest


@pytest.mark.parametrize("alpha", [0, 0.01, 0.1, 1])
@pytest.mark.parametrize("kappa", [0.5, 1, 2])
@pytest.mark.parametrize("mean", [-30, -1, 0, 0.002, 0.3, 3, 1e4])
def test_fit_has_the_moments(mean, kappa, alpha):
    if alpha == 0 and mean <= 0:
        with pytest.raises(ValueError, match=f"mean must be above 0 where alpha is 0, got {mean}"):
            ActivationModel.fit(mean, 4.0, alpha, kappa)
        return
    model = ActivationModel.fit(mean, 4.0, alpha, kappa)
    assert (model.mean, model.variance) == pytest.approx((mean, 4.0), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ActivationModel(0.0, 0.0), "lam must be finite and above 0, got 0.0"),
        (lambda: ActivationModel(1.0, 0.0, kappa=math.inf), "kappa must be finite and above 0, got inf"),
        (lambda: ActivationModel(1.0, math.nan), "mu must be finite, got nan"),
        (lambda: ActivationModel(1.0, 0.0, alpha=-0.1), "alpha must lie in 0..1, got -0.1"),
        (lambda: ActivationModel.fit(1.0, 0.0), "variance above 0 and finite, got 1.0 and 0.0"),
        (lambda: ActivationModel.fit(math.nan, 1.0), "mean must be finite"),
        (lambda: ActivationModel.fit(1e9, 1e-9), "no fit with alpha=0.1, kappa=0.5 to mean 1000000000.0 and variance"),
        (lambda: MODELS[0].error(0.0, 1.0, 1), "num_levels must be 2 or more and low below high, got 1"),
        (lambda: MODELS[0].error(1.0, 1.0, 2), "num_levels must be 2 or more and low below high, got 2, 1.0 and 1.0"),
        (lambda: MODELS[0].best_high(1), "num_levels must be 2 or more, got 1"),
        (lambda: MODELS[0].best_high(2, low=math.nan), "low must be finite, got nan"),
        (lambda: shortcut(1), "num_levels must be 2 or more, got 1"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
