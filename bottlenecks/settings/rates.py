"""The rates that a configuration asks for."""

from __future__ import annotations

import math
from typing import Any

from omegaconf import DictConfig, OmegaConf

from bottlenecks.coding.rate_range import WIDEST
from bottlenecks.errors import UsageError, check_flag
from bottlenecks.rates.places import Lmbda

DEFAULT_LAMBDA = 0.01


def parse_lambdas(value: Any) -> list[float]:
    """Read `lambda`, one number or a list, from coarse to fine; None is for the default.

    Raises:
        UsageError: nothing, no number, not above zero and finite, or the same twice.
    """
    if value is None:
        return [DEFAULT_LAMBDA]
    values = list(value) if OmegaConf.is_list(value) or isinstance(value, (list, tuple)) else [value]
    if not values:
        raise UsageError("lambda=[]: expected at least one number above 0, such as lambda=0.01")
    lmbdas = [_parse_lambda(one) for one in values]
    twice = sorted({one for one in lmbdas if lmbdas.count(one) > 1})
    if twice:
        raise UsageError(f"lambda={lmbdas}: {twice[0]!r} is there twice; give each rate once")
    return sorted(lmbdas)


def rates_asked(cfg: DictConfig) -> list[Lmbda]:
    """Read which rates are asked for: those of `lambda`, or with `unit.range` one unit for all between its two.

    Raises:
        UsageError: the settings cannot be used.
    """
    lmbdas, ranged = parse_lambdas(cfg["lambda"]), cfg.unit.get("range", False)
    check_flag("unit.range", ranged)
    if not ranged:
        return [*lmbdas]
    if len(lmbdas) != 2:
        raise UsageError(f"lambda={lmbdas}: unit.range=true takes both ends of its range, such as lambda=[0.003,0.03]")
    low, high = lmbdas
    if high > WIDEST * low:
        raise UsageError(f"lambda={lmbdas}: one unit spans a factor of {WIDEST:g} at the most; train two ranges")
    return [(low, high)]


def _parse_lambda(value: Any) -> float:
    try:
        lmbda = float(value)
    except (TypeError, ValueError):
        lmbda = math.nan
    if isinstance(value, bool) or not (math.isfinite(lmbda) and lmbda > 0):
        raise UsageError(
            f"lambda={value}: expected a number above 0, or a list of such; useful ones lie between 0.0003 and 0.1 "
            "(a larger lambda buys fidelity with rate)"
        )
    return lmbda
