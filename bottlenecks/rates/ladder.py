"""All rates of one split."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from bottlenecks.console.terminal import say
from bottlenecks.rates.info import RateInfo
from bottlenecks.rates.places import (
    CheckpointError,
    NoSuchRateError,
    find_rates,
    place_of,
    rate_name,
    rate_path,
    text_of,
)
from bottlenecks.rates.rate import Rate, load_rate, save_rate
from bottlenecks.shapes import flat
from bottlenecks.splitting.cut import SplitNetwork
from bottlenecks.values import plain_value


class Ladder(Mapping[float, Rate]):
    """All rates of one split, by lambda, from coarse to fine.

    A unit of any rate is there at both ends of its range, and on request at any lambda between; a rate of its own comes
    before it. Rates whose tables have one fingerprint are left out, and named: a frame would not say which of them it
    is of.

    Args:
        rates: of one architecture, backbone, split and preprocessing.
        ranged: units of any rate, of the same.

    Raises:
        CheckpointError: they do not belong together, or none is left.
    """

    def __init__(self, rates: Mapping[float, Rate], ranged: Sequence[Rate] = ()) -> None:
        self.files = _told_apart([*(rates[lmbda] for lmbda in sorted(rates)), *ranged])  # one rate of each
        self.ranged = [rate for rate in self.files if rate.unit.range is not None]
        ends = {end: rate.at(end) for rate in self.ranged for end in rate.info.lmbda}  # type: ignore[union-attr]
        known = {**ends, **{rate.lmbda: rate for rate in self.files if rate.unit.range is None}}
        self._rates = {lmbda: known[lmbda] for lmbda in sorted(known)}
        first = self.info
        for rate in self.files:
            name, other_name = rate_name(rate.info.lmbda), rate_name(first.lmbda)
            own, other = rate.info.unit["architecture"], first.unit["architecture"]
            if own != other:
                raise CheckpointError(
                    f"{name} is a unit of architecture {own}, {other_name} of {other}; "
                    "they are no ladder: move one of them away"
                )
            for key in ("backbone_fingerprint", "split", "preprocessing"):
                own, other = getattr(rate.info, key), getattr(first, key)
                if own != other:
                    raise CheckpointError(
                        f"{name} has {key} {own}, {other_name} has {other}; "
                        "they are no ladder: train them on one backbone, or move one of them away"
                    )
        self._by_fingerprint = {rate.unit.framing.fingerprint: rate for rate in self.files}

    @classmethod
    def load(cls, folder: str | Path, unit: str | None = None) -> Ladder:
        """Read every rate of a unit.

        Args:
            folder: of the rates.
            unit: the unit's name; None for the default unit where it has any, else for the one that lies there.

        Raises:
            CheckpointError: there is none, or one that cannot be used.
        """
        rates: dict[str, Rate] = {}
        for path in find_rates(Path(folder), unit):
            rate = load_rate(path)
            name = rate_name(rate.info.lmbda)
            if path != rate_path(path.parent, rate.info.lmbda):
                raise CheckpointError(f"{path}: holds {name}; name it so, or move it away")
            if name in rates:
                raise CheckpointError(
                    f"{path}: {rate_path(rates[name].folder, rate.info.lmbda)} is the same rate of the same unit; "
                    "move one of them away"
                )
            rates[name] = rate
        ranged = [rate for rate in rates.values() if rate.unit.range is not None]
        return cls({rate.lmbda: rate for rate in rates.values() if rate.unit.range is None}, ranged)

    def save(self, folder: str | Path, overwrite: bool = False) -> list[Path]:
        """Write each rate into a folder, all or nothing.

        Args:
            folder: which is made where it is not there.
            overwrite: rates that lie there.

        Raises:
            CheckpointError: a rate lies there.
        """
        places = [place_of(Path(folder), rate.info.unit_name, rate.info.lmbda) for rate in self.files]
        if there := [path for path in places if path.exists() and not overwrite]:
            raise CheckpointError(f"{there[0]}: lies there already; save elsewhere, or overwrite=True")
        for path, rate in zip(places, self.files, strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            save_rate(path, rate)
        return places

    def only(self, ranged: bool) -> Ladder:
        """Return the units of any rate alone; or the rates of their own alone, where there are any.

        Raises:
            CheckpointError: there are no units of any rate.
        """
        kept = {rate.lmbda: rate for rate in self.files if rate.unit.range is None}
        if not ranged:
            return Ladder(kept) if kept else self
        if not self.ranged:
            there = ", ".join(text_of(rate.info.lmbda) for rate in self.files)
            raise CheckpointError(f"unit.range=true: no unit of any rate among {there}; train one, or leave it out")
        return Ladder({}, self.ranged)

    def spread(self, count: int) -> list[Rate]:
        """List the rates to evaluate, from coarse to fine: all of their own, and so many of each unit of any rate."""
        units = [(rate, rate.unit.range) for rate in self.ranged]
        between = [rate.at(lmbda) for rate, own in units if own is not None for lmbda in own.spread(count)]
        single = [rate for rate in self.files if rate.unit.range is None]
        return sorted([*single, *between], key=lambda rate: rate.lmbda)

    @property
    def info(self) -> RateInfo:
        """What the coarsest rate says, and with it all that the rates share."""
        return next(iter(self._rates.values())).info

    def of(self, fingerprint: bytes, multiplier: int = 0) -> Rate | None:
        """Find the rate whose frames have this fingerprint, and of a unit of any rate this multiplier."""
        rate = self._by_fingerprint.get(fingerprint)
        return rate and rate.at_multiplier(multiplier)

    def check_network(self, network: SplitNetwork, fingerprint: str, source: str) -> None:
        """Refuse a backbone or a split point other than those that the units were trained for.

        Args:
            network: the backbone at hand, cut.
            fingerprint: of the backbone.
            source: where its weights came from, for the message.

        Raises:
            CheckpointError: they differ; the message has both.
        """
        info = self.info
        if fingerprint != info.backbone_fingerprint:
            raise CheckpointError(
                f"model.weights={source}: this is backbone {fingerprint}, but the rates at split={info.split} were "
                f"trained around {info.model} {info.backbone_fingerprint}; give the weights they were trained with "
                "(model.weights=FILE), or train anew"
            )
        if network.split != info.split:
            raise CheckpointError(
                f"split={network.split}: these rates were trained for split={info.split}; use that, or train"
            )
        for rate in self.files:
            if not rate.info.feature_shape == rate.unit.feature_shape == network.feature_shape:
                raise CheckpointError(
                    f"{rate_name(rate.info.lmbda)} is for features of {flat(rate.unit.feature_shape)}, "
                    f"split={info.split} gives {flat(network.feature_shape)}; use the image size it was trained with, "
                    "or train anew"
                )

    def __getitem__(self, lmbda: float) -> Rate:
        """Return the rate of a lambda, a number of any library.

        Raises:
            NoSuchRateError: there is none; the message lists those there are.
        """
        own = plain_value(lmbda)
        there = ", ".join(text_of(rate.info.lmbda) for rate in self.files)
        if isinstance(own, bool) or not isinstance(own, (int, float)):
            raise NoSuchRateError(f"lambda={own!r}: expected one number; there are rates of {there}")
        if own in self._rates:
            return self._rates[own]
        for rate in self.ranged:
            if rate.unit.range is not None and rate.unit.range.low <= own <= rate.unit.range.high:
                return rate.at(float(own))
        raise NoSuchRateError(f"lambda={own!r}: no such rate; there are {there}")

    def __iter__(self) -> Iterator[float]:
        return iter(self._rates)

    def __len__(self) -> int:
        return len(self._rates)


def _told_apart(rates: Sequence[Rate]) -> list[Rate]:
    """Leave out the rates that share a fingerprint with another one, and say so.

    Raises:
        CheckpointError: none is left.
    """
    sharing: dict[bytes, list[Rate]] = {}
    for rate in rates:
        sharing.setdefault(rate.unit.framing.fingerprint, []).append(rate)
    lines = [
        f"{' and '.join(rate_name(rate.info.lmbda) for rate in same)}: their tables have one fingerprint, "
        f"{fingerprint.hex()}, as with rates that send next to nothing; no frame could say which it is of: move "
        "all but one of them away to use that one, or train them anew with larger lambdas"
        for fingerprint, same in sharing.items()
        if len(same) > 1
    ]
    left = [rate for same in sharing.values() if len(same) == 1 for rate in same]
    if rates and not left:
        raise CheckpointError("; ".join(lines))
    for line in lines:
        say(f"Left out {line}")
    return left
