"""Where a frozen backbone comes from: pretrained, trained before, or trained now."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from bottlenecks.backbones.architecture import build_network
from bottlenecks.backbones.backbone import Backbone, load_backbone, save_backbone
from bottlenecks.backbones.pretrained import find_weights
from bottlenecks.backbones.weights import fitting
from bottlenecks.console.terminal import say
from bottlenecks.errors import UsageError, reason
from bottlenecks.images.preprocessing import Preprocessing
from bottlenecks.processes import average_buffers, own_share, synchronise_batch_norm
from bottlenecks.settings.model import BackboneSpec, with_weights
from bottlenecks.settings.training import BackboneTraining
from bottlenecks.settings.weights import TRAINED_ON_THE_SPOT, backbone_path, choose_weights
from bottlenecks.tasks import Task, make_task
from bottlenecks.training.images import ImageData
from bottlenecks.training.optimisers import can_fuse
from bottlenecks.training.resume import RunState
from bottlenecks.training.seeds import seed_for
from bottlenecks.training.trainer import fit

AUXILIARY = 0.3  # weight of the loss of an auxiliary head, as of GoogLeNet's


class BackboneModule(pl.LightningModule):
    """Trains a whole network on labels.

    Args:
        network: all of it is trained.
        task: what it learns.
        settings: the recipe.
        seed: of what the network itself draws, such as dropout.

    Attributes:
        score: the metric on the held-back images after the last epoch; None before the first one.
    """

    def __init__(self, network: nn.Module, task: Task, settings: BackboneTraining, seed: int) -> None:
        super().__init__()
        self.network, self.task, self.settings, self.seed = network, task, settings, seed
        self.metric = task.metric()
        self.score: float | None = None

    def on_train_epoch_start(self) -> None:
        """Draw what an uninterrupted run would draw in this epoch."""
        torch.manual_seed(seed_for(self.seed, "backbone", self.current_epoch, own_share().rank))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Supervised loss of a batch."""
        images, targets = batch
        main, *auxiliary = [
            self.task.supervised(output, targets, self.settings.label_smoothing).mean()
            for output in self.task.training_outputs(self.network(images))
        ]
        loss = main + AUXILIARY * sum(auxiliary)
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """The task's metric on the held-back images."""
        images, targets = batch
        self.metric.update(self.task.predict(self.network(images)), targets)

    def on_validation_epoch_end(self) -> None:
        """Log the metric."""
        self.score = float(self.metric.compute())
        self.log(f"val/{self.task.metric_name}", self.score, prog_bar=True, sync_dist=True)
        self.metric.reset()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the score: the run may be cut off between its last epoch and its file."""
        checkpoint["score"] = self.score

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the score up again."""
        self.score = checkpoint["score"]

    def setup(self, stage: str) -> None:
        """Let BatchNorm see all processes' batches, where the device can."""
        self.network = synchronise_batch_norm(self.network, self.trainer.strategy.root_device)

    def on_validation_epoch_start(self) -> None:
        """Let all processes evaluate the same network."""
        average_buffers(self.network)

    def configure_optimizers(self) -> Any:
        """AdamW with a one-cycle schedule."""
        lr, weight_decay = self.settings.lr, self.settings.weight_decay
        fused = can_fuse(self)
        optimiser = torch.optim.AdamW(self.parameters(), lr=lr, weight_decay=weight_decay, fused=fused)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, self.settings.lr, total_steps=int(self.trainer.estimated_stepping_batches)
        )
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def obtain_backbone(
    spec: BackboneSpec, datamodule: ImageData, checkpoints: Path, train: Callable[[], Backbone]
) -> Backbone:
    """Find the frozen network that `model.weights` asks for, see `choose_weights`.

    Args:
        spec: the network.
        datamodule: the images, and what their labels are.
        checkpoints: root of all checkpoints.
        train: trains and keeps a backbone.

    Raises:
        UsageError: there is none, with the ways out; or it does not fit the labels.
    """
    chosen = choose_weights(spec, datamodule.name, datamodule.labels, checkpoints)
    if chosen is None:
        return train()
    backbone = load_backbone(chosen, datamodule.num_classes, datamodule.default_preprocessing)
    names = tuple(datamodule.class_names)
    if datamodule.num_classes is not None and backbone.class_names and backbone.class_names != names:
        raise UsageError(
            f"model.weights={backbone.source}: trained for the classes {', '.join(backbone.class_names[:4])} …, "
            f"data={datamodule.name} has {', '.join(names[:4])} …; give this data another data.name and train for it"
        )
    return backbone


def check_network(
    network: nn.Module, task: Task, name: str, preprocessing: Preprocessing, num_classes: int | None
) -> None:
    """Refuse a network whose output is not what its task and its data need.

    Args:
        network: any, in eval mode.
        task: what it is to do.
        name: of the network, for the message.
        preprocessing: gives the size of its input; where that varies nothing is looked at.
        num_classes: that the data has; None where it has no labels.

    Raises:
        UsageError: it is not.
    """
    if preprocessing.input_shape is not None:
        output = _try(network, name, 1, preprocessing.input_shape)
        try:
            task.check_output(output, num_classes)
        except UsageError as error:
            raise UsageError(f"model.name={name}: {error}") from None


