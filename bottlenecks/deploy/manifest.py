"""What a bundle says of itself, and every check on it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bottlenecks.coding.bitstream import VERSION
from bottlenecks.deploy.bundled_rate import BundledRate
from bottlenecks.deploy.fields import Rule, are_texts, check, is_number, is_text
from bottlenecks.shapes import Shape, Shapes, are_shapes, flat_shapes, is_shape, shapes_of
from bottlenecks.strict_json import check_version, parse_json

FORMAT_VERSION = 1
HEADS, PIXELS = ("float", "int8"), ("float", "uint8")
LATER = {"head": HEADS[0], "pixels": PIXELS[0]}  # stated where they are something else, which former programs refuse


EXPECTED: Mapping[str, Rule] = {
    **dict.fromkeys(("model", "split", "data", "task", "backbone_fingerprint", "metric"), is_text),
    "image_shape": is_shape,
    "feature_shape": are_shapes,
    **dict.fromkeys(("made_with", "files"), are_texts),
    **dict.fromkeys(("format_version", "bitstream_version"), lambda value: type(value) is int),
    "preprocessing": lambda value: isinstance(value, dict),
    "class_names": lambda value: isinstance(value, list) and all(map(is_text, value)),
    "unsplit": lambda value: value is None or is_number(value),
    "rates": lambda value: isinstance(value, list) and len(value) > 0,
    "head": lambda value: value in HEADS,
    "pixels": lambda value: value in PIXELS,
}


@dataclass(frozen=True)
class Manifest:
    """What a bundle says of itself; JSON-able.

    Attributes:
        model: name of the network.
        split: the split point.
        data: what the rates were trained on.
        task: what the network does.
        backbone_fingerprint: of the network's tensors.
        preprocessing: image to input, as `Preprocessing.to_dict`.
        image_shape: (3, H, W) of the network's input.
        feature_shape: (C, H, W) of each tensor that crosses the cut.
        class_names: of the network's outputs, [] where unknown.
        metric: what `score` and `unsplit` are.
        unsplit: the unsplit network's.
        rates: from coarse to fine.
        made_with: versions of what wrote the bundle.
        files: SHA-256 of every other file, by path.
        head: `float`, or `int8` where it computes in 8 bits.
        pixels: what the head takes: `float`, images (3, H, W) as the preprocessing gives them, or `uint8`, pixels
            (H, W, 3).
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
    feature_shape: Shapes
    class_names: Sequence[str]
    metric: str
    unsplit: float | None
    rates: tuple[BundledRate, ...]
    made_with: Mapping[str, str]
    files: Mapping[str, str]
    head: str = HEADS[0]
    pixels: str = PIXELS[0]
    bitstream_version: int = VERSION
    format_version: int = FORMAT_VERSION

    def to_json(self) -> str:
        """Write as JSON; the same content gives the same text."""
        content = {**asdict(self), "feature_shape": flat_shapes(self.feature_shape)}
        content["rates"] = [rate.to_dict() for rate in self.rates]
        content = {name: value for name, value in content.items() if name not in LATER or LATER[name] != value}
        return json.dumps(content, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n"

    @property
    def stated_rates(self) -> dict[str, Any]:
        """Return the lambdas of each unit by its fingerprint: what a server states and a device compares."""
        return {rate.fingerprint: rate.stated for rate in self.rates}

    @property
    def input_shape(self) -> Shape:
        """Shape of what the head takes of an image."""
        channels, height, width = self.image_shape
        return (height, width, channels) if self.pixels == "uint8" else (channels, height, width)

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Read what `to_json` wrote.

        Raises:
            ValueError: it is something else; the message says what.
        """
        content = parse_json(text)
        for name, own in (("format_version", FORMAT_VERSION), ("bitstream_version", VERSION)):
            check_version(name, content[name], own)
        content = {**LATER, **content}
        check("", content, EXPECTED)
        rates = [BundledRate.from_dict(rate) for rate in content["rates"]]
        for name in ("folder", "fingerprint"):
            if len({getattr(rate, name) for rate in rates}) != len(rates):
                raise ValueError(f"two rates have one {name.replace('folder', 'lambda')}")
        content["feature_shape"] = shapes_of(content["feature_shape"])
        return cls(**{**content, "rates": tuple(sorted(rates, key=lambda rate: rate.lmbda))})
