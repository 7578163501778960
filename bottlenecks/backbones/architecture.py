"""Networks as a configuration names them, built with random weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from torch import nn
from torchvision import models

from bottlenecks.backbones.detectors import make_detector
from bottlenecks.backbones.timm_features import import_timm
from bottlenecks.backbones.transformers_models import build_model, task_of
from bottlenecks.errors import UsageError, closest, reason
from bottlenecks.settings.model import AUTO, BackboneSpec
from bottlenecks.settings.targets import path_of

ANY_CLASSES = 1000  # for a factory that has to be told a number where none is known, as in a listing of split points
TORCHVISION = {"classification": models, "segmentation": models.segmentation, "detection": models.detection}
LEFT_OUT = ("quantized_", "maskrcnn_", "keypointrcnn_")  # of torchvision's networks
HUB = ("hf-hub:", "hf_hub:")  # how names begin whose description lies on the hub


def build_network(spec: BackboneSpec, num_classes: int | None = None) -> nn.Module:
    """Build the architecture with random weights.

    Args:
        spec: which one.
        num_classes: number of outputs; for detection, of object classes, without the background. None leaves the
            library's default: 1,000; 21 with the background for segmentation; 90 for detection.

    Returns:
        The network, in eval mode. Segmentation gives a dict whose `out` is (N, classes, H, W), detection the raw
        outputs of a `Detector`. For embeddings the classifier is left out, where the library is torchvision or timm.

    Raises:
        UsageError: no such architecture, the message names the closest ones; it is for another task, or has no such
            arguments.
    """
    try:
        return _build(spec, num_classes).eval()
    except Exception as error:  # of any kind, of the library's own code
        if isinstance(error, UsageError) or not spec.arguments:
            raise
        raise UsageError(
            f"model.arguments={dict(spec.arguments)}: {spec.name} cannot be built so ({reason(error)})"
        ) from error


def sized(spec: BackboneSpec, image_size: Any) -> BackboneSpec:
    """Have a network of timm's that is built for one size of images built for that of the data.

    Args:
        spec: the network.
        image_size: of the data, None where the network's own is taken.

    Raises:
        UsageError: there is no such network.
    """
    given = spec.arguments or {}
    if image_size is None or spec.library != "timm" or "img_size" in given:
        return spec
    known = import_timm().models.get_pretrained_cfg(find_architecture(spec), allow_unregistered=True)
    fixed = known is not None and known.fixed_input_size
    return replace(spec, arguments={**given, "img_size": image_size}) if fixed else spec


def _build(spec: BackboneSpec, num_classes: int | None) -> nn.Module:
    if not spec.has_classes:
        num_classes = None
    classes = {} if num_classes is None else {"num_classes": num_classes}
    if spec.library == "timm" and not spec.has_classes:
        classes = {"num_classes": 0}
    if spec.library == "custom":
        network = _from_factory(spec.factory or {}, num_classes)
        if not isinstance(network, nn.Module):
            raise UsageError(f"model.factory={spec.factory}: expected an nn.Module, got {type(network).__name__}")
        return network
    if spec.library == "transformers":
        return build_model(spec, num_classes)
    name = find_architecture(spec)
    given = {**(spec.arguments or {}), **classes}
    if spec.library == "timm":
        try:
            return import_timm().create_model(name, pretrained=False, **given)
        except (OSError, ValueError) as error:
            if not name.startswith(HUB):
                raise
            raise UsageError(
                f"model.architecture={name}: its description cannot be fetched from the hub ({reason(error)}); fetch "
                "it once where there is a network, or give a name that timm itself lists"
            ) from None
    if spec.has_classes:
        return _build_torchvision(name, spec, num_classes)
    network = _build_torchvision(name, replace(spec, task="classification"), None)
    network.set_submodule(_last_linear(network, spec), nn.Identity())
    return network


def _from_factory(factory: Mapping[str, Any], num_classes: int | None) -> Any:
    """Call a factory with the number of classes where it takes it, and where it has to have it in any case."""
    known = {} if num_classes is None else {"num_classes": num_classes}
    node = {**factory, "_target_": path_of(str(factory.get("_target_")))}
    try:
        return instantiate(node, **known)
    except InstantiationException as error:
        if not isinstance(error.__cause__, TypeError) or "num_classes" not in str(error.__cause__):
            raise
        return instantiate(node, **({} if known else {"num_classes": ANY_CLASSES}))


def find_architecture(spec: BackboneSpec) -> str:
    """Return the name of a network in its library.

    Raises:
        UsageError: there is none, the message names the closest ones; or it is for another task.
    """
    name, names = spec.architecture or spec.name, list_networks(spec.library)
    if spec.library == "timm" and _is_timms(name):
        return name
    if name not in names:
        hint = f"; one on the hub is model.name='{HUB[0]}{name}'" if spec.library == "timm" and "/" in name else ""
        raise UsageError(f"model.name={name}: no such network in {spec.library}; closest: {closest(name, names)}{hint}")
    if spec.library == "torchvision" and name not in _names(spec.task if spec.has_classes else "classification"):
        (task,) = (task for task in TORCHVISION if name in _names(task))
        raise UsageError(
            f"model.task={spec.task}: {name} is for {task}; set model.task={task}, or choose another network"
        )
    return name


def settle_task(spec: BackboneSpec) -> BackboneSpec:
    """Let the network say what it is for, where `model.task=auto` asks it: embeddings where it has no classes.

    Raises:
        UsageError: there is no such network.
    """
    if spec.task != AUTO:
        return spec
    if spec.library == "transformers":
        return replace(spec, task=task_of(spec))
    name, timm = find_architecture(spec), import_timm()
    known = timm.models.get_pretrained_cfg(name, allow_unregistered=True)
    num_classes = build_network(spec).num_classes if known is None else known.num_classes
    return replace(spec, task="classification" if num_classes else "embedding")


def classifiers_of(spec: BackboneSpec) -> tuple[str, ...]:
    """Name the modules that a network of torchvision or timm has for classes alone, () for other libraries.

    Raises:
        UsageError: they cannot be told from the rest.
    """
    if spec.library not in ("torchvision", "timm"):
        return ()
    if spec.library == "timm":
        network = build_network(spec)
        names = network.pretrained_cfg.get("classifier") or ()  # type: ignore[operator,union-attr]
        return (names,) if isinstance(names, str) else tuple(names)
    whole = _build_torchvision(find_architecture(spec), replace(spec, task="classification"), None)
    return (_last_linear(whole, spec),)


def _last_linear(network: nn.Module, spec: BackboneSpec) -> str:
    """Name the last linear layer of a torchvision network, which is its classifier."""
    names = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    if not names:
        raise UsageError(
            f"model.task={spec.task}: {spec.name} ends in no linear layer that could be left out; take timm's "
            "networks, model=timm model.name=…, or a factory of your own, model=custom"
        )
    return names[-1]


def _is_timms(name: str) -> bool:
    """Tell names that timm takes beside those that it lists: tagged ones, `resnet50.a1_in1k`, and `hf-hub:` ones."""
    base, _, tag = name.partition(".")
    return name.startswith(HUB) or (bool(tag) and name in import_timm().list_pretrained(f"{base}.*"))


def list_networks(library: str) -> list[str]:
    """List all networks of timm, or those of torchvision that classify, segment or detect."""
    if library == "timm":
        return list(import_timm().list_models())
    return [name for task in TORCHVISION for name in _names(task)]


def _build_torchvision(name: str, spec: BackboneSpec, num_classes: int | None) -> nn.Module:
    given = dict(spec.arguments or {})
    if spec.task == "classification":
        # Inception and GoogLeNet warn unless told whether to initialise; auxiliary outputs are for training alone.
        classes = {} if num_classes is None else {"num_classes": num_classes}
        return models.get_model(name, weights=None, **given, **classes)
    background = int(spec.task == "detection")  # torchvision counts it among the classes
    classes = {} if num_classes is None else {"num_classes": num_classes + background}
    network = models.get_model(name, weights=None, weights_backbone=None, **given, **classes)
    return make_detector(network) if spec.task == "detection" else network


def _names(task: str) -> list[str]:
    names = models.list_models(module=TORCHVISION[task]) if task in TORCHVISION else []
    return [name for name in names if not name.startswith(LEFT_OUT)]