def check_trainable(network: nn.Module, task: Task, name: str, preprocessing: Preprocessing, num_images: int) -> None:
    """Refuse a network that cannot be trained, before its training begins.

    Args:
        network: any; a copy of it is tried.
        task: what it is to do.
        name: of the network, for the message.
        preprocessing: gives the size of its input; where that varies nothing is tried.
        num_images: in a batch.

    Raises:
        UsageError: nothing in it can learn, it refuses such a batch, or gives no output of the task.
    """
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise UsageError(
            f"model.name={name}: none of its parameters asks for a gradient, nothing could be trained; "
            "let the factory leave them so, or give the weights that it has as model.weights=FILE"
        )
    if preprocessing.input_shape is None:
        return
    with torch.random.fork_rng():
        output = _try(copy.deepcopy(network).train(), name, min(num_images, 2), preprocessing.input_shape)
    if not task.training_outputs(output):
        raise UsageError(f"model.name={name}: no output of {task.name} among what it gives in training mode; wrap it")


def _try(network: nn.Module, name: str, num_images: int, shape: tuple[int, int, int]) -> Any:
    """Run a network on blank images, and turn whatever its own code raises into one line."""
    try:
        with torch.no_grad():
            return network(torch.zeros(num_images, *shape))
    except Exception as error:  # of any kind
        one = "; data.batch_size or data.limit_train may be too small" if num_images == 1 else ""
        raise UsageError(
            f"model.name={name}: {'cannot be trained on' if network.training else 'refuses'} batches of {num_images} "
            f"image{'s'[: num_images - 1]} of {'x'.join(map(str, shape))} ({reason(error)}); data.image_size sets "
            f"another size{one}"
        ) from error


def train_backbone(
    spec: BackboneSpec,
    datamodule: ImageData,
    checkpoints: Path,
    settings: BackboneTraining,
    trainer: pl.Trainer,
    seed: int,
    state: RunState,
    start: Path | None,
) -> Backbone:
    """Train or fine-tune a network on labels, keep it, and give it back frozen.

    Begins from the weights that `spec.weights` names; `auto` means the library's pretrained ones where they can be
    had and the data is not trained on the spot, else random ones, as `none` does.

    Args:
        spec: the network.
        datamodule: the images.
        checkpoints: root of all checkpoints.
        settings: the recipe.
        trainer: has `state` among its callbacks.
        seed: of weights and order.
        state: where the run is kept while it is unfinished.
        start: what to go on from, or None to begin.

    Raises:
        UsageError: the data has no labels, nothing says how its images are to be prepared, or training was cut short.
    """
    if datamodule.num_classes is None:
        raise UsageError(f"stage=backbone: data={datamodule.name} has no labels to train on")
    torch.manual_seed(seed_for(seed, spec.name, "backbone"))
    network = build_network(spec, datamodule.num_classes)
    preprocessing = _start(network, spec, datamodule) or datamodule.default_preprocessing
    if preprocessing is None:
        raise UsageError(
            f"data.preprocessing: data={datamodule.name} names none to train from scratch with; "
            "state it as data.preprocessing={resize: …, crop: …, mean: …, std: …, interpolation: …}"
        )
    datamodule.preprocessing = preprocessing
    task = make_task(spec.task, network, spec.task_settings)
    check_network(network, task, spec.name, preprocessing, datamodule.num_classes)
    smallest = min(datamodule.batch_size, len(datamodule.images("train")))
    check_trainable(network, task, spec.name, preprocessing, smallest)
    network.to(memory_format=torch.channels_last)  # small networks learn twice as fast on a CPU, ResNet-50 10 % faster
    module = BackboneModule(network, task, settings, seed)
    fit(module, datamodule, trainer, state, start)
    if module.score is None:
        raise UsageError("no epoch ended in an evaluation on the held-back images; let trainer validate every epoch")
    if not all(tensor.isfinite().all() for tensor in module.network.state_dict().values()):
        state.remove()
        raise UsageError(f"backbone.lr={settings.lr}: training diverged, nothing was kept; lower it")
    path = backbone_path(checkpoints, spec.name, datamodule.name)
    source = with_weights(spec, path)
    network = module.network.cpu().to(memory_format=torch.contiguous_format)
    backbone = Backbone(network, source, preprocessing, tuple(datamodule.class_names), str(path))
    if trainer.is_global_zero:
        save_backbone(path, backbone, {"data": datamodule.name, f"val/{task.metric_name}": module.score})
        state.remove()
    say(f"Kept {path}: {task.metric_name} {module.score:.1%} on held-back images")
    return backbone


def _start(network: nn.Module, spec: BackboneSpec, datamodule: ImageData) -> Preprocessing | None:
    """Load the weights that training begins from; give their transform, or None after a random start."""
    if spec.weights == "none" or (spec.weights == "auto" and datamodule.name in TRAINED_ON_THE_SPOT):
        return None
    try:
        weights = "DEFAULT" if spec.weights == "auto" else spec.weights
        pretrained = find_weights(with_weights(spec, weights))
    except UsageError as error:
        if spec.weights != "auto":
            raise
        say(f"No pretrained weights for {spec.name}, beginning from random ones ({error})")
        return None
    state = fitting(network, pretrained.state)
    if not state:
        raise UsageError(f"model.weights={pretrained.source}: none of its tensors fits {spec.name}")
    new = [name for name in network.state_dict() if name not in state]
    network.load_state_dict(state, strict=False)
    say(f"Fine-tuning from {pretrained.source}; new: {', '.join(new[:6]) or 'nothing'}{' …' if len(new) > 6 else ''}")
    return pretrained.preprocessing
