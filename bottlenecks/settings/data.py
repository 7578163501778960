"""What is known of a dataset before its module is imported: what its labels are, what it may be given; no torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from bottlenecks.errors import UsageError, check_flag, check_number
from bottlenecks.images.checks import check_size
from bottlenecks.images.preprocessing import Preprocessing

Task = Literal["classification", "segmentation", "detection"]
Labels = Literal["imagenet", "voc", "coco", "own", "none"]


class Kind(NamedTuple):
    """What the targets of a dataset are; its class says the same.

    Attributes:
        task: that they are for.
        labels: whose classes they count, see `ImageDataModule`.
    """

    task: Task
    labels: Labels


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "datamodules.camvid.CamVid": Kind("segmentation", "own"),
        "datamodules.cifar10.Cifar10": Kind("classification", "own"),
        "datamodules.coco.Coco": Kind("detection", "coco"),
        "datamodules.coco_file.CocoFile": Kind("detection", "own"),
        "datamodules.coco_segmentation.CocoSegmentation": Kind("segmentation", "voc"),
        "datamodules.digit_boxes.DigitBoxes": Kind("detection", "own"),
        "datamodules.digit_masks.DigitMasks": Kind("segmentation", "own"),
        "datamodules.digits.Digits": Kind("classification", "own"),
        "datamodules.image_folder.ImageFolder": Kind("classification", "own"),
        "datamodules.imagenet.ImageNet": Kind("classification", "imagenet"),
        "datamodules.imagenette.Imagenette": Kind("classification", "imagenet"),
        "datamodules.mask_folder.MaskFolder": Kind("segmentation", "own"),
        "datamodules.pictures.PictureFolder": Kind("classification", "none"),
        "datamodules.voc.Voc": Kind("segmentation", "voc"),
        "datamodules.voc_detection.VocDetection": Kind("detection", "own"),
        "datamodules.voc_xml.VocXml": Kind("detection", "own"),
    }
)  # by the class that a configuration names; datasets of the user's are asked once they are imported
IMAGENETTE = {"full": "imagenette2", "320px": "imagenette2-320", "160px": "imagenette2-160"}  # size -> folder


NEEDED = ("batch_size", "held_back", "test_part", "flip")  # null says nothing of these
LEARN: Mapping[str, Task] = {"boxes": "detection", "masks": "segmentation"}  # what one's own COCO file is read for


def kind_of(values: Mapping[str, Any]) -> Kind | None:
    """Return what the targets of a dataset are, None where that is not known before it is imported.

    Args:
        values: `_target_` and its arguments.
    """
    kind = KINDS.get(str(values["_target_"]))
    return kind._replace(task=LEARN[values["learn"]]) if kind and "learn" in values else kind


def check_data(values: Mapping[str, Any]) -> None:
    """Refuse settings of a dataset that no images could make right.

    Args:
        values: its arguments, any of them.

    Raises:
        UsageError: one has an impossible value.
    """
    for name, check in _CHECKS.items():
        if values.get(name) is not None or (name in values and name in NEEDED):
            check(f"data.{name}", values[name])


def _count(least: int) -> Callable[[str, Any], None]:
    return lambda argument, value: check_number(argument, value, least, whole=True)


def check_part(argument: str, part: Any) -> None:
    """Refuse what is neither a number of images nor a share of them.

    Raises:
        UsageError: it is not.
    """
    number = isinstance(part, (int, float)) and not isinstance(part, bool) and math.isfinite(part)
    if not number or part < 0 or (part > 1 and part != int(part)):
        raise UsageError(f"{argument}={part}: must be a number of images or a share between 0 and 1")


def check_limit(argument: str, count: Any) -> None:
    """Refuse what is no number of images to keep.

    Raises:
        UsageError: it is not.
    """
    number = isinstance(count, (int, float)) and not isinstance(count, bool) and math.isfinite(count)
    if not number or count < 1 or count != int(count):
        raise UsageError(f"{argument}={count}: must be a number of images from 1 up, or null for all")


def _augment(argument: str, value: Any) -> None:
    if not isinstance(value, bool) and value != "auto":
        raise UsageError(f"{argument}={value}: expected true, false or auto")


def _imagenette(argument: str, size: Any) -> None:
    if size not in [*IMAGENETTE]:
        raise UsageError(f"{argument}={size}: there are {', '.join(IMAGENETTE)}")


def _learn(argument: str, value: Any) -> None:
    if value not in [*LEARN]:
        raise UsageError(f"{argument}={value}: expected {' or '.join(LEARN)}")


def _names(argument: str, classes: Any) -> None:
    several = isinstance(classes, (Sequence, Mapping)) and not isinstance(classes, str)
    names = [str(name) for name in classes] if several else []
    if not names or len(set(names)) < len(names):  # of a mapping, its keys
        raise UsageError(f"{argument}={classes}: expected a list of names, each once, or null")


_CHECKS: Mapping[str, Callable[[str, Any], Any]] = {
    "batch_size": _count(1),
    "num_workers": _count(0),
    "views": _count(1),
    "num_train": _count(2),
    "num_test": _count(1),
    "flip": check_flag,
    "skip_damaged": check_flag,
    "augment": _augment,
    "held_back": check_part,
    "test_part": check_part,
    **dict.fromkeys(("limit_train", "limit_val", "limit_test"), check_limit),
    "image_size": check_size,
    "preprocessing": lambda _, values: Preprocessing.from_dict(values),
    "max_megapixels": partial(check_number, least=1e-6),
    "size": _imagenette,
    "learn": _learn,
    "classes": _names,
}
