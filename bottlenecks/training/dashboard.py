"""The summary of a ladder while it trains: its rate-accuracy figure, its latents, its table of rates."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from matplotlib.figure import Figure
from pytorch_lightning.loggers import Logger

from bottlenecks.rates.places import rate_name, text_of
from bottlenecks.training.loggers import log_figure, log_histogram, log_table
from bottlenecks.training.module import LadderModule
from bottlenecks.units import Bottleneck

COLUMNS = ("lambda", "epoch", "val/bpp", "val/metric", "val/agreement", "val/loss")


class Dashboard(pl.Callback):
    """Fills the summary run of a ladder; the rates' own series go to runs of their own.

    Every epoch: each rate's loss, rate, metric and agreement, the figure of all rates' ways across the rate-accuracy
    plane so far, histograms of symbols, and the bits that each latent channel takes. At the end the table of rates.

    Args:
        logger: of the summary run; None for nothing at all.
        title: of the figure.
    """

    def __init__(self, logger: Logger | None, title: str) -> None:
        self.logger, self.title = logger, title
        self.ways: list[list[dict[str, Any]]] = []

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Look at the latents of the first held-back batch."""
        assert isinstance(pl_module, LadderModule)
        if self.logger is None or batch_idx > 0:
            return
        features, step = pl_module.look(batch).features, trainer.global_step
        for lmbda, unit in zip(pl_module.lmbdas, pl_module.units, strict=True):
            assert isinstance(unit, Bottleneck)
            with torch.no_grad():
                symbols = [torch.from_numpy(one).flatten() for one in unit.symbols(features)]
                log_histogram(self.logger, f"symbols/{rate_name(lmbda)}", torch.cat(symbols), step)
                bits = unit.bits_per_channel(features).sort(descending=True).values
            log_figure(self.logger, f"bits_per_channel/{rate_name(lmbda)}", _bars(bits.tolist()), step)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Add an epoch to every rate's way."""
        assert isinstance(pl_module, LadderModule)
        rows = [self._row(trainer, pl_module, rate) for rate in range(len(pl_module.lmbdas))]
        self.ways.append(rows)
        if self.logger is None:
            return
        series = {f"{rate_name(row['lambda'])}/{key}": value for row in rows for key, value in row.items()}
        loss = sum(row["val/loss"] for row in rows) / len(rows)
        self.logger.log_metrics({**series, "val_loss": loss}, trainer.global_step)
        log_figure(self.logger, "rate_accuracy", self.draw(), trainer.global_step)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """List the rates at the end of their ways."""
        if self.ways:
            rows = [{**row, "lambda": text_of(row["lambda"])} for row in self.ways[-1]]
            log_table(self.logger, "rates", COLUMNS, [[row[key] for key in COLUMNS] for row in rows])

    def state_dict(self) -> dict[str, Any]:
        """Return the ways so far to the resume state."""
        return {"ways": self.ways}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self.ways = state_dict["ways"]

    def draw(self) -> Figure:
        """Draw every rate's way across the plane, a dot where it stands now."""
        figure = Figure(figsize=(6.4, 4.2), layout="constrained")
        axes = figure.add_subplot()
        for way in zip(*self.ways, strict=True):
            rates, values = [row["val/bpp"] for row in way], [row["val/metric"] for row in way]
            (line,) = axes.plot(rates, values, linewidth=1, alpha=0.5)
            axes.plot(rates[-1:], values[-1:], "o", color=line.get_color(), label=rate_name(way[-1]["lambda"]))
        axes.set_xlabel("estimated bits per pixel")
        axes.set_ylabel("held-back images decided rightly, or as the unsplit network does")
        axes.set_title(self.title, fontsize=10)
        axes.grid(True, color="0.92")
        axes.legend()
        return figure

    @staticmethod
    def _row(trainer: pl.Trainer, module: LadderModule, rate: int) -> dict[str, Any]:
        figures = module.figures("val", rate)
        metric = figures.get(f"val/{module.task.metric_name}", figures["val/agreement"])
        own = {key: figures[key] for key in ("val/bpp", "val/agreement", "val/loss")}
        return {"lambda": module.lmbdas[rate], "epoch": trainer.current_epoch, "val/metric": metric, **own}


def _bars(values: list[float]) -> Figure:
    figure = Figure(figsize=(6.4, 2.4), layout="constrained")
    axes = figure.add_subplot()
    axes.bar(range(len(values)), values)
    axes.set_xlabel("latent channel, by rate")
    axes.set_ylabel("bits an image")
    return figure
