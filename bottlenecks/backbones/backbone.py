"""Pretrained networks by name: load one, freeze it, know its transform."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from bottlenecks.backbones.architecture import build_network, classifiers_of
from bottlenecks.backbones.pretrained import find_weights
from bottlenecks.backbones.weights import load_exactly, own_names, without
from bottlenecks.errors import UsageError
from bottlenecks.images.preprocessing import Preprocessing
from bottlenecks.settings.model import GIVEN, BackboneSpec
from bottlenecks.tensor_files import fingerprint, write_safetensors


@dataclass(frozen=True)
class Backbone:
    """A frozen network, ready to be cut.

    Attributes:
        network: in eval mode, no parameter asks for a gradient.
        spec: how it was built.
        preprocessing: image to input tensor.
        class_names: names of its outputs, () where unknown.
        source: where its weights came from.
        fingerprint: identifies its tensors; rate checkpoints are tied to it.
    """

    network: nn.Module
    spec: BackboneSpec
    preprocessing: Preprocessing
    class_names: tuple[str, ...]
    source: str
    fingerprint: str = field(default="")

    def __post_init__(self) -> None:
        freeze(self.network)
        object.__setattr__(self, "fingerprint", fingerprint(self.network.state_dict()))

    def refreeze(self) -> None:
        """Freeze the network again: a program may have put it into another mode since.

        Raises:
            UsageError: its tensors are no longer those of the fingerprint.
        """
        freeze(self.network)
        if fingerprint(self.network.state_dict()) != self.fingerprint:
            raise UsageError(
                f"network: the weights of {self.spec.name} have changed since it was cut; cut it anew: cut(module, …)"
            )


def load_backbone(
    spec: BackboneSpec, num_classes: int | None = None, preprocessing: Preprocessing | None = None
) -> Backbone:
    """Build a network, load its weights exactly, and freeze it.

    Args:
        spec: which network; `spec.weights` is a name or a file here, `auto` has been decided before.
        num_classes: number of outputs; None takes what the weights have.
        preprocessing: used where the weights do not say which transform they were trained with.

    Returns:
        The frozen backbone.

    Raises:
        UsageError: the weights cannot be had, do not fit, or their transform is unknown.
    """
    if spec.library == GIVEN:
        raise UsageError(
            f"model={spec.name}: a module that a program handed over, which nothing can build again; hand it over once "
            "more: bottlenecks.load(folder, network=bottlenecks.cut(module, …))"
        )
    pretrained = find_weights(spec)
    class_names = pretrained.class_names if spec.has_classes else ()
    if num_classes is None and class_names:
        num_classes = len(class_names)
    network, state = build_network(spec, num_classes), pretrained.state
    if not spec.has_classes:
        state = without(classifiers_of(spec), own_names(network, state))
    load_exactly(network, state, f"model.weights={pretrained.source}")
    transform = pretrained.preprocessing or preprocessing
    if transform is None:
        raise UsageError(
            f"model.weights={spec.weights}: nothing says which transform these weights were trained with; "
            "state it as data.preprocessing={resize: …, crop: …, mean: …, std: …, interpolation: …}"
        )
    return Backbone(network, spec, transform, class_names, pretrained.source)


def freeze(network: nn.Module) -> nn.Module:
    """Put a network in eval mode and take its parameters out of every gradient."""
    return network.eval().requires_grad_(False)


def save_backbone(path: Path, backbone: Backbone, metadata: Mapping[str, Any]) -> None:
    """Write a trained backbone with all that is needed to use it again."""
    own = {
        "model": backbone.spec.name,
        "preprocessing": backbone.preprocessing.to_dict(),
        "class_names": list(backbone.class_names),
        "backbone_fingerprint": backbone.fingerprint,
    }
    write_safetensors(path, backbone.network.state_dict(), {**own, **metadata})
