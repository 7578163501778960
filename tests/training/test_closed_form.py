"""The closed form against what theory says of a Gaussian source behind a linear tail, and its parts against oracles."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from bottlenecks.training.closed_form import (
    FLOOR,
    GAIN_PRIOR,
    POWER,
    RIDGE,
    Sample,
    channel_transform,
    fit_decoder,
    fit_scales,
    fit_separable,
    joint_projections,
)
from bottlenecks.training.seeds import generator_for
from bottlenecks.training.structure import Candidate, Fit, encode, set_step
from bottlenecks.units.laplacian import NUM_TABLES, PARTS, code_bits
from bottlenecks.units.transform_part import TransformPart

NUM = 8  # dimensions of the source
LISTENS = torch.logspace(0.5, -0.5, NUM)  # singular values of the tail


def tail() -> Tensor:
    """A linear tail (NUM, NUM) that listens to some directions ten times as much as to others."""
    rotation, _ = torch.linalg.qr(torch.randn(NUM, NUM, generator=generator_for("tail")))
    return LISTENS[:, None] * rotation


def source(count: int = 6000, seed: int = 0) -> Tensor:
    """Correlated Gaussian features (N, NUM, 1, 1)."""
    mix = torch.randn(NUM, NUM, generator=generator_for("mix"))
    drawn = torch.randn(count, NUM, generator=generator_for(seed, "source"))
    return (drawn @ mix.T + 3)[:, :, None, None]


def listening(features: Tensor) -> Sample:
    """Draws whose second moment is the Hessian of the tail's squared error."""
    noise = torch.randn(2, len(features), NUM, generator=generator_for("noise"))
    return Sample(features, (math.sqrt(2) * noise @ tail())[..., None, None], 0.0)


def deaf(features: Tensor) -> Sample:
    """No draws: all features count alike."""
    return Sample(features, 0 * features[None, :1], 1.0)


def bits_at_error(structure: str, sample: Sample, wanted: float) -> float:
    """Code fresh features in steps as fine as it takes for this squared error behind the tail; give bits each."""
    fit, evaluated = Fit([sample], NUM), source(seed=1)

    def look(exponent: float) -> tuple[float, float]:
        unit = fit.unit(Candidate(structure, (NUM,), ((1, 1),)), [False], [0])
        set_step(unit, [sample.features], encode(unit, [sample.features]), 2.0**exponent)
        with torch.no_grad():
            output = unit((evaluated,))
        error = ((output.features_hat[0] - evaluated)[:, :, 0, 0] @ tail().T).square().sum(1).mean()
        return float(error), float(output.rate_bits.mean())

    low, high = -8.0, 6.0
    for _ in range(14):
        middle = (low + high) / 2
        low, high = (low, middle) if look(middle)[0] > wanted else (middle, high)
    return look(low)[1]


@pytest.mark.parametrize(
    ("structure", "floor"), [("separable", FLOOR), pytest.param("joint", 0.0, marks=pytest.mark.slow)]
)
def test_the_gain_over_a_plain_transform_is_what_theory_says(structure: str, floor: float) -> None:
    """At high rates a dimension gains half the logarithm of arithmetic over geometric mean of M's eigenvalues.

    Where they have a floor in the transform, and not in the tail, that costs a little.
    """
    heard = LISTENS.square()
    taken = heard + floor * heard.mean()
    theory = 0.5 * NUM * float(heard.mean().log2() - taken.log2().mean() - (heard / taken).mean().log2())
    wanted = 1e-3 * float(((source() - source().mean(0))[:, :, 0, 0] @ tail().T).square().sum(1).mean())
    plain = bits_at_error("separable", deaf(source()), wanted)
    found = bits_at_error(structure, listening(source()), wanted)
    assert theory > 4
    assert plain - found == pytest.approx(theory, rel=0.1)


