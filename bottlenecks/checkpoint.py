"""One file a rate, and the ladder of all rates of one split."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bottlenecks.coder import SymbolTables
from bottlenecks.errors import UsageError
from bottlenecks.features import Features
from bottlenecks.rate_files import CheckpointError, find_rates, place_of, rate_name, rate_path, text_of
from bottlenecks.rate_range import finest_within
from bottlenecks.splitting.cut import SplitNetwork
from bottlenecks.terminal import say
from bottlenecks.units import Bottleneck, make_unit
from bottlenecks.weights import fingerprint, read_safetensors, write_safetensors

FORMAT_VERSION = 1
TABLES = ("frequencies", "lengths", "offsets")


MAX_SIDE = 2**14  # of a shape that a file may claim


def _is_shape(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 3
        and all(type(side) is int and 0 < side <= MAX_SIDE for side in value)
    )


def _are_shapes(value: Any) -> bool:
    """Tell a shape, or several."""
    return _is_shape(value) or (isinstance(value, list) and len(value) > 1 and all(map(_is_shape, value)))


def _is_lambda(value: Any) -> bool:
    return type(value) is float and 0 < value < math.inf


def _is_range(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_lambda, value)) and value[0] < value[1]


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


EXPECTED: Mapping[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("model", "split", "data", "unit_name", "backbone_fingerprint"), lambda value: type(value) is str),
    **dict.fromkeys(("backbone", "preprocessing", "unit", "training", "metrics"), lambda value: type(value) is dict),
    "image_shape": _is_shape,
    "feature_shape": _are_shapes,
    "class_names": _is_names,
    "lmbda": lambda value: _is_lambda(value) or _is_range(value),
}


@dataclass(frozen=True)
class RateInfo:
    """What a rate checkpoint says of itself, JSON-able throughout.

    Attributes:
        model: name of the backbone.
        backbone: the `BackboneSpec` that builds it again; a weights file under the same root is given relative to
            the folder of the rate.
        backbone_fingerprint: of the very tensors that the unit was trained around.
        preprocessing: picture to input, as `Preprocessing.to_dict`.
        class_names: of the backbone's outputs, [] where unknown.
        split: the split point.
        image_shape: (3, H, W) of the network's input in training.
        feature_shape: (C, H, W) at the cut, or one such for each tensor that crosses.
        unit_name: of the unit, or of the variant; the rate goes by it.
        unit: `architecture` and the constructor's arguments.
        lmbda: the `lambda` of the loss; of a unit of any rate, the lowest and the highest.
        data: the data it was trained on.
        training: all settings that bear on the outcome.
        training_hash: of those.
        metrics: on the held-back part of the training pictures.
        format_version: of this file.
    """

    model: str
    backbone: Mapping[str, Any]
    backbone_fingerprint: str
    preprocessing: Mapping[str, Any]
    class_names: list[str]
    split: str
    image_shape: list[int]
    feature_shape: list[Any]
    unit_name: str
    unit: Mapping[str, Any]
    lmbda: float | list[float]
    data: str
    training: Mapping[str, Any]
    training_hash: str
    metrics: Mapping[str, float] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION

    def to_metadata(self) -> dict[str, Any]:
        """Give the metadata of the file; `lmbda` goes by its public name there."""
        fields = asdict(self)
        fields["lambda"] = fields.pop("lmbda")
        return fields

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any], path: Path) -> RateInfo:
        """Read the metadata of a file.

        Raises:
            CheckpointError: it is of another version, or no rate checkpoint at all.
        """
        version = metadata.get("format_version")
        if version is None:
            raise CheckpointError(f"{path}: no rate checkpoint (it states no format version)")
        if version != FORMAT_VERSION:
            raise CheckpointError(
                f"{path}: format version {version}, this program reads {FORMAT_VERSION}; "
                "train the rate anew, or use the program that wrote it"
            )
        try:
            info = cls(**{"lmbda" if key == "lambda" else key: value for key, value in metadata.items()})
        except TypeError as error:
            raise CheckpointError(f"{path}: damaged metadata ({error}); train the rate anew") from None
        wrong = [name for name, holds in EXPECTED.items() if not holds(getattr(info, name))]
        if wrong:
            value = getattr(info, wrong[0])
            raise CheckpointError(f"{path}: damaged metadata ({wrong[0]}={value!r}); train the rate anew")
        return info


@dataclass(frozen=True)
class Rate:
    """One operating point: a unit that is ready for bytes, and what is known of it.

    Attributes:
        unit: in eval mode, with tables.
        info: what its file says.
        folder: of its file, where it has one; a backbone's file is given relative to it.
        chosen: lambda within the range of a unit of any rate; None for its highest.
    """

    unit: Bottleneck
    info: RateInfo
    folder: Path = Path()
    chosen: float | None = None

    @property
    def lmbda(self) -> float:
        """The lambda that the rate is for."""
        own = self.info.lmbda
        return own if isinstance(own, float) else self.chosen or own[-1]

    @property
    def multiplier(self) -> int:
        """The multiplier of the unit's steps, 0 for a unit of one rate."""
        return 0 if self.unit.range is None else self.unit.range.multiplier(self.lmbda)

    def at(self, lmbda: float) -> Rate:
        """Return another rate of a unit of any rate.

        Raises:
            UsageError: it is outside of the range.
        """
        assert self.unit.range is not None
        self.unit.range.multiplier(lmbda)
        return replace(self, chosen=lmbda)

    def at_multiplier(self, multiplier: int) -> Rate:
        """Return the rate of a frame with this multiplier."""
        return self if self.unit.range is None else self.at(self.unit.range.lmbda(multiplier))

    def compress(self, features: Features) -> list[bytes]:
        """Code features at this rate."""
        return self.unit.compress(features, self.multiplier)

    def compress_within(self, features: Features, budget_bytes: int) -> tuple[Rate, bytes]:
        """Code one image's features at the finest of the unit's rates whose frame fits, or at its coarsest."""
        rates = self.unit.range
        ends = (0, 0) if rates is None else (rates.lowest, rates.highest)
        multiplier, frame = finest_within(*ends, lambda one: self.unit.compress(features, one)[0], budget_bytes)
        return self.at_multiplier(multiplier), frame


