"""A unit of any rate: scales, gains and way back for a range of steps, and which step is for which lambda."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from statistics import mean
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from bottlenecks.coding.rate_range import LEAST, MOST, RateRange
from bottlenecks.training.closed_form import GAIN_PRIOR, RIDGE, fit_ridge
from bottlenecks.training.hull import lower_hull, price
from bottlenecks.training.structure import Trial
from bottlenecks.units.laplacian import LARGEST, NUM_TABLES, PARTS, RATIO, width_of
from bottlenecks.units.linear import JointTransform
from bottlenecks.units.transform import TransformUnit
from bottlenecks.units.transform_part import TransformPart, factor_of

FITTED = 7  # multipliers that scales and way back are fitted at
PER_OCTAVE = PARTS * math.log(2) / math.log(RATIO)  # multipliers that halve the steps


class Measured(NamedTuple):
    """What images took and lost, in the mean, at one multiplier of the steps.

    Attributes:
        multiplier: in eighths of a table step.
        distortion: in percent.
        bpp: bits per pixel of the input image.
    """

    multiplier: float
    distortion: float
    bpp: float


def find_range(points: Sequence[Measured], low: float, high: float) -> RateRange:
    """Find which multiplier is best for each lambda, by the lower convex hull of what was measured.

    A side of the hull between two multipliers has a slope: at a lambda of that slope both are equally good, and what
    lies between them is best. Beyond the hull, theory at high rates: lambda goes with the inverse square of the step.

    Args:
        points: at several multipliers.
        low: the smallest lambda of the range.
        high: the largest one.
    """
    hull = lower_hull(sorted(points))
    sides = [((one.multiplier + two.multiplier) / 2, price(one, two)) for one, two in pairwise(hull)]
    rows = [row for row in sides if row[1] > 0] or [(mean(point.multiplier for point in points), math.sqrt(low * high))]
    first, last = (_read_off(rows, lmbda) for lmbda in (low, high))
    first = min(max(first, LEAST), MOST - 1.0)
    last = min(max(last, first + 1), MOST)
    inside = [row for row in rows if first < row[0] < last and low < row[1] < high]
    multipliers, lmbdas = zip((first, low), *inside, (last, high), strict=True)
    return RateRange(multipliers, lmbdas)


def _read_off(rows: Sequence[tuple[float, float]], lmbda: float) -> float:
    """Return a lambda's multiplier by rows of both that rise."""
    multipliers, logarithms = zip(*((multiplier, math.log2(own)) for multiplier, own in rows), strict=True)
    wanted = math.log2(lmbda)
    beyond = min(0.0, wanted - logarithms[0]) + max(0.0, wanted - logarithms[-1])
    return float(np.interp(wanted, logarithms, multipliers)) + PER_OCTAVE / 2 * beyond


def with_range(base: TransformUnit, rates: RateRange) -> TransformUnit:
    """Return a copy of a unit that takes any rate."""
    parts = [{**part, "tuned": part["restorer"] > 0} for part in base.config()["parts"]]
    unit = TransformUnit(parts, rates.to_dict())
    unit.load_state_dict(base.state_dict(), strict=False)
    return unit.eval()


@torch.no_grad()
def gains_help(trial: Trial, rates: RateRange, step: float) -> bool:
    """Return whether gains of the least squared error lose less behind the tail, on images they were not fitted to.

    They make features smaller than they were, which some networks take ill: there gains of 1 lose half.
    """
    fold, lost = trial.folds[0], []
    for gains in (True, False):
        unit = with_range(fold.unit(), rates)
        fit_steps(unit, fold.features, fold.coefficients, step, gains)
        symbols = [_symbols(part, y / step, 0)[2] for part, y in zip(unit.parts, fold.held, strict=True)]
        decoded = [part.reconstruct(own, part.own_size) for part, own in zip(unit.parts, symbols, strict=True)]
        lost.append(float(trial.distort(decoded, fold.images).mean()))
    return lost[0] < lost[1]


