"""What a rate's file says of itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from bottlenecks.rates.places import CheckpointError
from bottlenecks.shapes import Shapes, are_shapes, flat_shapes, is_shape, shapes_of

FORMAT_VERSION = 1


def _is_lambda(value: Any) -> bool:
    return type(value) is float and 0 < value < math.inf


def _is_range(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_lambda, value)) and value[0] < value[1]


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


EXPECTED: Mapping[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("model", "split", "data", "unit_name", "backbone_fingerprint"), lambda value: type(value) is str),
    **dict.fromkeys(("backbone", "preprocessing", "unit", "training", "metrics"), lambda value: type(value) is dict),
    "image_shape": is_shape,
    "feature_shape": are_shapes,
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
        preprocessing: image to input, as `Preprocessing.to_dict`.
        class_names: of the backbone's outputs, [] where unknown.
        split: the split point.
        image_shape: (3, H, W) of the network's input in training.
        feature_shape: (C, H, W) of each tensor that crosses the cut.
        unit_name: of the unit, or of the variant; the rate goes by it.
        unit: `architecture` and the constructor's arguments.
        lmbda: the `lambda` of the loss; of a unit of any rate, the lowest and the highest.
        data: the data it was trained on.
        training: all settings that bear on the outcome.
        training_hash: of those.
        metrics: on the held-back part of the training images.
        format_version: of this file.
    """

    model: str
    backbone: Mapping[str, Any]
    backbone_fingerprint: str
    preprocessing: Mapping[str, Any]
    class_names: list[str]
    split: str
    image_shape: list[int]
    feature_shape: Shapes
    unit_name: str
    unit: Mapping[str, Any]
    lmbda: float | list[float]
    data: str
    training: Mapping[str, Any]
    training_hash: str
    metrics: Mapping[str, float] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION

    def to_metadata(self) -> dict[str, Any]:
        """Return the metadata of the file; `lmbda` goes by its public name there."""
        fields = {**asdict(self), "feature_shape": flat_shapes(self.feature_shape)}
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
        return replace(info, feature_shape=shapes_of(metadata["feature_shape"]))
