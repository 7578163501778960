"""Train the rates of one split, side by side, and keep one checkpoint each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from bottlenecks.coding.rate_range import RateRange
from bottlenecks.console.terminal import say
from bottlenecks.errors import UsageError
from bottlenecks.processes import is_main
from bottlenecks.rates.info import RateInfo
from bottlenecks.rates.places import CheckpointError, Lmbda, place_of, rate_name, rates_of, say_where, text_of
from bottlenecks.rates.rate import Rate, read_info, save_rate
from bottlenecks.splitting.cut import SplitNetwork
from bottlenecks.training.best import BestStates
from bottlenecks.training.calibration import FeatureStatistics
from bottlenecks.training.module import LadderModule
from bottlenecks.training.resume import changes_between
from bottlenecks.training.seeds import seed_for
from bottlenecks.units import Bottleneck, make_unit


def unfinished(folder: Path, lmbdas: Sequence[Lmbda], settings: Mapping[str, Any], overwrite: bool) -> list[Lmbda]:
    """Return which rates are still to be trained.

    A rate of another unit that lies where one of these would is left alone, and where the new one goes is said.

    Args:
        folder: of the unit's rates.
        lmbdas: that are asked for.
        settings: that bear on the outcome.
        overwrite: whether finished rates are to be trained anew.

    Raises:
        UsageError: a finished rate was trained otherwise; the message names the difference and the ways out.
    """
    todo, unit = [], str(settings["unit"]["name"])
    for lmbda in lmbdas:
        path = place_of(folder, unit, lmbda)
        if overwrite or not path.exists():
            say_where(folder, unit, lmbda)
            todo.append(lmbda)
            continue
        info = _read_kept(path)
        if text_of(info.lmbda) != text_of(lmbda):
            raise UsageError(f"{path}: holds {rate_name(info.lmbda)}; name it so, move it away, or overwrite=true")
        changes = changes_between(info.training, settings)
        if changes:
            raise UsageError(
                f"{path} is finished and was trained otherwise ({changes}); train it anew with overwrite=true, or "
                "keep both with another name, such as unit.name=mine"
            )
        say(f"Kept {path}: finished with these very settings")
    return todo


def is_met(folder: Path, settings: Mapping[str, Any]) -> bool:
    """Return whether a target was met before: a finished rate has these very settings, the target among them."""
    for path in rates_of(folder, str(settings["unit"]["name"])):
        if not changes_between(_read_kept(path).training, settings):
            say(f"Kept {path}: finished with these very settings")
            return True
    return False


def build_units(
    lmbdas: Sequence[Lmbda],
    unit: Mapping[str, Any],
    network: SplitNetwork,
    features: Sequence[FeatureStatistics],
    seed: int,
    warm_start: bool = True,
) -> dict[Lmbda, Bottleneck]:
    """Build one unit a rate, and of several tensors that cross one for each; its start depends on (seed, lambda) alone.

    Args:
        lmbdas: of the rates.
        unit: `architecture`, and the arguments that the configuration gives.
        network: the cut network.
        features: of each tensor, decide whether the decoder ends in a ReLU, and where a warm start begins.
        seed: of the run.
        warm_start: begin from the features' statistics instead of from noise.

    Raises:
        UsageError: the configuration does not fit the unit.
    """
    config = {key: value for key, value in unit.items() if key not in ("name", "architecture")}
    parts = [
        {**config, "feature_shape": tensor.shape, "nonnegative": own.nonnegative}
        for tensor, own in zip(network.crossing, features, strict=True)
    ]
    units = {}
    for lmbda in lmbdas:
        with torch.random.fork_rng():
            torch.manual_seed(seed_for(seed, lmbda, "unit"))
            units[lmbda] = make_unit(unit["architecture"], {"parts": parts})
            if warm_start:
                units[lmbda].start_from(tuple(own.sample for own in features))
    return units


def keep(
    module: LadderModule,
    best: BestStates,
    folder: Path,
    describe: Callable[[Lmbda, Bottleneck], RateInfo],
    settle: Callable[[int], RateRange],
    overwrite: bool,
) -> dict[Path, RateInfo]:
    """Write each rate's best state with its tables.

    Args:
        module: the trained units.
        best: their best states.
        folder: of the rates.
        describe: gives what is written beside the weights, metrics excepted.
        settle: finds the range of a trained unit of any rate, by its number.
        overwrite: whether a finished rate of other settings may be replaced.

    Returns:
        What was written, by path.

    Raises:
        UsageError: a rate's loss never was finite, or another run has written it meanwhile; the others are written
            first.
    """
    if not best.states:
        raise UsageError("no epoch ended in an evaluation on the held-back images; let trainer validate every epoch")
    written, taken = dict[Path, RateInfo](), list[str]()
    for rate, (lmbda, unit) in enumerate(zip(module.lmbdas, module.units, strict=True)):
        assert isinstance(unit, Bottleneck)
        if not best.states[rate]:
            continue
        unit.load_state_dict(best.states[rate])
        if unit.range is not None:
            unit.range = settle(rate)
        unit.cpu().finalise()
        metrics = {**best.figures[rate], "epoch": best.epochs[rate]}
        info = RateInfo(**{**vars(describe(lmbda, unit)), "metrics": metrics})
        path = place_of(folder, info.unit_name, lmbda)
        if path.exists() and not overwrite and (changes := changes_between(_read_kept(path).training, info.training)):
            taken.append(f"{path} ({changes})")
            continue
        if is_main():
            save_rate(path, Rate(unit, info))
        written[path] = info
    lost = [lmbda for lmbda, state in zip(module.lmbdas, best.states, strict=True) if not state]
    if lost:
        raise UsageError(
            f"{', '.join(map(rate_name, lost))}: the loss never was a finite number; are the network's outputs finite, "
            "and lambda within reason? Else lower training.lr"
        )
    if taken:
        raise UsageError(
            f"{', '.join(taken)}: another run, of other settings, has written it meanwhile; move it away, and "
            "resume=true writes this one"
        )
    return written


def _read_kept(path: Path) -> RateInfo:
    try:
        return read_info(path)
    except CheckpointError as error:
        raise CheckpointError(f"{error}; or train it anew with overwrite=true") from None
