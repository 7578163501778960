"""Which settings a training depends on; runs that differ in others alone come to the same result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Settings = Mapping[str, Any]

ANY_UNIT = ("epochs", "lr", "warmup", "gradient_clip", "cache_precision")
OWN = {  # of a unit's architecture
    "transform": ("linear_lr", "weight_decay", "fit_images"),
    "": ("entropy_lr", "warm_start", "calibration_images"),
}
DATA = ("batch_size", "seed", "augment")
VIEWS = ("views", "flip")  # where there is augmentation
TRAINER = (
    "devices",
    "num_nodes",
    "precision",
    "accumulate_grad_batches",
    "gradient_clip_val",
    "gradient_clip_algorithm",
    "max_steps",
    "max_time",
    "fast_dev_run",
    "overfit_batches",
    "limit_train_batches",
    "limit_val_batches",
    "val_check_interval",
    "check_val_every_n_epoch",
)
# Of the data; what the others come to shows in the images.
WITHOUT_EFFECT = ("_target_", "root", "download", "num_workers", "limit_test", "skip_damaged", "max_megapixels")


def comparable(old: Settings, new: Settings) -> tuple[Settings, Settings]:
    """Reduce the settings of two trainings to those that they depend on.

    Images are compared as they were found. Where they differ, or the old settings do not know them, those of the data
    are left in: they are what a user can set right.
    """
    same = old.get("images") == new.get("images")
    left_out = () if "images" in old else ("images",)
    reduced = [{key: value for key, value in relevant(one, same).items() if key not in left_out} for one in (old, new)]
    return reduced[0], reduced[1]


def relevant(settings: Settings, images_speak: bool = True) -> dict[str, Any]:
    """Return the settings that a training depends on.

    Args:
        settings: of a run, in groups.
        images_speak: leave out which images were asked for; those that were found are in a group of their own.
    """
    kept = dict(settings)
    if "training" in kept:
        architecture = kept["unit"]["architecture"]
        kept["training"] = _only(kept["training"], (*ANY_UNIT, *OWN.get(architecture, OWN[""])))
    if "trainer" in kept:
        kept["trainer"] = _only(kept["trainer"], TRAINER) | {"precision": _precision(kept["trainer"])}
    if "data" in kept and images_speak:
        kept["data"] = _only(kept["data"], (*DATA, *VIEWS) if kept["data"].get("augment") else DATA)
    elif "data" in kept:
        kept["data"] = {name: value for name, value in kept["data"].items() if name not in WITHOUT_EFFECT}
    return kept


def _only(group: Settings, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: value for name, value in group.items() if name in names}


def _precision(trainer: Settings) -> str:
    """Name a precision in full: Lightning takes 32 for 32-true."""
    precision = str(trainer.get("precision", "32-true"))
    return f"{precision}-true" if precision.isdigit() else precision