def test_the_channel_transform_whitens_the_metric_and_then_decorrelates() -> None:
    features = torch.cat([source(), torch.full((6000, 1, 1, 1), 1000.7)], 1)
    draws = torch.cat([listening(source()).draws, torch.randn(2, 6000, 1, 1, 1, generator=generator_for("last"))], 2)
    found = channel_transform(Sample(features, draws, 0.0))
    analysis, synthesis = found.analysis[:NUM, :NUM], found.synthesis[:NUM, :NUM]
    assert torch.allclose(analysis @ synthesis, torch.eye(NUM, dtype=torch.float64), atol=1e-8)
    assert not found.analysis[:, NUM].any() and not found.synthesis[NUM].any()  # a constant channel is its mean
    assert found.mean.tolist() == pytest.approx(features.double().mean((0, 2, 3)).tolist())
    rows = draws[..., 0, 0].flatten(0, 1).double()
    moment = rows.T @ rows / len(rows)
    metric = moment[:NUM, :NUM] + FLOOR * moment.diagonal().mean() * torch.eye(NUM)
    assert torch.allclose(synthesis.T @ metric @ synthesis, torch.eye(NUM, dtype=torch.float64), atol=1e-6)
    seen = (features[:, :NUM, 0, 0].double() - found.mean[:NUM]) @ analysis.T
    spread = seen.T @ seen / len(seen)
    assert torch.allclose(spread, spread.diagonal().diag(), atol=1e-4 * float(spread.diagonal().max()))
    assert (spread.diagonal().diff() < 0).all()


def test_joint_directions_are_those_of_the_whitened_features() -> None:
    """Where all draws are taken, projections are the channel transform's, up to sign and the metric's floor."""
    sample = listening(source(1500))
    found = joint_projections(sample, 3000, NUM).encoder.flatten(1)
    channels = channel_transform(sample).analysis.float()
    product = (found @ torch.linalg.inv(channels)).abs()
    assert torch.allclose(product[:4, :4], torch.eye(4), atol=0.1)


def test_where_squared_error_dominates_the_directions_are_the_features_own() -> None:
    features = source()
    found = joint_projections(Sample(features, 1e-3 * listening(features).draws, 2.0), 3000, 3).encoder.flatten(1)
    rows = features[:3000].flatten(1)  # as many as draws are taken
    _, _, basis = torch.linalg.svd(rows - features.flatten(1).mean(0), full_matrices=False)
    assert torch.allclose((found @ basis[:3].T).abs(), math.sqrt(2) * torch.eye(3), atol=1e-3)


def test_joint_directions_of_blocks_are_those_of_the_blocks_as_maps() -> None:
    features = torch.randn(50, 3, 4, 6, generator=generator_for("features"))
    draws = torch.randn(2, 20, 3, 4, 6, generator=generator_for("draws"))
    places = [(..., slice(2 * row, 2 * row + 2), slice(3 * at, 3 * at + 3)) for row in range(2) for at in range(2)]
    maps = torch.stack([features[place] for place in places], 1).flatten(0, 1)
    heard = torch.stack([draws[place] for place in places], 2).flatten(1, 2)
    found = Fit([Sample(features, draws, 0.0)], 4).projections(0, (2, 3))
    expected = joint_projections(Sample(maps, heard, 0.0), 2048, 4)
    assert torch.equal(found.encoder, expected.encoder) and torch.equal(found.mean, expected.mean)


def test_finding_directions_leaves_the_random_state_alone_and_gives_the_same_again() -> None:
    before = torch.get_rng_state()
    first = joint_projections(listening(source()), 500, 4).encoder
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    assert torch.equal(joint_projections(listening(source()), 500, 4).encoder, first)


def test_steps_follow_what_the_tail_hears_of_each_frequency() -> None:
    features = torch.randn(200, 3, 4, 4, generator=generator_for("features"))
    flat = torch.randn(2, 200, 3, 1, 1, generator=generator_for("draws")).expand(-1, -1, -1, 4, 4)
    sample = Sample(features, flat, 0.0)  # the tail listens to means alone
    transform = fit_separable(sample, channel_transform(sample), 3, 4)
    sensitivity = 16 / (FLOOR * 16 / 16)  # of the lowest frequency, over the floor that the others are at
    found = transform.log_step - transform.log_step[:, :1, :1]
    expected = torch.full((4, 4), POWER / 2 * math.log(sensitivity))
    expected[0, 0] = 0
    assert torch.allclose(found, expected.expand(3, 4, 4), atol=0.15)
    assert torch.equal(transform.log_size, transform.log_step)


