"""The best state of each rate, evaluated on the held-back images."""

from __future__ import annotations

import math
from typing import Any

import pytorch_lightning as pl
from torch import Tensor

from bottlenecks.training.module import LadderModule


class BestStates(pl.Callback):
    """Keeps, in memory and in the resume state, each unit's weights at its smallest held-back loss.

    Attributes:
        states: a state dict a rate, on the CPU.
        figures: the figures that go with each.
        epochs: the epoch each is from, -1 for the start.
    """

    def __init__(self) -> None:
        self.states: list[dict[str, Tensor]] = []
        self.figures: list[dict[str, float]] = []
        self.epochs: list[int] = []

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compare every rate with its best so far."""
        assert isinstance(pl_module, LadderModule)
        if not self.states:
            count = len(pl_module.units)
            self.states, self.figures, self.epochs = [{}] * count, [{}] * count, [-1] * count
        for rate, unit in enumerate(pl_module.units):
            figures = pl_module.figures("val", rate)
            if figures["val/loss"] < self.figures[rate].get("val/loss", math.inf):
                self.states[rate] = {name: value.detach().cpu().clone() for name, value in unit.state_dict().items()}
                self.figures[rate] = figures
                self.epochs[rate] = -1 if trainer.sanity_checking else trainer.current_epoch

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs."""
        return {"states": self.states, "figures": self.figures, "epochs": self.epochs}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a resumed run's state."""
        self.states, self.figures, self.epochs = (state_dict[key] for key in ("states", "figures", "epochs"))
