"""Units of any rate: steps that a multiplier makes finer, and which multiplier stands for which lambda."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from bottlenecks.coding.bitstream import BitstreamError
from bottlenecks.coding.rate_range import LEAST, MOST, RateRange, finest_within
from bottlenecks.errors import UsageError
from bottlenecks.splitting.features import Features
from bottlenecks.training.any_rate import Measured, find_range, fit_scales_over, fit_way_back
from bottlenecks.training.closed_form import fit_decoder, fit_scales
from bottlenecks.units import ChannelUnit, FactorizedPart, TransformUnit
from bottlenecks.units.laplacian import PARTS, RATIO, code_bits
from bottlenecks.units.linear import JointTransform, SeparableTransform
from bottlenecks.units.transform_part import TransformPart

RATES = {"multipliers": [-40.0, 0.0, 40.0], "lambdas": [0.001, 0.01, 0.1]}
SEPARABLE = {"feature_shape": [6, 7, 7], "structure": "separable", "rank": 6, "block": [4, 4]}
JOINT = {"feature_shape": [6, 4, 4], "structure": "joint", "rank": 5, "block": [4, 4]}
KINDS = {"separable": [SEPARABLE], "joint": [JOINT], "two tensors": [SEPARABLE, JOINT]}


def make_part(shape: dict[str, Any]) -> dict[str, Any]:
    return {**shape, "restorer": 0, "nonnegative": False, "rounding": 0.45}


@torch.no_grad()
def make_unit(kind: str, rates: dict[str, Any] | None) -> TransformUnit:
    """Make a unit for features whose coefficients have sizes from a hundredth of a step to ten."""
    torch.manual_seed(0)
    unit = TransformUnit([make_part(shape) for shape in KINDS[kind]], rates)
    for part in unit.parts:
        make_orthonormal(part)
        if rates is None:
            fit_scales(part, laplacian(part))
        else:
            fit_scales_over(part, laplacian(part), range(-40, 41, 10))
    unit.finalise()
    return unit


def make_orthonormal(part: TransformPart) -> None:
    """Let the coefficients be the features' own, in the frequencies of a separable transform."""
    transform = part.transform
    if isinstance(transform, JointTransform):
        basis = torch.linalg.qr(torch.randn(96, part.rank))[0].T.view(part.rank, 6, 4, 4)
        transform.expand.weight.copy_(basis)
        transform.project.weight.copy_(basis)
        transform.project.bias.zero_()  # type: ignore[union-attr]
        return
    assert isinstance(transform, SeparableTransform)
    for convolution in (transform.project, transform.expand):
        convolution.weight.copy_(torch.eye(6)[:, :, None, None])
        convolution.bias.zero_()  # type: ignore[union-attr]


def laplacian(part: TransformPart, count: int = 400, seed: int = 1) -> Tensor:
    """Draw coefficients (N, K, h, w) of a Laplace distribution, each channel and frequency with a width of its own."""
    widths = 10 ** torch.linspace(-2, 1, part.scales.numel()).view(part.scales.shape)
    shape = (count, *part.latent_shape(part.own_size))
    uniform = torch.rand(shape, generator=torch.Generator().manual_seed(seed)) - 0.5
    drawn = -uniform.sign() * torch.log1p(-2 * uniform.abs())
    return drawn * part.transform.spread(widths, part.own_size)


@torch.no_grad()
def features_of(unit: TransformUnit, count: int = 3) -> Features:
    """Make features of such coefficients."""
    return tuple(part.transform.decode(laplacian(part, count, seed=2), part.own_size) for part in unit.parts)


def bits_at(part: TransformPart, y: Tensor, multiplier: int, factor: float = 1.0) -> float:
    symbols = part.round(factor * y) * (part.indices(part.own_size, multiplier) > 0)
    return float(code_bits(symbols, part.indices(part.own_size, multiplier)).sum())


def test_shifted_scales_cost_little_against_scales_fitted_at_that_step() -> None:
    part = TransformUnit([make_part(SEPARABLE)], RATES).parts[0]
    y = laplacian(part)
    fit_scales_over(part, y, range(-40, 41, 10))
    for multiplier in (-40, -25, -10, 0, 10, 25, 40):
        factor = RATIO ** (multiplier / PARTS)
        refitted = TransformUnit([make_part(SEPARABLE)]).parts[0]
        fit_scales(refitted, factor * y)
        assert bits_at(part, y, multiplier, factor) < 1.01 * bits_at(refitted, y, 0, factor)