def save_rate(path: Path, rate: Rate) -> None:
    """Write a rate, all or nothing."""
    tensors = {f"unit.{name}": tensor for name, tensor in rate.unit.stored_state().items()}
    for prefix, tables in zip(_table_names(rate.unit), rate.unit.tables, strict=True):
        tensors |= {prefix + name: torch.tensor(getattr(tables, name)) for name in TABLES}
    write_safetensors(path, tensors, {**rate.info.to_metadata(), "tensors": fingerprint(tensors)})


def read_info(path: Path) -> RateInfo:
    """Read what a rate checkpoint says of itself."""
    return _read(path)[1]


def load_rate(path: Path) -> Rate:
    """Read a rate: the unit in eval mode with its weights and tables.

    Raises:
        CheckpointError: damaged, of another version, or inconsistent.
    """
    tensors, info = _read(path)
    try:
        unit = make_unit(info.unit["architecture"], info.unit["config"])
        unit.load_state_dict(_with_prefix(tensors, "unit."))
        unit.finalise(
            [SymbolTables(**{name: tensors[prefix + name].numpy() for name in TABLES}) for prefix in _table_names(unit)]
        )
        if unit.range is not None and text_of(info.lmbda) != str(unit.range):
            raise ValueError(f"{rate_name(info.lmbda)}, and a range of {unit.range}")
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{path}: weights and description do not fit each other ({reason})") from None
    return Rate(unit.eval(), info, path.parent)


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
        """List the rates to judge, from coarse to fine: all of their own, and so many of each unit of any rate."""
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
            if not as_tuples(rate.info.feature_shape) == rate.unit.feature_shape == network.feature_shape:
                raise CheckpointError(
                    f"{rate_name(rate.info.lmbda)} is for features of {rate.unit.feature_shape}, "
                    f"split={info.split} gives {network.feature_shape}; use the image size it was trained with, or "
                    "train anew"
                )

    def __getitem__(self, lmbda: float) -> Rate:
        """Give the rate of a lambda.

        Raises:
            CheckpointError: there is none; the message lists those there are.
        """
        if lmbda in self._rates:
            return self._rates[lmbda]
        for rate in self.ranged:
            if rate.unit.range is not None and rate.unit.range.low <= lmbda <= rate.unit.range.high:
                return rate.at(lmbda)
        there = ", ".join(text_of(rate.info.lmbda) for rate in self.files)
        raise CheckpointError(f"lambda={lmbda!r}: no such rate; there are {there}")

    def __contains__(self, lmbda: object) -> bool:
        try:
            return isinstance(lmbda, float) and bool(self[lmbda])
        except CheckpointError:
            return False

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


def as_tuples(shape: Any) -> Any:
    """Turn a shape, or a list of shapes, as JSON has them into tuples."""
    return tuple(map(as_tuples, shape)) if isinstance(shape, (list, tuple)) else shape


def _read(path: Path) -> tuple[dict[str, Tensor], RateInfo]:
    try:
        tensors, metadata = read_safetensors(path)
    except UsageError as error:
        raise CheckpointError(str(error)) from None
    written = metadata.pop("tensors", None)
    info = RateInfo.from_metadata(metadata, path)
    if written != fingerprint(tensors):
        raise CheckpointError(f"{path}: damaged, its tensors are not those that were written; train the rate anew")
    return tensors, info


def _table_names(unit: Bottleneck) -> list[str]:
    """Say under which names a unit's tables lie: of several tensors each has its number."""
    return ["tables."] if unit.num_tables == 1 else [f"tables.{index}." for index in range(unit.num_tables)]


def _with_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
