"""Which weights a frozen network is to have."""

from __future__ import annotations

from pathlib import Path

from bottlenecks.errors import UsageError
from bottlenecks.settings.model import BackboneSpec, is_file, with_weights

TRAINED_ON_THE_SPOT = ("digits", "digit_masks", "digit_boxes")  # small enough to train a network for it in minutes


def backbone_path(checkpoints: Path, model: str, data: str) -> Path:
    """Name the file of a backbone trained here."""
    return checkpoints / model / "backbone" / f"{data}.safetensors"


def state_path(backbone: Path) -> Path:
    """Name the file that a backbone's training goes on from after an interruption."""
    return backbone.parent / ".resume" / f"{backbone.stem}.ckpt"


def choose_weights(spec: BackboneSpec, data: str, labels: str, checkpoints: Path) -> BackboneSpec | None:
    """Decide which weights a frozen network has.

    `auto` takes pretrained weights where the images carry ImageNet's labels or none, or the network has no classes;
    else the backbone trained earlier for this model and data, else, for digits alone, trains one now. A model of
    transformers may have been trained for the data elsewhere: `DEFAULT` takes it with its own classes.

    Args:
        spec: the network.
        data: name of the data.
        labels: whose classes its targets count.
        checkpoints: root of all checkpoints.

    Returns:
        The network with them, or None where it is to be trained now.

    Raises:
        UsageError: there are none, with the ways out; or they do not fit the labels.
    """
    kept = backbone_path(checkpoints, spec.name, data)
    if not spec.has_classes:
        labels = "none"
    if spec.weights == "auto":
        if labels != "own":
            return with_weights(spec, "DEFAULT")
        if kept.is_file():
            return with_weights(spec, kept)
        if data in TRAINED_ON_THE_SPOT:
            return None
        raise UsageError(
            f"model.weights=auto: no {spec.name} for data={data} yet ({kept} is not there); train one "
            "with stage=backbone, give a file with model.weights=FILE, or choose data with ImageNet's labels"
        )
    own_classes = (
        spec.library == "transformers" and spec.weights == "DEFAULT"
    )  # which are held against the data's later
    if labels == "own" and not (is_file(spec.weights) or own_classes):
        raise UsageError(
            f"model.weights={spec.weights}: those outputs are not the classes of data={data}; fine-tune "
            "with stage=backbone, give a file with model.weights=FILE, or use data=pictures to distil without labels"
        )
    check_file(spec)
    return spec


def check_file(spec: BackboneSpec) -> None:
    """Refuse a file of weights that is not there.

    Raises:
        UsageError: it is not.
    """
    if is_file(spec.weights) and not Path(spec.weights).is_file():
        raise UsageError(f"model.weights={spec.weights}: no such file")
