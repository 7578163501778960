"""One rate of a bundle, or a unit of any rate: what a manifest says of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from bottlenecks.coding.rate_range import RateRange
from bottlenecks.deploy.fields import Rule, check, is_above_zero, is_number, is_text
from bottlenecks.shapes import Shape, Shapes, are_shapes, flat_shapes, shapes_of

OF_POINT: Mapping[str, Rule] = {
    "lambda": is_above_zero,
    "payload_bytes": is_above_zero,
    "score": lambda value: value is None or is_number(value),
    "agreement": is_number,
    "other_symbols": lambda value: value is None or is_number(value),
}
LATER = {"other_symbols": None}  # stated where it is something else
OF_ONE_RATE: Mapping[str, Rule] = {
    **OF_POINT,
    "fingerprint": lambda value: is_text(value) and re.fullmatch("[0-9a-f]{4}", value) is not None,
    "latent_shape": are_shapes,
}
OF_ANY_RATE: Mapping[str, Rule] = {
    **OF_ONE_RATE,
    "lambda": lambda value: isinstance(value, list) and len(value) == 2 and all(map(is_above_zero, value)),
    "range": lambda value: isinstance(value, dict),
    "curve": lambda value: isinstance(value, list) and len(value) > 0,
}


@dataclass(frozen=True)
class RatePoint:
    """What was measured at one rate of a unit of any rate; the fields are those of `BundledRate`."""

    lmbda: float
    payload_bytes: float
    score: float | None
    agreement: float
    other_symbols: float | None = None


@dataclass(frozen=True)
class BundledRate:
    """What a manifest says of a rate, or of a unit of any rate.

    Attributes:
        lmbda: the `lambda` of the loss; a larger one is finer. Of a unit of any rate it is the largest.
        fingerprint: of its tables or of the unit, hexadecimal, as frames carry it.
        latent_shape: (K, h, w) of each tensor that crosses.
        payload_bytes: mean on the wire per image, header included, as `evaluate.py` measured it.
        score: the metric, 0..1, measured with it; None where nothing was labelled.
        agreement: share of images on which the split network decides as the unsplit one.
        other_symbols: share of the symbols that are not those of the head in float; None where the head is.
        range: of a unit of any rate: which multiplier of its steps stands for which lambda.
        curve: what was measured over that range, from coarse to fine.
    """

    lmbda: float
    fingerprint: str
    latent_shape: Shapes
    payload_bytes: float
    score: float | None
    agreement: float
    other_symbols: float | None = None
    range: RateRange | None = None
    curve: tuple[RatePoint, ...] = ()

    @property
    def folder(self) -> str:
        """Name the rate's folder inside the bundle."""
        return f"lambda={self.range or repr(self.lmbda)}"

    @property
    def stated(self) -> float | list[float]:
        """The lambda, or both ends of the range, as manifests and servers state it."""
        return self.lmbda if self.range is None else [self.range.low, self.range.high]

    def takes(self, lmbda: float) -> bool:
        """Return whether images can be sent at this lambda."""
        return lmbda == self.lmbda if self.range is None else self.range.low <= lmbda <= self.range.high

    def multipliers(self, lmbda: float) -> tuple[int, ...]:
        """Return the multiplier of the steps for a lambda, alone in a tuple; () for a unit of one rate."""
        return () if self.range is None else (self.range.multiplier(lmbda),)

    def lmbda_of(self, multiplier: int) -> float:
        """Return the lambda that a frame's multiplier stands for."""
        return self.lmbda if self.range is None else self.range.lmbda(multiplier)

    def inputs(self, shapes: Shapes) -> Sequence[Shape]:
        """List the shapes of what a graph takes: arrays of these shapes, and the multiplier of any rate."""
        return shapes if self.range is None else (*shapes, ())

    def mean_bytes(self) -> dict[float, float]:
        """Return the mean bytes of every rate that there is, by lambda: as measured, and between in proportion."""
        if self.range is None:
            return {self.lmbda: self.payload_bytes}
        places = [self.range.multiplier(point.lmbda) for point in self.curve]
        measured = np.log([point.payload_bytes for point in self.curve])
        steps = range(self.range.lowest, self.range.highest + 1)
        return {self.range.lmbda(step): float(np.exp(np.interp(step, places, measured))) for step in steps}

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        content = {**_public(asdict(self)), "latent_shape": flat_shapes(self.latent_shape)}
        if self.range is None:
            return {name: content[name] for name in OF_ONE_RATE if name in content}
        curve = [_public(asdict(point)) for point in self.curve]
        return {**content, "lambda": self.stated, "range": self.range.to_dict(), "curve": curve}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> BundledRate:
        """Read what `to_dict` gave.

        Raises:
            ValueError: it is something else.
        """
        content = {**LATER, **content}
        if "range" not in content:
            check("rates.", content, OF_ONE_RATE)
            return cls(**{**_internal(content), "latent_shape": shapes_of(content["latent_shape"])})
        check("rates.", content, OF_ANY_RATE)
        curve = [{**LATER, **point} for point in content["curve"]]
        for point in curve:
            check("rates.curve.", point, OF_POINT)
        own = RateRange.from_dict(content["range"])
        points = sorted((RatePoint(**_internal(point)) for point in curve), key=lambda one: one.lmbda)
        if content["lambda"] != [own.low, own.high] or points[0].lmbda < own.low or points[-1].lmbda > own.high:
            raise ValueError(f"rates.lambda={content['lambda']} with a range of {own}")
        latents = shapes_of(content["latent_shape"])
        fields = {**_internal(content), "lmbda": own.high, "range": own, "curve": tuple(points)}
        return cls(**{**fields, "latent_shape": latents})


def _public(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Name lambda as users do, and leave out what is as it was before it could be stated."""
    named = {"lambda" if name == "lmbda" else name: value for name, value in fields.items()}
    return {name: value for name, value in named.items() if name not in LATER or value != LATER[name]}


def _internal(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {"lmbda" if name == "lambda" else name: value for name, value in fields.items()}
