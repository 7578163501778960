"""What an interrupted run goes on from."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from bottlenecks.console.terminal import say
from bottlenecks.errors import UsageError, reason
from bottlenecks.files import write_atomically
from bottlenecks.rates.places import Lmbda, middle_of, text_of
from bottlenecks.training.old_values import OLD_VALUES
from bottlenecks.training.relevant import comparable


class RunState(pl.Callback):
    """Writes the whole training state after each epoch, all or nothing; it is taken away at the end.

    Args:
        path: of the state, in a folder `.resume/`.
        settings: what bears on the outcome, JSON-able; a state of other settings is refused.
        of_what: what trains, for messages, such as ` of resnet50`; nothing where it goes without saying.
        way_on: how a user goes on after an interruption.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any], of_what: str = "", way_on: str = "resume=true") -> None:
        self.path, self.settings, self.of_what, self.way_on = path, dict(settings), of_what, way_on
        self.world_size = 1

    def find(self, resume: bool, overwrite: bool) -> Path | None:
        """Return the state to go on from, or None where the run is to begin.

        Args:
            resume: whether to go on from a state that is there.
            overwrite: whether to discard it.

        Raises:
            UsageError: it is there and neither was said; or it was written with other settings, or is damaged.
        """
        if not self.path.is_file() or (overwrite and not resume):
            return None
        if not resume:
            raise UsageError(
                f"an interrupted run{self.of_what}, or one that another process is at, lies at {self.path}; go on with "
                "resume=true, or discard it with overwrite=true"
            )
        try:
            content = torch.load(self.path, map_location="cpu", weights_only=True)
            stored, epoch = content["callbacks"][self.state_key]["settings"], int(content["epoch"])
        except Exception as error:  # damaged files end in errors of many kinds
            raise UsageError(
                f"resume=true: {self.path} is damaged ({reason(error)}); start anew with overwrite=true"
            ) from None
        changes = changes_between(stored, self.settings)
        if changes:
            raise UsageError(
                f"resume=true: {self.path} was made with other settings ({changes}); "
                "give those again, or start anew with overwrite=true"
            )
        say(f"Going on after epoch {epoch + 1}{self.of_what}, from {self.path}")
        return self.path

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Note how many processes there are: with another number, epochs have other steps."""
        self.world_size = trainer.world_size

    def state_dict(self) -> dict[str, Any]:
        """Put the settings into the state itself."""
        return {"settings": self.settings, "world_size": self.world_size}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Refuse a state of another number of processes.

        Raises:
            UsageError: it is.
        """
        if state_dict["world_size"] != self.world_size:
            raise UsageError(
                f"resume=true: {self.path} was made by {state_dict['world_size']} processes, these are "
                f"{self.world_size}; start as many, or start anew with overwrite=true"
            )

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the state of the epoch that has just ended."""
        trainer.save_checkpoint(self.path, weights_only=False)

    def begin(self) -> None:
        """Take the state of an earlier run away; where the units of this one begin stays."""
        self.path.unlink(missing_ok=True)

    def remove(self) -> None:
        """Take the state away: what was trained is finished."""
        for file in (self.path, self.path.with_suffix(".start")):
            file.unlink(missing_ok=True)
            file.with_name(f".{file.name}.lock").unlink(missing_ok=True)
        for leftover in self.path.parent.glob(f".{self.path.name}.*.tmp"):  # of a process killed while writing
            leftover.unlink(missing_ok=True)
        if self.path.parent.is_dir() and not any(self.path.parent.iterdir()):
            self.path.parent.rmdir()


class ResumeState(RunState):
    """The state of a ladder.

    Args:
        folder: of the rates; the state lies in `.resume/` inside it.
        lmbdas: of the units that train together; none where a target is given, whose lambda is found.
        settings: what bears on the outcome.
    """

    def __init__(self, folder: Path, lmbdas: Sequence[Lmbda], settings: Mapping[str, Any]) -> None:
        super().__init__(folder / ".resume" / f"{_stem(lmbdas) if lmbdas else _target(settings)}.ckpt", settings)


def _stem(lmbdas: Sequence[Lmbda]) -> str:
    """Name a set of rates, in a length that file systems take."""
    stem = "lambda=" + ",".join(text_of(lmbda) for lmbda in sorted(lmbdas, key=middle_of))
    return stem if len(stem) <= 100 else f"{len(lmbdas)}-rates-{hashlib.sha256(stem.encode()).hexdigest()[:16]}"


def _target(settings: Mapping[str, Any]) -> str:
    return ",".join(f"target.{kind}={value}" for kind, value in settings["target"].items() if value is not None)


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's checkpoint files, written beside their place and renamed."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write a checkpoint so that a kill leaves the old file or the new one."""
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        write_atomically(Path(path), buffer.getvalue())


def changes_between(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Name what a training depends on and two settings differ in, as `training.epochs 20 -> 30`."""
    return differences(*comparable(old, new))


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> str:
    """Name the settings in which two nested mappings differ, as `training.epochs 20 -> 30`.

    A setting that the old one does not know counts as its value in `OLD_VALUES`, or as None.
    """
    changes = []
    for key in sorted({*old, *new}):
        before, after = old.get(key, OLD_VALUES.get(f"{prefix}{key}")), new.get(key)
        if isinstance(before or {}, Mapping) and isinstance(after, Mapping):
            nested = differences(before or {}, after, f"{prefix}{key}.")
            changes += [nested] if nested else []
        elif before != after:
            changes.append(f"{prefix}{key} {before} -> {after}")
    return ", ".join(changes)
