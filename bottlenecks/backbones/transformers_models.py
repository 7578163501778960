"""Vision models of the transformers library, from a folder or by their name on the hub."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from bottlenecks.environment import prescribed
from bottlenecks.errors import UsageError, reason
from bottlenecks.images.image_processors import from_processor
from bottlenecks.images.preprocessing import Preprocessing
from bottlenecks.settings.model import BackboneSpec

IMAGES = "pixel_values"  # what the library calls the input of images
TOWER = "vision_model"  # what it calls the part of a model of images and texts that sees the images
CLASSIFIER = "ForImageClassification"
UNNAMED = "LABEL_"  # begins the names of classes that have none
PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")
FROM_CLASS = ("do_center_crop", "default_to_square", "resample", "crop_pct", "image_mean", "image_std")


class VisionTower(nn.Sequential):
    """The part that sees the images under the name that it has in the whole model."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.add_module(TOWER, model)


@dataclass(frozen=True)
class Blueprint:
    """What a model is built of.

    Attributes:
        config: the library's own.
        model_class: takes it.
        options: of the class beside it.
        is_tower: whether it is the part of a model that sees the images.
    """

    config: Any
    model_class: Any
    options: Mapping[str, Any]
    is_tower: bool

    def finish(self, model: nn.Module) -> nn.Module:
        """Let a model give plain tensors, and name it as in the whole model."""
        model.__class__ = plain(type(model))  # the library loads weights by what a class is
        return VisionTower(model) if self.is_tower and not hasattr(model, TOWER) else model


def plain(model_class: Any) -> Any:
    """Make a class of models that take images alone, and give logits, or, where there are none, tensors by name."""

    class Plain(model_class):
        def forward(self, images: Tensor) -> Tensor | dict[str, Tensor]:
            output = super().forward(pixel_values=images)
            if "logits" in output:
                return output["logits"]
            return {name: value for name, value in output.items() if isinstance(value, Tensor)}

    Plain.__name__ = model_class.__name__
    return Plain


def build_model(spec: BackboneSpec, num_classes: int | None = None) -> nn.Module:
    """Build a model with random weights.

    Args:
        spec: which one.
        num_classes: number of outputs; None takes the configuration's.

    Returns:
        The model in eval mode: images (N, 3, H, W) to logits (N, classes), or to tensors by name, such as
        `last_hidden_state` (N, T, D) and `pooler_output` (N, D). Of a model of images and texts the part that sees the
        images.

    Raises:
        UsageError: there is no such model, or it takes no images.
    """
    given = {} if num_classes is None else {"num_labels": num_classes}
    blueprint = _blueprint(spec, **given)
    with _quietly():
        model = blueprint.model_class(blueprint.config, **blueprint.options).float()
    return blueprint.finish(model).eval()


def pretrained_state(spec: BackboneSpec) -> dict[str, Tensor]:
    """Return a model's own weights by name, those that its files lack left out.

    Raises:
        UsageError: they cannot be had or read.
    """
    blueprint = _blueprint(spec)
    with _quietly():
        try:
            model, found = blueprint.model_class.from_pretrained(
                _place(spec),
                config=blueprint.config,
                dtype=torch.float32,
                trust_remote_code=False,
                use_safetensors=True,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
                **blueprint.options,
            )
        except Exception as error:  # of the hub's client, of the files, of the library: each has its own
            raise _unavailable(spec, error) from None
    network = blueprint.finish(model)
    prefix = "" if network is model else f"{TOWER}."
    unfit = {name for name, *_ in found["mismatched_keys"]}
    lacking = {prefix + name for name in {*found["missing_keys"], *unfit}}
    return {name: tensor for name, tensor in network.state_dict().items() if name not in lacking}


def preprocessing_of(spec: BackboneSpec) -> Preprocessing | None:
    """Read what a model's image processor does, None where the model comes without one.

    Raises:
        UsageError: it does what has no equal here.
    """
    transformers = import_transformers()
    try:
        values, _ = transformers.ImageProcessingMixin.get_image_processor_dict(_place(spec))
    except Exception as error:  # of the hub's client, or of the files
        if any(Path(_place(spec), name).exists() for name in PROCESSOR_FILES):
            raise _unavailable(spec, error) from None
        return None
    kind = values.get("image_processor_type") or values.get("feature_extractor_type", "")
    known = getattr(transformers, kind.replace("FeatureExtractor", "ImageProcessor"), None)
    usual = {name: getattr(known, name, None) for name in FROM_CLASS}
    return from_processor({**usual, **values}, f"model.name={_place(spec)}")