def test_what_is_never_coded_at_the_base_step_is_coded_at_finer_ones() -> None:
    part = TransformUnit([make_part(SEPARABLE)], RATES).parts[0]
    y = 0.01 * laplacian(part)
    fit_scales_over(part, y, [-40, 0, 40])
    dead = part.numbers(0) == 0
    assert dead.any() and (part.scales[dead] <= 0).any()
    assert (part.numbers(MOST)[dead] > 0).any()
    for multiplier in (-40, 0, 40):  # what has symbols there has a table
        some = part.transform.pool(part.round(part.finer(y, multiplier)).abs().amax(0), part.own_size) > 0
        assert (part.numbers(multiplier)[some] > 0).all()


@torch.no_grad()
@pytest.mark.parametrize("shape", [SEPARABLE, JOINT], ids=["separable", "joint"])
def test_a_way_back_for_all_steps_is_nearly_as_good_as_one_for_each(shape: dict[str, Any]) -> None:
    ranged, plain = (TransformUnit([make_part(shape)], rates).parts[0] for rates in (RATES, None))
    make_orthonormal(ranged)
    y = 0.3 * laplacian(ranged)
    features = ranged.transform.decode(y, ranged.own_size)
    fit_scales_over(ranged, y, range(-40, 41, 10))
    fit_way_back(ranged, features, y, range(-40, 41, 10))
    for multiplier in (-40, 0, 40):
        factor = RATIO ** (multiplier / PARTS)
        make_orthonormal(plain)
        plain.transform.rescale(factor)
        fit_scales(plain, factor * y)
        fit_decoder(plain, features, factor * y)
        errors = []
        for part, own in ((plain, 0), (ranged, multiplier)):
            symbols = part.round(factor * y) * (part.indices(part.own_size, own) > 0)
            errors.append(float((part.reconstruct(symbols, part.own_size, own) - features).square().sum()))
        assert errors[1] < 1.05 * errors[0]


@pytest.mark.parametrize(
    "kind", ["separable", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("joint", "two tensors"))]
)
def test_every_multiplier_round_trips_and_bytes_rise_with_it(kind: str) -> None:
    unit = make_unit(kind, RATES)
    features = features_of(unit)
    size = unit.size_of(features)
    totals = []
    for multiplier in range(LEAST, MOST + 1):
        streams = unit.compress(features, multiplier)
        frames = [unit.framing.read(stream) for stream in streams]
        assert {frame.multiplier for frame in frames} == {multiplier}
        decoded = zip(*(frame.symbols for frame in frames), strict=True)
        for own, read in zip(unit.symbols(features, multiplier), decoded, strict=True):
            assert (own == np.stack(read)).all() or not -40 <= multiplier <= 40
        assert unit.size_of(unit.decompress(streams)) == size
        totals.append(sum(map(len, streams)))
    inside = totals[-40 - LEAST : 41 - LEAST]
    assert inside[0] < inside[-1] and all(after >= before - 2 for before, after in pairwise(inside))


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_may_mix_multipliers(kind: str) -> None:
    unit = make_unit(kind, RATES)
    features = features_of(unit)
    mixed = [unit.compress(features, multiplier)[at] for at, multiplier in enumerate((-40, 3, 40))]
    alone = [unit.decompress([stream]) for stream in mixed]
    together = unit.decompress(mixed)
    for at, own in enumerate(alone):
        pairs = zip(own, together, strict=True)
        assert all(torch.allclose(one[0], both[at], atol=1e-5) for one, both in pairs)


def test_finer_steps_restore_more() -> None:
    unit = make_unit("separable", RATES)
    features = features_of(unit)
    with torch.no_grad():
        restored = [unit(features, multiplier=at).features_hat[0] for at in (-40, 0, 40)]
    errors = [float((own - features[0]).square().mean()) for own in restored]
    assert errors[0] > 2 * errors[1] > 4 * errors[2]


def test_bits_in_training_are_those_of_the_multiplier_of_each_image() -> None:
    unit = make_unit("separable", RATES).train()
    features = features_of(unit)
    multiplier = torch.tensor([-30, 0, 30])
    rate_bits = unit(features, torch.Generator().manual_seed(0), multiplier).rate_bits
    rate_bits.sum().backward()
    assert rate_bits[0] < rate_bits[1] < rate_bits[2]
    assert unit.parts[0].scales.grad is not None and unit.parts[0].scales.grad.abs().sum() > 0
    unit.zero_grad()
    unit(features, torch.Generator().manual_seed(0), multiplier).features_hat[0].square().sum().backward()
    assert unit.parts[0].gains is not None and unit.parts[0].gains.grad.abs().sum() > 0  # type: ignore[union-attr]


def test_a_unit_of_one_rate_takes_no_multiplier() -> None:
    plain = make_unit("separable", None)
    factorized = ChannelUnit([FactorizedPart((6, 7, 7), 4, 1, nonnegative=False)])
    factorized.finalise()
    for unit in (plain, factorized):
        with pytest.raises(ValueError, match="multiplier must be 0 for a unit of one rate, got 3"):
            unit.compress(features_of(plain), 3)
    with pytest.raises(ValueError, match="multiplier must be 0 for a unit of one rate"):
        factorized(features_of(plain), None, torch.tensor([1, 2, 3]))
    ranged = make_unit("separable", RATES)
    with pytest.raises(BitstreamError):
        plain.decompress(ranged.compress(features_of(plain), 0))


