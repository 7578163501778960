"""What an image processor of the transformers library does, as our preprocessing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from PIL import Image

from bottlenecks.errors import UsageError
from bottlenecks.images.geometry import Size
from bottlenecks.images.preprocessing import Preprocessing

DEFAULTS: Mapping[str, Any] = {
    "do_resize": True,
    "do_center_crop": False,
    "do_rescale": True,
    "do_normalize": True,
    "default_to_square": True,
    "resample": int(Image.Resampling.BILINEAR),
    "rescale_factor": 1 / 255,
}  # where neither a file nor the processor's class says
HARMLESS = (*DEFAULTS, "do_convert_rgb", "do_reduce_labels", "disable_grouping")
WITHOUT_EQUAL = ("size_divisor", "ensure_multiple_of", "max_num_patches")  # settings beside those that are `true`
OWN_WAYS = ("LevitImageProcessor", "PerceiverImageProcessor")  # to resize, that no setting of theirs tells
CONVNEXT_WHOLE = 384  # pixels of the short side from which on `crop_pct` crops nothing, and the image is squashed


def from_processor(values: Mapping[str, Any], source: str) -> Preprocessing:
    """Take over what an image processor does.

    Args:
        values: its settings, as `preprocessor_config.json` has them; what is missing has the library's usual value.
        source: where they are from, for messages.

    Raises:
        UsageError: it does what has no equal here, such as borders; the message names it.
    """
    values = {**DEFAULTS, **{name: value for name, value in values.items() if value is not None}}
    for name, value in values.items():
        if (value is True and name not in HARMLESS) or (name in WITHOUT_EQUAL and value != 1) or value in OWN_WAYS:
            raise _refusal(source, name, value)
    resize, crop = _sizes(values, source)
    mean, std = _normalisation(values)
    interpolation = Image.Resampling(values["resample"]).name.lower()
    return Preprocessing(resize, crop, mean, std, interpolation, crop_down=crop is not None)


def _sizes(values: Mapping[str, Any], source: str) -> tuple[Size | None, Size | None]:
    """Return what images are resized to, and what is cut from them."""
    crop = _size("crop_size", values, True, source) if values["do_center_crop"] else None
    if not values["do_resize"]:
        return None, crop
    resize = _size("size", values, values["default_to_square"], source)
    if "crop_pct" not in values or not isinstance(resize, int):
        return resize, crop
    if resize >= CONVNEXT_WHOLE:
        return (resize, resize), None
    return int(resize / values["crop_pct"]), (resize, resize)


def _size(name: str, values: Mapping[str, Any], square: bool, source: str) -> Size:
    """Return `(height, width)`, or the length of the short side."""
    match values.get(name):
        case int(side):
            return (side, side) if square else side
        case [int(height), int(width)]:
            return height, width
        case {"height": int(height), "width": int(width), **rest} if not rest:
            return height, width
        case {"shortest_edge": int(side), **rest} if not rest:
            return side
    raise _refusal(source, name, values.get(name))


def _normalisation(values: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return mean and deviation of pixels in 0..1."""
    scale = 255 * values["rescale_factor"] if values["do_rescale"] else 255.0
    scale = 1.0 if math.isclose(scale, 1, rel_tol=1e-6) else scale
    mean, std = values.get("image_mean"), values.get("image_std")
    if not values["do_normalize"] or mean is None or std is None:
        mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    return tuple(value / scale for value in mean), tuple(value / scale for value in std)


def _refusal(source: str, name: str, value: object) -> UsageError:
    return UsageError(
        f"{source}: its image processor has {name}={value}, which has no equal here; edit or remove the file, and "
        "state what comes closest as data.preprocessing={resize: …, crop: …, mean: …, std: …, interpolation: …}"
    )
