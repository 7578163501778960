"""Uniform quantisers against their formula, designed ones against dense grids and the conditions of an optimum."""

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bottlenecks.baselines.lightweight.quantiser import Quantiser, design, uniform

QUICK = settings(derandomize=True, max_examples=80, deadline=None)
LMBDAS = [0.0, 0.05, 0.3]


def draw_activations(count: int, seed: int = 0) -> np.ndarray:
    """Outputs of a leaky ReLU, as a model of ResNet-50's layer 21 has them."""
    rng, lam, mu, kappa, alpha = np.random.default_rng(seed), 0.7716595, -1.4350621, 0.5, 0.1
    x = mu + rng.exponential(1 / (lam * kappa), count) - rng.exponential(kappa / lam, count)
    return np.where(x < 0, alpha * x, x).astype(np.float32)


def code_lengths(shares: np.ndarray, rate: str) -> np.ndarray:
    if rate == "unary":
        return np.minimum(np.arange(len(shares)) + 1.0, len(shares) - 1)
    return -np.log2(np.maximum(shares, 1e-300))


def cost(quantiser: Quantiser, clipped: np.ndarray, lmbda: float, rate: str) -> float:
    """Mean of (x - r)^2 + lmbda b, with the shares that the quantiser really has."""
    indices = quantiser.indices(clipped)
    shares = np.bincount(indices, minlength=quantiser.num_levels) / len(clipped)
    error = (clipped.astype(np.float64) - quantiser.values(indices)) ** 2
    return float(error.mean() + lmbda * (shares * code_lengths(shares, rate)).sum())


