"""What a bundle says of itself, and every check on it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bottlenecks.bitstream import VERSION

FORMAT_VERSION = 1
MAX_ELEMENTS = 2**28  # of a tensor that a manifest may claim


def _is_shape(value: Any) -> bool:
    sides = isinstance(value, list) and len(value) == 3 and all(type(side) is int and side > 0 for side in value)
    return sides and math.prod(value) <= MAX_ELEMENTS


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e12


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _are_texts(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(text, str) for text in value.values())


def _are_shapes(value: Any) -> bool:
    """Tell a shape, or several."""
    return _is_shape(value) or (isinstance(value, list) and len(value) > 1 and all(map(_is_shape, value)))


def shapes_of(shape: Sequence[Any]) -> list[tuple[int, ...]]:
    """List the shapes of the tensors, of which there may be one or several."""
    return [tuple(shape)] if isinstance(shape[0], int) else [tuple(one) for one in shape]


EXPECTED: Mapping[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("model", "split", "data", "task", "backbone_fingerprint", "metric"), _is_text),
    "image_shape": _is_shape,
    "feature_shape": _are_shapes,
    **dict.fromkeys(("made_with", "files"), _are_texts),
    **dict.fromkeys(("format_version", "bitstream_version"), lambda value: type(value) is int),
    "preprocessing": lambda value: isinstance(value, dict),
    "class_names": lambda value: isinstance(value, list) and all(map(_is_text, value)),
    "unsplit": lambda value: value is None or _is_number(value),
    "rates": lambda value: isinstance(value, list) and len(value) > 0,
}
EXPECTED_OF_RATE: Mapping[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("lambda", "payload_bytes"), lambda value: _is_number(value) and value > 0),
    "fingerprint": lambda value: _is_text(value) and re.fullmatch("[0-9a-f]{4}", value) is not None,
    "latent_shape": _are_shapes,
    "score": lambda value: value is None or _is_number(value),
    "agreement": _is_number,
}


def _check(prefix: str, content: Any, expected: Mapping[str, Callable[[Any], bool]]) -> None:
    if set(content) != set(expected):
        raise ValueError(f"missing or unknown keys: {', '.join(sorted(set(content) ^ set(expected)))}")
    for name, holds in expected.items():
        if not holds(content[name]):
            raise ValueError(f"{prefix}{name}={str(content[name])[:80]}")


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


@dataclass(frozen=True)
class BundledRate:
    """What a manifest says of a rate.

    Attributes:
        lmbda: the `lambda` of the loss; a larger one is finer.
        fingerprint: of its tables, hexadecimal, as frames carry it.
        latent_shape: (K, h, w), or one such for each tensor that crosses.
        payload_bytes: mean on the wire per picture, header included, as `evaluate.py` measured it.
        score: the metric, 0..1, measured with it; None where nothing was labelled.
        agreement: share of pictures on which the split network decides as the unsplit one.
    """

    lmbda: float
    fingerprint: str
    latent_shape: Sequence[Any]
    payload_bytes: float
    score: float | None
    agreement: float

    @property
    def folder(self) -> str:
        """Name the rate's folder inside the bundle."""
        return f"lambda={self.lmbda!r}"


@dataclass(frozen=True)
class Manifest:
    """What a bundle says of itself; JSON-able.

    Attributes:
        model: name of the network.
        split: the split point.
        data: what the rates were trained on.
        task: what the network does.
        backbone_fingerprint: of the network's tensors.
        preprocessing: picture to input, as `Preprocessing.to_dict`.
        image_shape: (3, H, W) of the network's input.
        feature_shape: (C, H, W) at the cut, or one such for each tensor that crosses.
        class_names: of the network's outputs, [] where unknown.
        metric: what `score` and `unsplit` are.
        unsplit: the unsplit network's.
        rates: from coarse to fine.
        made_with: versions of what wrote the bundle.
        files: SHA-256 of every other file, by path.
        bitstream_version: of the frames.
        format_version: of this manifest.
    """

    model: str
    split: str
    data: str
    task: str
    backbone_fingerprint: str
    preprocessing: Mapping[str, Any]
    image_shape: Sequence[int]
    feature_shape: Sequence[Any]
    class_names: Sequence[str]
    metric: str
    unsplit: float | None
    rates: tuple[BundledRate, ...]
    made_with: Mapping[str, str]
    files: Mapping[str, str]
    bitstream_version: int = VERSION
    format_version: int = FORMAT_VERSION

    def to_json(self) -> str:
        """Write as JSON; the same content gives the same text."""
        content = asdict(self)
        for rate in content["rates"]:
            rate["lambda"] = rate.pop("lmbda")
        return json.dumps(content, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Read what `to_json` wrote.

        Raises:
            ValueError: it is something else; the message says what.
        """
        content = json.loads(text, parse_constant=_refuse_constant)
        for name, own in (("format_version", FORMAT_VERSION), ("bitstream_version", VERSION)):
            if content[name] != own:
                raise ValueError(f"{name} {content[name]}, this program reads {own}")
        _check("", content, EXPECTED)
        for rate in content["rates"]:
            _check("rates.", rate, EXPECTED_OF_RATE)
        for name in ("lambda", "fingerprint"):
            if len({rate[name] for rate in content["rates"]}) != len(content["rates"]):
                raise ValueError(f"two rates have one {name}")
        rates = [
            BundledRate(**{"lmbda" if name == "lambda" else name: value for name, value in rate.items()})
            for rate in content["rates"]
        ]
        return cls(**{**content, "rates": tuple(sorted(rates, key=lambda rate: rate.lmbda))})