def class_names_of(spec: BackboneSpec) -> tuple[str, ...]:
    """Name a model's outputs, () where its configuration does not."""
    names = _read_config(spec).id2label
    names = tuple(str(names[index]) for index in sorted(names))
    return () if all(name.startswith(UNNAMED) for name in names) else names


def task_of(spec: BackboneSpec) -> str:
    """Return what a model is for, as its configuration says.

    Raises:
        UsageError: there is no such model.
    """
    return "classification" if _classifies(_read_config(spec)) else "embedding"


def import_transformers() -> ModuleType:
    """Import the library, which is optional."""
    try:
        return importlib.import_module("transformers")
    except ImportError:
        raise UsageError(
            "model.library=transformers: transformers is not installed; pip install 'bottlenecks[transformers]'"
        ) from None


def _blueprint(spec: BackboneSpec, **given: Any) -> Blueprint:
    transformers, config = import_transformers(), _read_config(spec, **given)
    if spec.task == "classification":
        model_class = _find(transformers.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING, config)
        if model_class is None:
            raise UsageError(
                f"model.name={_place(spec)}: {type(config).__name__} has no form that classifies images; "
                "set model.task=embedding, or choose another model"
            )
        return Blueprint(config, model_class, {}, False)
    whole, tower = config, getattr(config, "vision_config", None)
    config = config if tower is None else tower
    model_class = _find(transformers.MODEL_MAPPING, config)
    if model_class is None or model_class.main_input_name != IMAGES:
        raise UsageError(
            f"model.name={_place(spec)}: {type(whole).__name__} takes no images alone; "
            "choose a vision model, or one of images and texts such as CLIP or SigLIP"
        )
    pooling = _classifies(whole) and _learns_to_pool(model_class, config)
    is_tower = tower is not None or config.model_type.endswith(TOWER)
    return Blueprint(config, model_class, {"add_pooling_layer": False} if pooling else {}, is_tower)


def _read_config(spec: BackboneSpec, **given: Any) -> Any:
    transformers = import_transformers()
    with _quietly():
        try:
            config, unknown = transformers.AutoConfig.from_pretrained(
                _place(spec), trust_remote_code=False, return_unused_kwargs=True, **(spec.arguments or {}), **given
            )
        except Exception as error:  # of the hub's client, of the files, of the library: each has its own
            raise _unavailable(spec, error) from None
    if unknown:
        raise UsageError(f"model.arguments: {type(config).__name__} has no setting {', '.join(unknown)}")
    return config


def _find(mapping: Mapping[type, Any], config: Any) -> Any:
    """Find the class that takes a configuration, None where there is none."""
    return mapping[type(config)] if type(config) in mapping else None


def _classifies(config: Any) -> bool:
    return any(CLASSIFIER in name for name in config.architectures or ())


def _learns_to_pool(model_class: Any, config: Any) -> bool:
    """Return whether a model has weights for pooling that one that classifies does without."""
    if "add_pooling_layer" not in inspect.signature(model_class.__init__).parameters:
        return False
    with torch.device("meta"), _quietly():
        return any(name.startswith("pooler.") for name, _ in model_class(config).named_parameters())


def _place(spec: BackboneSpec) -> str:
    """Return the model's folder, or its name on the hub."""
    return spec.architecture or spec.name


def _unavailable(spec: BackboneSpec, error: Exception) -> UsageError:
    place, why = _place(spec), reason(error)
    if Path(place).is_dir():
        return UsageError(
            f"model.name={place}: no model of transformers ({why}); expected a folder that save_pretrained wrote, with "
            "config.json and model.safetensors"
        )
    return UsageError(
        f"model.name={place}: no such folder, and the hub does not give it ({why}{prescribed()}); connect to the "
        "network, or give the folder of a model that save_pretrained wrote"
    )


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep the library from writing progress and remarks on the terminal."""
    logging, hub = import_transformers().utils.logging, importlib.import_module("huggingface_hub").utils.logging
    levels, bars = (logging.get_verbosity(), hub.get_verbosity()), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    hub.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(levels[0])
        hub.set_verbosity(levels[1])
        if bars:
            logging.enable_progress_bar()