def make_part(structure: str, rank: int = 5) -> TransformPart:
    torch.manual_seed(0)
    return TransformPart((6, 4, 4), structure, rank, (4, 4), 0, False, 0.45)


def coefficients(part: TransformPart, count: int = 400) -> Tensor:
    """Laplacian coefficients from a hundredth of a step to a hundred steps wide, and one that is always 0."""
    generator = generator_for("coefficients")
    widths = 10 ** torch.linspace(-2, 2, part.scales.numel()).view(part.scales.shape)
    widths[0] = 0
    uniform = torch.rand(count, *part.latent_shape(part.own_size), generator=generator) - 0.5
    drawn = -uniform.sign() * torch.log1p(-2 * uniform.abs())
    return drawn * part.transform.spread(widths, part.own_size)


@pytest.mark.parametrize("structure", ["separable", "joint"])
def test_every_coefficient_gets_the_table_that_is_cheapest_or_nearly(structure: str) -> None:
    part = make_part(structure)
    y = coefficients(part)
    fit_scales(part, y)
    symbols = part.round(y)
    by_table = []
    for number in range(1, NUM_TABLES + 1):
        bits = code_bits(symbols, torch.full(part.latent_shape(part.own_size), number))
        by_table.append(part.transform.pool(bits.mean(0), part.own_size))
    found = part.transform.pool(code_bits(symbols, part.indices(part.own_size)).mean(0), part.own_size)
    cheapest = torch.stack(by_table).amin(0)
    silent = (symbols == 0).all(0)
    silent = part.transform.pool(silent.float(), part.own_size) == 1
    assert silent[0].all() and not silent[1:].all() and torch.equal(part.numbers() == 0, silent)
    assert (found <= torch.where(silent, 0.0, 1.005 * cheapest + 1e-3)).all()
    assert (part.scales % PARTS == PARTS / 2).all()


def test_the_ridge_decoder_solves_the_normal_equations() -> None:
    part = make_part("joint")
    features = torch.randn(40, 6, 4, 4, generator=generator_for("features")) + 5
    y = 3 * torch.randn(40, 5, 1, 1, generator=generator_for("y"))
    part.scales.data.fill_(20 * PARTS)
    part.scales.data[4] = 0  # not coded, and of no use to the decoder
    fit_decoder(part, features, y)
    symbols = part.round(y)[:, :, 0, 0].double().numpy()
    symbols[:, 4] = 0
    design = np.hstack([symbols - symbols.mean(0), np.ones((40, 1))])
    penalty = np.sqrt(RIDGE * 40) * np.eye(6)[:5]  # all but the intercept
    wanted = np.vstack([features.flatten(1).double().numpy(), np.zeros((5, 96))])
    solution, *_ = np.linalg.lstsq(np.vstack([design, penalty]), wanted, rcond=None)
    found = part.reconstruct(torch.from_numpy(symbols).float()[:, :, None, None], (4, 4)).flatten(1)
    np.testing.assert_allclose(found.detach().numpy(), design @ solution, rtol=1e-4, atol=1e-4)
    assert not part.transform.expand.weight[4].any()  # type: ignore[union-attr,index]


def test_gains_are_least_squares_where_many_symbols_speak_and_1_where_none_do() -> None:
    part = make_part("separable")
    y = coefficients(part)
    fit_scales(part, y)
    fit_decoder(part, torch.empty(0), y)
    gain = (part.transform.log_size - part.transform.log_step).exp().detach()  # type: ignore[operator]
    symbols = part.round(y) * (part.indices(part.own_size) > 0)
    for name in np.ndindex(gain.shape):
        own, exact = symbols[(slice(None), *name)].double(), y[(slice(None), *name)].double()
        expected = (float(own @ exact) + GAIN_PRIOR) / (float(own @ own) + GAIN_PRIOR)
        assert float(gain[name]) == pytest.approx(min(1.5, max(0.5, expected)), rel=1e-4)
        if not own.any():
            assert float(gain[name]) == 1
    assert gain.min() < 0.95 and not symbols[:, 0].any()
