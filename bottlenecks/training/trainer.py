"""Lightning's trainer as all training here uses it: one that is told to stop says so, and can go on."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from hydra.utils import instantiate
from pytorch_lightning.loggers import Logger

from bottlenecks.console.terminal import say
from bottlenecks.errors import Interrupted, UsageError, reason
from bottlenecks.training.epoch_lines import EpochLines
from bottlenecks.training.resume import AtomicCheckpointIO, RunState


def build_trainer(
    settings: Mapping[str, Any],
    epochs: int,
    callbacks: Sequence[pl.Callback],
    loggers: Sequence[Logger] = (),
    **options: Any,
) -> pl.Trainer:
    """Build the trainer that a configuration describes.

    Args:
        settings: `_target_`, and its arguments.
        epochs: to train for.
        callbacks: beside the lines that epochs print.
        loggers: of the series.
        options: that come before the configuration's.

    Raises:
        UsageError: Lightning refuses a setting, or `trainer.precision` cannot be had on this device.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*AMP with fp16 is not supported on CPU")  # an error of ours, below
        make = instantiate(settings, _partial_=True, _convert_="all")
        try:
            trainer: pl.Trainer = make(
                max_epochs=epochs,
                callbacks=[*callbacks, EpochLines()],
                logger=[*loggers] or False,
                plugins=[AtomicCheckpointIO()],
                enable_checkpointing=False,
                **options,
            )
        except Exception as error:  # Lightning has several for a setting that it does not take
            raise UsageError(f"trainer: Lightning takes no such settings ({reason(error)}); give others") from None
    if settings["precision"] == "16-mixed" != trainer.precision:
        raise UsageError(
            f"trainer.precision=16-mixed: the device is a {trainer.accelerator.name()}, which would take "
            f"{trainer.precision} in its place; give that, or a device with half precision (trainer.accelerator=gpu)"
        )
    return trainer


def fit(
    module: pl.LightningModule,
    datamodule: Any,
    trainer: pl.Trainer,
    state: RunState,
    start: Path | None,
) -> None:
    """Train, going on from an interrupted run where asked.

    Args:
        module: what is trained.
        datamodule: the images, or what is cached of them, as a `LightningDataModule`.
        trainer: has `state` among its callbacks.
        state: where the run is kept while it is unfinished.
        start: what to go on from, or None to begin.

    Raises:
        UsageError: training was cut short; `Interrupted` where it was told to stop.
    """
    if start is None:
        state.begin()
    module.train()

    def moment() -> str:
        return f"in epoch {trainer.current_epoch + 1}{state.of_what}; go on with {state.way_on}"

    try:
        with loaders_may_die(moment), batches_may_be_small():
            trainer.fit(module, datamodule=datamodule, ckpt_path=start)
    except SystemExit:  # how Lightning ends after a signal
        raise Interrupted(f"interrupted {moment()}") from None
    if trainer.current_epoch < (trainer.max_epochs or 0):
        say(f"Training ended before epoch {trainer.max_epochs} was over, where a setting of trainer ends it")


@contextmanager
def loaders_may_die(moment: Callable[[], str]) -> Iterator[None]:
    """Turn the death of a loading process into an error that says when, and the way out.

    Raises:
        UsageError: one died.
    """
    try:
        yield
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise UsageError(
            f"data.num_workers: a loading process was killed (out of memory? fewer of them need less) {moment()}"
        ) from None


@contextmanager
def batches_may_be_small() -> Iterator[None]:
    """Turn what BatchNorm says of a single value into an error that names the setting.

    Raises:
        UsageError: a batch has too few images for it.
    """
    try:
        yield
    except ValueError as error:
        if "Expected more than 1 value per channel" not in str(error):
            raise
        raise UsageError(
            f"data.batch_size: batches of one image are too few to normalise over ({reason(error)}); "
            "give a larger one, or more training images"
        ) from None
