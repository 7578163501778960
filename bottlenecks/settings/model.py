"""The network that a configuration names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from bottlenecks.errors import UsageError, check_known, quoted
from bottlenecks.settings.targets import name_of
from bottlenecks.tasks import WITHOUT_CLASSES, check_settings, check_task

GIVEN = "given"  # a module that a program handed over
AUTO = "auto"  # of a task: what the network itself says
TELLING: Mapping[str, Sequence[str]] = dict.fromkeys(("timm", "transformers"), ("classification", "embedding"))
LIBRARIES = ("torchvision", "timm", "transformers", "custom", GIVEN)
LATER = ("distortion", "outputs", "arguments")  # fields that files of earlier programs do not have
FILE_SUFFIXES = (".pt", ".pth", ".ckpt", ".bin", ".safetensors")


@dataclass(frozen=True)
class BackboneSpec:
    """What a `configs/model/*.yaml` says of a network.

    Attributes:
        name: the network's name here; checkpoints and results lie under it.
        task: what it does, a file in `bottlenecks/tasks/`; `auto` until the network is asked, see `settle_task`.
        library: `torchvision`, `timm`, `transformers`, `custom` for a factory of the user's, or `given` for a module
            that a program handed over, which nothing can build again.
        architecture: its name in that library; for `transformers` a folder, or a name on the hub.
        weights: `auto`, `none`, the library's name for pretrained weights (`DEFAULT`, …), or a file.
        weights_package: an installed package that carries the pretrained weights of timm's `architecture` as a file; a
            custom network that contains it begins its training from them.
        factory: for `custom`, a Hydra node that builds the `nn.Module`; its `_target_` is the name of one of the
            project's own networks, or where the user's own code lies.
        distortion: of embeddings, `cosine` or `mse`; None takes the task's own.
        outputs: of embeddings, weights of several outputs by name; None weighs all alike.
        arguments: for the others, what their library is told beside the name, such as `{img_size: 64}` for vision
            transformers of timm's; for `transformers` settings of the model's configuration.
    """

    name: str
    task: str = "classification"
    library: str = "torchvision"
    architecture: str = ""
    weights: str = "auto"
    weights_package: str | None = None
    factory: Mapping[str, Any] | None = None
    distortion: str | None = None
    outputs: Mapping[str, float] | None = None
    arguments: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.library not in LIBRARIES:
            raise UsageError(f"model.library={self.library}: expected one of {', '.join(LIBRARIES)}")
        if not isinstance(self.weights, str) or not self.weights:
            way_out = quoted("model.weights", "…")
            raise UsageError(
                f"model.weights={self.weights}: expected auto, none, a name of the library's, or a file; quote it, "
                f"as {way_out}"
            )
        if self.library == "custom" and not self.factory:
            raise UsageError("model.factory: missing; a custom network needs model.factory._target_=package.function")
        if self.factory and not isinstance(self.factory, Mapping):
            raise UsageError(f"model.factory={self.factory}: expected model.factory._target_=package.function")
        if self.factory and "_target_" in self.factory:
            named = {**self.factory, "_target_": name_of(str(self.factory["_target_"]))}
            object.__setattr__(self, "factory", named)
        if self.arguments is not None and (self.library == "custom" or not isinstance(self.arguments, Mapping)):
            raise UsageError(
                f"model.arguments={self.arguments}: expected settings of a library's network by name, as "
                "model.arguments={img_size: 64}; those of model=custom go into model.factory"
            )
        if self.task != AUTO:
            check_task(self.task)
            check_settings(self.task, self.task_settings)
        elif self.library not in TELLING:
            raise UsageError(f"model.task=auto: networks of {self.library} do not tell; name the task")

    @property
    def tasks(self) -> Sequence[str]:
        """What the network may be for, as far as is known before it is asked."""
        return TELLING[self.library] if self.task == AUTO else (self.task,)

    @property
    def has_classes(self) -> bool:
        """Whether its outputs stand for the classes of labels."""
        return self.task not in WITHOUT_CLASSES

    @property
    def task_settings(self) -> dict[str, Any]:
        """What the task is told: those of `distortion` and `outputs` that are given."""
        given = {"distortion": self.distortion, "outputs": self.outputs}
        return {name: value for name, value in given.items() if value is not None}

    @classmethod
    def of(cls, node: DictConfig) -> BackboneSpec:
        """Read the `model` node of a configuration; the cut that it proposes is not the network's."""
        values = {str(name): node[name] for name in node if name not in ("split", "several")}
        check_known("model", values, [field.name for field in fields(cls)])
        nested = {
            name: OmegaConf.to_container(value, throw_on_missing=True)
            for name, value in values.items()
            if OmegaConf.is_config(value)
        }
        spec = cls(**{**values, **nested})
        return _settled(spec) if spec.library == "transformers" else spec

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
        """Return the fields as JSON-able values, those of `LATER` where they are set."""
        return {name: value for name, value in asdict(self).items() if name not in LATER or value is not None}


def _settled(spec: BackboneSpec) -> BackboneSpec:
    """Name a model of transformers after its folder, or after what follows the slash of its name on the hub.

    Raises:
        UsageError: a folder is meant, and is not there.
    """
    place = Path(spec.architecture or spec.name).expanduser()
    if place.is_dir():
        return replace(spec, name=Path(spec.name).expanduser().resolve().name, architecture=str(place.resolve()))
    if str(place).startswith((".", "/")) or len(place.parts) > 2:  # owner and model on the hub
        raise UsageError(
            f"model.name={place}: no such folder (looked at {place.absolute()}); give that of a model which "
            "save_pretrained wrote, or a name on the hub"
        )
    return replace(spec, name=Path(spec.name).name, architecture=str(place))


def with_weights(spec: BackboneSpec, weights: str | Path) -> BackboneSpec:
    """Return the same network with other weights."""
    return replace(spec, weights=str(weights))


def is_file(weights: str) -> bool:
    """Return whether `model.weights` names a file rather than one of the library's weights."""
    return weights.endswith(FILE_SUFFIXES) or "/" in weights


def check_learnable(spec: BackboneSpec, argument: str = "stage=backbone") -> None:
    """Refuse to learn from labels what has none.

    Args:
        spec: the network.
        argument: what asks for it, for the message.

    Raises:
        UsageError: its task has none.
    """
    if not spec.has_classes:
        raise UsageError(
            f"{argument}: model={spec.name} gives embeddings, which no labels say anything of; leave it out, or set "
            "model.task=classification"
        )