def test_a_range_reads_both_ways() -> None:
    rates = RateRange.from_dict(RATES)
    assert RateRange.from_dict(rates.to_dict()) == rates and str(rates) == "0.001..0.1"
    assert [rates.multiplier(lmbda) for lmbda in (0.001, 0.01, 0.1)] == [-40, 0, 40]
    assert rates.multiplier(math.sqrt(0.001 * 0.01)) == -20
    for multiplier in range(-40, 41):
        lmbda = rates.lmbda(multiplier)
        assert rates.multiplier(lmbda) == multiplier and len(repr(lmbda)) <= 7
    assert rates.lmbda(rates.multiplier(0.0042)) == 0.0042
    assert (rates.lmbda(-128), rates.lmbda(127)) == (0.001, 0.1)


def test_points_are_spread_over_a_range() -> None:
    rates = RateRange.from_dict(RATES)
    assert rates.spread(5) == [0.001, rates.lmbda(-20), 0.01, rates.lmbda(20), 0.1]
    assert rates.spread(1) == [0.01] and rates.spread(2) == [0.001, 0.1]
    assert len(rates.spread(1000)) == 81


@pytest.mark.parametrize("lmbda", [0.0009, 0.11, -1.0, math.nan])
def test_a_lambda_outside_of_a_range_is_an_error_that_names_it(lmbda: float) -> None:
    with pytest.raises(
        UsageError, match=r"lambda=.*: this unit takes any lambda from 0\.001 to 0\.1; .* another range"
    ):
        RateRange.from_dict(RATES).multiplier(lmbda)


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"multipliers": [1.0], "lambdas": [0.1]},
        {"multipliers": [2.0, 1.0], "lambdas": [0.1, 0.2]},
        {"multipliers": [1.0, 2.0], "lambdas": [0.2, 0.2]},
        {"multipliers": [1.0, 200.0], "lambdas": [0.1, 0.2]},
        {"multipliers": [1.0, 2.0], "lambdas": [0.0, 0.2]},
        {"multipliers": [1.0, math.inf], "lambdas": [0.1, 0.2]},
        {"multipliers": [1.0, "2"], "lambdas": [0.1, 0.2]},
        {"multipliers": [1.0, 2.0], "lambdas": [0.1, 0.2, 0.3]},
        [1, 2],
    ],
)
def test_a_damaged_range_is_refused(content: Any) -> None:
    with pytest.raises(ValueError, match="must "):
        RateRange.from_dict(content)


def test_the_multiplier_of_a_lambda_is_that_of_the_smallest_loss() -> None:
    multipliers = range(-120, 121, 8)
    points = [Measured(at, 4.0 * math.exp(-at / 40), 0.1 + 0.02 * math.exp(at / 80)) for at in multipliers]
    rates = find_range(points, 0.0005, 0.005)
    for lmbda in np.geomspace(0.0005, 0.005, 9):
        every = {at: lmbda * 4.0 * math.exp(-at / 40) + 0.1 + 0.02 * math.exp(at / 80) for at in range(-128, 128)}
        assert abs(rates.multiplier(lmbda) - min(every, key=lambda at: every[at])) <= 4


def test_what_was_measured_unevenly_gives_a_range_all_the_same() -> None:
    noisy = [Measured(-20, 5.0, 1.0), Measured(0, 3.0, 2.0), Measured(10, 3.1, 2.2), Measured(20, 1.0, 2.5)]
    rates = find_range(noisy, 0.1, 10.0)
    assert str(rates) == "0.1..10.0" and rates.multiplier(0.374) in (-1, 0, 1)  # from -20 to 20 the hull is one side
    assert str(find_range([Measured(0, 3.0, 2.0)], 0.1, 10.0)) == "0.1..10.0"
    assert str(find_range([Measured(0, 3.0, 2.0), Measured(10, 4.0, 3.0)], 0.001, 0.1)) == "0.001..0.1"
    assert find_range([Measured(300, 3.0, 2.0), Measured(400, 2.0, 3.0)], 0.1, 10.0).highest == MOST


def test_the_finest_that_fits_is_found_in_a_few_tries() -> None:
    for budget in range(40, 400, 7):
        tried = []

        def encode(multiplier: int) -> bytes:
            tried.append(multiplier)  # noqa: B023
            return bytes(100 + multiplier)

        multiplier, stream = finest_within(-40, 40, encode, budget)
        assert multiplier == max(-40, min(40, budget - 100)) and len(stream) == 100 + multiplier
        assert len(tried) <= 9