def lowest_cost(clipped: np.ndarray, num_levels: int, lmbda: float, pinned: bool, rate: str) -> float:
    """Least cost over thresholds on a dense grid; for given cells the best free level is their mean."""
    ordered = np.sort(clipped.astype(np.float64))
    lowest = math.inf
    for cuts in combinations(np.arange(0, len(ordered) + 1, len(ordered) // 50), num_levels - 1):
        cells = np.split(ordered, cuts)
        shares = np.array([len(cell) for cell in cells]) / len(ordered)
        levels = [cell.mean() if len(cell) else 0.0 for cell in cells]
        if pinned:
            levels[0], levels[-1] = ordered[0], ordered[-1]
        errors = sum(((cell - level) ** 2).sum() for cell, level in zip(cells, levels, strict=True))
        lowest = min(lowest, errors / len(ordered) + lmbda * (shares * code_lengths(shares, rate)).sum())
    return lowest


@pytest.mark.parametrize(("low", "high"), [(0.0, 4.0), (-1.5, 0.7), (0.1, 752.3)])
@pytest.mark.parametrize("num_levels", [2, 3, 5, 8, 256])
def test_uniform_is_the_formula_of_the_papers(num_levels, low, high):
    quantiser = uniform(num_levels, low, high)
    x = np.random.default_rng(0).uniform(2 * low - high, 2 * high - low, 20000).astype(np.float32)
    position = (np.clip(x.astype(np.float64), low, high) - low) / (high - low) * (num_levels - 1)
    clear = np.abs(position % 1 - 0.5) > 1e-4
    indices = np.floor(position + 0.5).astype(int)
    assert clear.mean() > 0.9
    assert np.array_equal(quantiser.indices(x)[clear], indices[clear])
    expected = low + indices * (high - low) / (num_levels - 1)
    np.testing.assert_allclose(quantiser.values(indices), expected, rtol=1e-6, atol=1e-6)


def test_ends_are_levels_and_ties_go_up():
    quantiser = uniform(5, 0.0, 4.0)
    ties = np.array([[-9.0, 0.5, 1.5], [2.5, 3.5, 99.0]], dtype=np.float32)
    assert quantiser.indices(ties).tolist() == [[0, 1, 2], [3, 4, 4]]
    assert quantiser.values(quantiser.indices(ties)).tolist() == [[0, 1, 2], [3, 4, 4]]
    high = float(np.float32(0.3))
    assert uniform(7, 0.1, high).levels[[0, -1]].tolist() == [np.float32(0.1), high]


def test_a_quantiser_keeps_its_own_read_only_arrays():
    levels = np.array([0.0, 1.0], dtype=np.float32)
    quantiser = Quantiser(levels, np.array([0.5]))
    levels[0] = 9
    assert quantiser.levels.tolist() == [0, 1]
    assert quantiser.thresholds.dtype == np.float32
    with pytest.raises(ValueError, match="read-only"):
        quantiser.levels[0] = 9


@pytest.mark.parametrize("rate", ["entropy", "unary"])
@pytest.mark.parametrize("pinned", [True, False])
@pytest.mark.parametrize("num_levels", [2, 3])
@pytest.mark.parametrize("lmbda", LMBDAS)
def test_design_costs_what_the_best_of_a_dense_grid_costs(lmbda, num_levels, pinned, rate):
    samples = np.clip(draw_activations(3000), 0, 5).astype(np.float32)
    assert (samples.min(), samples.max()) == (0, 5)
    designed = cost(design(samples, num_levels, lmbda, 0, 5, pinned, rate), samples, lmbda, rate)
    lowest = lowest_cost(samples, num_levels, lmbda, pinned, rate)
    assert 0.98 * lowest < designed < 1.01 * lowest


@pytest.mark.parametrize("rate", ["entropy", "unary"])
@pytest.mark.parametrize("pinned", [True, False])
@pytest.mark.parametrize("num_levels", [2, 4, 8])
@pytest.mark.parametrize("lmbda", LMBDAS)
def test_no_turn_raises_the_cost(lmbda, num_levels, pinned, rate):
    samples = np.clip(draw_activations(20000), 0, 9).astype(np.float32)
    costs = [
        cost(design(samples, num_levels, lmbda, 0, 9, pinned, rate, max_steps=steps), samples, lmbda, rate)
        for steps in range(7)
    ]
    assert num_levels == 2 or costs[-1] < costs[0]  # of two uniform levels, the threshold can be best at once
    assert (np.diff(costs) <= 1e-6 * costs[0]).all()


@pytest.mark.parametrize("pinned", [True, False])
@pytest.mark.parametrize("num_levels", [2, 4, 8])
@pytest.mark.parametrize("lmbda", LMBDAS)
def test_each_element_has_the_index_that_costs_least(lmbda, num_levels, pinned):
    clipped = np.clip(draw_activations(20000), 0, 9)
    quantiser = design(clipped, num_levels, lmbda, 0, 9, pinned)
    indices = quantiser.indices(clipped)
    lengths = code_lengths(np.bincount(indices, minlength=quantiser.num_levels) / len(clipped), "entropy")
    costs = (clipped[:, None].astype(np.float64) - quantiser.levels) ** 2 + lmbda * lengths
    assert (costs.argmin(1) == indices).mean() > 0.995
    means = np.array([clipped[indices == index].mean() for index in range(quantiser.num_levels)])
    free = slice(1, -1) if pinned else slice(None)
    assert quantiser.levels[free] == pytest.approx(means[free], abs=0.02)


@pytest.mark.parametrize("num_levels", [2, 4, 8])
def test_only_pinned_ends_stay(num_levels):
    samples = draw_activations(20000)
    assert design(samples, num_levels, 0.02, 0, 9, pinned=True).levels[[0, -1]].tolist() == [0, 9]
    free = design(samples, num_levels, 0.02, 0, 9, pinned=False).levels
    assert 0 < free[0] < free[-1] < 9


def test_pinning_helps_against_what_was_not_clipped():
    samples = draw_activations(1_000_000)
    clipped = np.clip(samples, 0, 9.036)
    quantisers = [uniform(4, 0, 9.036), *(design(samples, 4, 0, 0, 9.036, pinned) for pinned in (True, False))]
    reconstructed = [quantiser.values(quantiser.indices(samples)) for quantiser in quantisers]
    errors = [float(np.mean((samples - values) ** 2, dtype=np.float64)) for values in reconstructed]
    errors_clipped = [float(np.mean((clipped - values) ** 2, dtype=np.float64)) for values in reconstructed[1:]]
    assert errors == pytest.approx([0.539, 0.464, 0.531], abs=0.02)
    assert np.subtract(errors[::2], errors[1]) == pytest.approx([0.075, 0.067], abs=0.003)
    assert errors_clipped == pytest.approx([0.250, 0.215], abs=0.002)


def test_more_lambda_gives_fewer_bits_and_more_distortion():
    samples = np.clip(draw_activations(50000), 0, 9)
    points = []
    for lmbda in (0.0, 0.03, 0.1, 0.3, 1.0):
        quantiser = design(samples, 8, lmbda, 0, 9)
        rate = cost(quantiser, samples, 1.0, "entropy") - cost(quantiser, samples, 0.0, "entropy")
        points.append((-rate, cost(quantiser, samples, 0.0, "entropy")))
    assert (np.diff(points, axis=0) > 0).all()


def test_an_overwhelming_lambda_leaves_one_index():
    samples = draw_activations(5000)
    quantiser = design(samples, 4, 1e4, 0, 9)
    assert quantiser.levels.tolist() == [0, 9]
    assert set(quantiser.indices(samples).tolist()) == {0}


def test_elements_beyond_an_end_have_the_index_of_the_end():
    samples = np.array([1.0] + [0.0] + [1.2] * 60 + [2.0] * 60, dtype=np.float32)
    quantiser = design(samples, 4, 0.5, 0, 2)
    ends = quantiser.indices(np.array([0, 2], dtype=np.float32))
    assert quantiser.indices(np.array([-1e30, 1e30], dtype=np.float32)).tolist() == ends.tolist()
    assert ends[0] == 1  # the lowest level is too rare to be worth its bits


@QUICK
@given(
    st.lists(st.floats(-3, 3, width=32) | st.sampled_from([0.0, 1.0, 1.0000001]), min_size=1, max_size=30),
    st.integers(2, 9),
    st.sampled_from([0.0, 0.01, 0.3, 10.0, 1e30]),
    st.sampled_from([(0.0, 1.0), (-1.0, 2.5), (0.9999999, 1.0000005)]),
    st.booleans(),
    st.sampled_from(["entropy", "unary"]),
)
def test_any_samples_have_a_quantiser(samples, num_levels, lmbda, ends, pinned, rate):
    low, high = map(np.float32, ends)
    if (high - low) / np.spacing(high) < num_levels:
        num_levels = 2
    quantiser = design(np.array(samples, dtype=np.float32), num_levels, lmbda, low, high, pinned, rate)
    assert 2 <= quantiser.num_levels <= num_levels
    assert low <= quantiser.levels[0] < quantiser.levels[-1] <= high


ONE = np.ones(1, dtype=np.float32)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: design(ONE[:0], 4, 0, 0, 1), r"samples must be finite and not empty, got shape \(0,\)"),
        (lambda: design(ONE * np.nan, 4, 0, 0, 1), "samples must be finite and not empty"),
        (lambda: design(ONE, 4, 0, 1, 1), "low must be below high, both finite in float32, got 1 and 1"),
        (lambda: design(ONE, 4, 0, 0, math.nan), "low must be below high, both finite in float32, got 0 and nan"),
        (lambda: design(ONE, 1, 0, 0, 1), r"num_levels must lie in 2..256, got 1"),
        (lambda: design(ONE, 4, -0.1, 0, 1), "lmbda must be 0 or more and finite, got -0.1"),
        (lambda: design(ONE, 4, math.nan, 0, 1), "lmbda must be 0 or more and finite, got nan"),
        (lambda: design(ONE, 4, 0, 0, 1, rate="golomb"), "rate must be one of entropy, unary, got 'golomb'"),
        (lambda: uniform(257, 0, 1), r"num_levels must lie in 2..256, got 257"),
        (lambda: uniform(2, 1, 1 + 1e-9), "low must be below high"),
        (lambda: uniform(256, 1, 1.0001 - 9.9e-5), "must ascend in float32"),
        (lambda: Quantiser(ONE, ONE[:0]), "2 to 256 levels and one threshold fewer, got 1 and 0"),
        (lambda: Quantiser(np.arange(3), ONE), "2 to 256 levels and one threshold fewer, got 3 and 1"),
        (lambda: Quantiser(np.ones((2, 2)), ONE), r"levels must be 1-D, got shape \(2, 2\)"),
        (lambda: Quantiser(np.array([0, math.inf]), ONE), "levels must be finite"),
        (lambda: Quantiser(np.array([0, 1]), ONE * np.nan), "thresholds numbers"),
        (lambda: Quantiser(np.array([1, 0]), ONE), "levels and thresholds must ascend"),
        (lambda: Quantiser(np.arange(3), np.array([1, 0])), "levels and thresholds must ascend"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
