"""What distortion costs an image in training: one lambda, or for a unit of any rate that of the image's multiplier."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Generator, Tensor

from bottlenecks.coding.rate_range import RateRange
from bottlenecks.rates.places import Lmbda
from bottlenecks.training.any_rate import Measured
from bottlenecks.units import Bottleneck
from bottlenecks.units.part import Multiplier


class Price(NamedTuple):
    """Under which terms images are coded, in a batch the same for all, or one (N,) for each.

    Attributes:
        lmbda: price of one percent of distortion in bits per pixel.
        weight: of the loss.
        multiplier: of the unit's steps.
    """

    lmbda: float | Tensor
    weight: float | Tensor
    multiplier: Multiplier


class Prices(Protocol):
    """The terms of one unit."""

    def draw(self, count: int, generator: Generator, device: torch.device) -> Price:
        """Return the terms of a batch of training images."""

    def evaluated(self) -> list[Price]:
        """Return the terms under which every held-back image is evaluated."""


class OnePrice:
    """The terms of a unit of one rate."""

    def __init__(self, lmbda: float) -> None:
        self.price = Price(lmbda, 1.0, 0)

    def draw(self, count: int, generator: Generator, device: torch.device) -> Price:
        """Return the only terms."""
        return self.price

    def evaluated(self) -> list[Price]:
        """Return the only terms."""
        return [self.price]


class RangePrices:
    """The terms of a unit of any rate: those of each multiplier of its range.

    A loss is weighed by that of the start, which makes a share of it worth the same at all rates; in the middle of the
    range the weight is 1.

    Args:
        rates: the range.
        measured: of the start, at two multipliers or more.
    """

    def __init__(self, rates: RateRange, measured: Sequence[Measured]) -> None:
        self.rates = rates
        self.multipliers = [point.multiplier for point in measured]
        lmbdas = self._lmbdas(self.multipliers)
        pairs = zip(lmbdas, measured, strict=True)
        self.losses = [math.log(max(lmbda * own.distortion + own.bpp, 1e-12)) for lmbda, own in pairs]
        self.middle = round((rates.lowest + rates.highest) / 2)

    def draw(self, count: int, generator: Generator, device: torch.device) -> Price:
        """Draw a multiplier for each image."""
        return self._price(
            torch.randint(self.rates.lowest, self.rates.highest + 1, (count,), generator=generator), device
        )

    def evaluated(self) -> list[Price]:
        """Return the terms at both ends and in the middle."""
        ends = (self.rates.lowest, self.middle, self.rates.highest)
        return [Price(float(self._lmbdas(end)), float(self._weights(end)), end) for end in ends]

    def _price(self, multipliers: Tensor, device: torch.device) -> Price:
        lmbdas, weights = (torch.from_numpy(own(multipliers)).float() for own in (self._lmbdas, self._weights))
        return Price(lmbdas.to(device), weights.to(device), multipliers.to(device))

    def _lmbdas(self, multipliers: object) -> np.ndarray:
        return np.exp(np.interp(multipliers, self.rates.multipliers, np.log(self.rates.lmbdas)))  # type: ignore[call-overload]

    def _weights(self, multipliers: object) -> np.ndarray:
        own, middle = (np.interp(at, self.multipliers, self.losses) for at in (multipliers, self.middle))  # type: ignore[call-overload]
        return np.exp(middle - own)


def prices_of(unit: Bottleneck, lmbda: Lmbda, measured: Sequence[Measured] = ()) -> Prices:
    """Return the terms of a unit, with what its start measured where it takes any rate."""
    if unit.range is None:
        assert isinstance(lmbda, float)
        return OnePrice(lmbda)
    return RangePrices(unit.range, measured)
