"""Progress where there is no terminal to draw a bar on."""

from __future__ import annotations

import sys
import time

import pytorch_lightning as pl

from bottlenecks.console.terminal import say


class EpochLines(pl.Callback):
    """Prints a line an epoch into a file or a pipe; a terminal has Lightning's bar."""

    def __init__(self) -> None:
        self.start = 0.0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look at the clock."""
        self.start = time.monotonic()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print what the epoch gave."""
        if sys.stdout.isatty():
            return
        figures = ", ".join(f"{name} {float(value):.4g}" for name, value in trainer.progress_bar_metrics.items())
        took = time.monotonic() - self.start
        say(f"Epoch {trainer.current_epoch + 1} of {trainer.max_epochs}: {figures}, {took:.1f} s")