@torch.no_grad()
def fit_steps(
    unit: TransformUnit, features: Sequence[Tensor], coefficients: Sequence[Tensor], step: float, gains: bool
) -> None:
    """Give a unit of any rate, whose steps are 1, another step, and fit the rest to training images over its range.

    Args:
        unit: has a range.
        features: of each tensor, (N, C, H, W).
        coefficients: the same encoded at steps of 1, (N, K, h, w).
        step: factor of all steps, at a multiplier of 0.
        gains: whether gains are those of the least squared error, else 1.
    """
    assert unit.range is not None
    multipliers = torch.linspace(unit.range.lowest, unit.range.highest, FITTED).round().int().tolist()
    for part, own, y in zip(unit.parts, features, coefficients, strict=True):
        part.transform.rescale(1 / step)
        fit_scales_over(part, y / step, multipliers)
        fit_way_back(part, own, y / step, multipliers, gains)


@torch.no_grad()
def fit_scales_over(part: TransformPart, y: Tensor, multipliers: Sequence[int]) -> None:
    """Give each coefficient the scale whose shifts code its symbols at these multipliers in the fewest bits.

    Where all symbols are zero at a multiplier nothing is coded there, so that a scale may be below those of all tables
    at the base step.

    Args:
        part: of a unit of any rate.
        y: coefficients of training images, (N, K, h, w), in steps of the base.
        multipliers: to fit at.
    """
    shares = []
    for multiplier in multipliers:
        magnitude = part.round(part.finer(y, multiplier)).abs_()
        zeros = part.transform.pool((magnitude == 0).float().mean(0), part.own_size)
        excess = part.transform.pool((magnitude - 0.5).clamp_min_(0).mean(0), part.own_size)
        shares.append((zeros, excess))
    fewest, scales = torch.full_like(shares[0][0], torch.inf), torch.zeros_like(shares[0][0])
    for scale in range(-MOST, LARGEST - LEAST, 2):
        nats = torch.stack(
            [_nats(scale + multiplier, *own) for multiplier, own in zip(multipliers, shares, strict=True)]
        ).sum(0)
        scales, fewest = torch.where(nats < fewest, float(scale), scales), torch.minimum(nats, fewest)
    part.scales.copy_(scales)


def _nats(scale: int, zeros: Tensor, excess: Tensor) -> Tensor:
    """Return what a scale's table takes for symbols of which so many are zero, with such an excess over 1/2."""
    number = min(scale // PARTS, NUM_TABLES)
    if number < 1:
        return torch.where(zeros > 1 - 1e-7, 0.0, torch.inf)
    width = float(width_of(torch.tensor(PARTS * (number + 0.5))))
    none, one = -math.log(-math.expm1(-0.5 / width)), -math.log(-0.5 * math.expm1(-1 / width))
    return zeros * none + (1 - zeros) * one + excess / width


@torch.no_grad()
def fit_way_back(
    part: TransformPart, features: Tensor, y: Tensor, multipliers: Sequence[int], gains: bool = True
) -> None:
    """Fit each table's gain, and the ridge regression of a joint transform, to symbols at several multipliers.

    Args:
        part: of a unit of any rate, with its scales.
        features: of training images, (N, C, H, W).
        y: their coefficients, (N, K, h, w), in steps of the base.
        multipliers: to fit at.
        gains: whether gains are those of the least squared error, else 1.
    """
    assert part.gains is not None
    total, found = (torch.zeros(NUM_TABLES + 1, dtype=torch.float64) for _ in range(2))
    for multiplier in multipliers:
        indices, finer, symbols = _symbols(part, y, multiplier)
        total.index_add_(0, indices.flatten(), symbols.square().sum(0).double().flatten())
        found.index_add_(0, indices.flatten(), (symbols * finer).sum(0).double().flatten())
    best = ((found + GAIN_PRIOR) / (total + GAIN_PRIOR)).clamp(0.5, 1.5)
    part.gains.copy_(best if gains else torch.ones_like(best))
    if isinstance(part.transform, JointTransform):
        latents = [part.dequantise(_symbols(part, y, own)[2], part.own_size, own) for own in multipliers]
        finest = float(factor_of(max(multipliers), y))  # in whose symbols the ridge counts
        fit_ridge(part.transform, features, latents, RIDGE / finest**2)


def _symbols(part: TransformPart, y: Tensor, multiplier: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the tables of each element (K, h, w), its coefficients in finer steps, and its symbols."""
    indices, finer = part.indices(part.own_size, multiplier), part.finer(y, multiplier)
    return indices, finer, part.round(finer) * (indices > 0)
