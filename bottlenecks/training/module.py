"""The LightningModule: a frozen head and tail, and the units of a ladder between them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from bottlenecks.errors import UsageError
from bottlenecks.processes import average_buffers, own_share, synchronise_batch_norm
from bottlenecks.rates.places import Lmbda
from bottlenecks.settings.training import OptimiserConfig
from bottlenecks.shapes import elements_of
from bottlenecks.splitting.cut import SplitNetwork
from bottlenecks.splitting.features import Features, cat, num_images, split
from bottlenecks.tasks import Task
from bottlenecks.training.any_rate import Measured
from bottlenecks.training.frozen import FrozenBatch, pass_frozen
from bottlenecks.training.loss import RateDistortionLoss
from bottlenecks.training.metrics import RateMetrics
from bottlenecks.training.optimisers import can_fuse, scaler_of
from bottlenecks.training.passes import in_groups, with_gradient_now
from bottlenecks.training.prices import Price, prices_of
from bottlenecks.training.seeds import generator_for
from bottlenecks.units import Bottleneck
from bottlenecks.units.base import LearningRates, UnitOutput

Batch = FrozenBatch | tuple[Tensor, Tensor]

FINE, SLOWEST = 2.0, 0.1  # per cent of distortion below which learning is slower, and the least share that is left
SHARED = 0.1  # of the learning rate, for a transform that all rates share: what one gains the others lose


def pace_of(measured: Sequence[Measured], multiplier: float = 0.0) -> float:
    """Return the share of the learning rates that a unit begins to learn with, by the distortion of its start.

    Args:
        measured: what its start takes and loses.
        multiplier: at which that counts, for a unit of any rate the finest.
    """
    if not measured:
        return 1.0
    distortion = min(measured, key=lambda point: abs(point.multiplier - multiplier)).distortion
    return min(1.0, max(SLOWEST, math.sqrt(max(0.0, distortion) / FINE)))


def trained(name: str) -> bool:
    """Decide by a tensor's name whether it is trained and saved: those of the units are, the backbone's are not."""
    return name.startswith("units.")


class LadderModule(pl.LightningModule):
    """Trains the units of several rates side by side around one frozen network.

    images -> head -> features -> unit of each lambda -> features_hat, all as one batch -> tail -> output

    The head and the teacher run once a batch. Every unit has its own loss, clipping, noise and best state, so
    it trains as it would alone. The frozen part keeps no gradient, stays in eval mode and is not saved. A batch is
    images and targets, or what the frozen network made of them before.

    Args:
        network: the cut network, frozen.
        units: one unit a lambda, or for both ends of a range.
        task: what the network does.
        loss: the rate-distortion loss.
        optimiser: learning rates and schedule.
        seed: of the noise.
        rates_per_pass: how many rates go through the tail at once, which bounds its activations; None for all.
        precision: that the features are rounded to, as a cache would keep them.
        measured: what the units' starts take, and lose once they are trained; none of units that begin otherwise.
    """

    def __init__(
        self,
        network: SplitNetwork,
        units: Mapping[Lmbda, Bottleneck],
        task: Task,
        loss: RateDistortionLoss,
        optimiser: OptimiserConfig,
        seed: int,
        rates_per_pass: int | None = None,
        precision: torch.dtype = torch.float32,
        measured: Mapping[Lmbda, Sequence[Measured]] | None = None,
    ) -> None:
        super().__init__()
        self.network, self.task, self.precision = network, task, precision
        self.lmbdas = tuple(units)
        self.units = nn.ModuleList(units.values())
        self.paces = [
            pace_of((measured or {}).get(lmbda, ()), unit.range.highest if unit.range else 0.0)
            for lmbda, unit in units.items()
        ]
        self.prices = [prices_of(unit, lmbda, (measured or {}).get(lmbda, ())) for lmbda, unit in units.items()]
        self.rate_loss, self.optimiser, self.seed = loss, optimiser, seed
        self.passes = in_groups(range(len(self.lmbdas)), rates_per_pass)
        num_elements = elements_of(network.feature_shape)
        self.metrics = nn.ModuleDict(
            {
                f"{stage}_": nn.ModuleList(  # nn.Module has a method `train`
                    RateMetrics(task, num_elements, [*loss.weights], stage == "val") for _ in self.lmbdas
                )
                for stage in ("train", "val")
            }
        )
        self.strict_loading = False  # the frozen network is not in the checkpoints

    def train(self, mode: bool = True) -> LadderModule:
        """Switch the units' mode; the network stays in eval mode."""
        super().train(mode)
        self.network.eval()
        return self

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Sum the units' losses; their gradients do not meet."""
        return self._shared_step(batch, batch_idx, "train")

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Evaluate every unit with rounding in place of noise."""
        self._shared_step(batch, batch_idx, "val")

    def look(self, batch: Batch) -> FrozenBatch:
        """Pass images through the frozen network, unless that was done before."""
        return batch if isinstance(batch, FrozenBatch) else pass_frozen(self.network, *batch, self.precision)

    def _shared_step(self, batch: Batch, batch_idx: int, stage: str) -> Tensor:
        frozen, step = self.look(batch), self._step(batch_idx)
        return torch.stack([self._pass(frozen, rates, stage, step) for rates in self.passes]).sum()

    def _step(self, batch_idx: int) -> int:
        """Number a batch among those of all processes, and among those whose gradients are added up for one step."""
        share, parts = own_share(), self.trainer.accumulate_grad_batches
        return (self.global_step * parts + batch_idx % parts) * share.world_size + share.rank

    def _pass(self, frozen: FrozenBatch, rates: Sequence[int], stage: str, step: int) -> Tensor:
        """Take some rates through units, tail and loss, with the noise of a step; give the sum of their losses."""
        trips, count = list[tuple[int, Price, UnitOutput]](), num_images(frozen.features)
        for rate in rates:
            generator = generator_for(self.seed, self.lmbdas[rate], step)
            prices = self.prices[rate]
            drawn = [prices.draw(count, generator, self.device)] if stage == "train" else prices.evaluated()
            for price in drawn:
                trips.append((rate, price, self.units[rate](frozen.features, generator, price.multiplier)))
        counts = [count] * len(trips)

        def distort(features_hat: Features) -> Tensor:
            students, hats = split(self.network.finish(features_hat), counts), split(features_hat, counts)
            total = torch.zeros_like(trips[0][2].rate_bits[0])
            for (rate, price, output), student, hat in zip(trips, students, hats, strict=True):
                losses = self.rate_loss(price.lmbda, output.rate_bits.detach(), student, hat, frozen)
                weighed = losses._replace(loss=price.weight * losses.loss)
                self._metrics(stage, rate).update(weighed, output.rate_bits, student, frozen)
                total = total + (price.weight * price.lmbda * losses.distortion).mean()
            return total

        distortion = with_gradient_now(distort, cat([output.features_hat for _, _, output in trips]), self._scale())
        rate_bits = torch.stack([(price.weight * output.rate_bits).mean() for _, price, output in trips]).sum()
        return distortion + rate_bits / frozen.num_pixels

    def setup(self, stage: str) -> None:
        """Let BatchNorm see all processes' batches, where the device can."""
        self.units = synchronise_batch_norm(self.units, self.trainer.strategy.root_device)

    def on_validation_epoch_start(self) -> None:
        """Bring medians up to date, which decide the rounding, and let all processes evaluate the same units."""
        for rate in range(len(self.lmbdas)):
            self._metrics("val", rate).reset()
        average_buffers(self.units)
        for unit in self.units:
            unit.refresh()  # type: ignore[operator]

    def on_validation_epoch_end(self) -> None:
        """Log what the epoch gave, each rate to a logger of its own with the same keys."""
        figures = [{**self.figures("train", rate), **self.figures("val", rate)} for rate in range(len(self.lmbdas))]
        for logger, row in zip(self.loggers, figures, strict=False):  # only one process has loggers
            logger.log_metrics({**row, "lr": self._learning_rate(), "epoch": self.current_epoch}, self.global_step)
        loss = sum(row["val/loss"] for row in figures) / len(figures)
        self.log("val_loss", loss, prog_bar=True, logger=False, sync_dist=True)

    def on_train_epoch_end(self) -> None:
        """Begin the next epoch's figures."""
        for rate in range(len(self.lmbdas)):
            for stage in ("train", "val"):
                self._metrics(stage, rate).reset()

    def figures(self, stage: str, rate: int) -> dict[str, float]:
        """Return the epoch's figures of a rate so far, as `val/bpp`."""
        return {f"{stage}/{name}": value for name, value in self._metrics(stage, rate).compute().items()}

    def configure_optimizers(self) -> Any:
        """One AdamW over what is trained; each unit says at which rates its parts learn."""
        plan = self.optimiser
        groups = []
        for unit, pace in zip(self.units, self.paces, strict=True):
            linear = plan.linear_lr * (SHARED if unit.range else 1.0)
            rates = LearningRates(pace * plan.lr, plan.entropy_lr, pace * linear, plan.weight_decay)
            groups += [group._asdict() for group in unit.parameter_groups(rates)]  # type: ignore[operator]
        optimiser = torch.optim.AdamW(groups, lr=plan.lr, fused=can_fuse(self))
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, self._share_of_peak)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip each unit by itself, so that no unit's gradient bears on its neighbours."""
        if self.optimiser.gradient_clip > 0:
            for unit in self.units:
                nn.utils.clip_grad_norm_(unit.parameters(), self.optimiser.gradient_clip)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep only what is trained."""
        state = checkpoint["state_dict"]
        checkpoint["state_dict"] = {name: tensor for name, tensor in state.items() if trained(name)}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a state that is not exactly these units'.

        Raises:
            UsageError: names are missing or surplus.
        """
        expected = {name for name in self.state_dict() if trained(name)}
        if set(checkpoint["state_dict"]) != expected:
            raise UsageError("resume=true: the state does not hold these units; start anew with overwrite=true")

    def _share_of_peak(self, step: int) -> float:
        total = max(1, int(self.trainer.estimated_stepping_batches))
        warmup = max(1, round(self.optimiser.warmup * total))
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))

    def _scale(self) -> Tensor | None:
        """Return the factor that the trainer puts on the loss in half precision, None where there is none."""
        scaler = scaler_of(self)
        return None if scaler is None else scaler.scale(torch.ones((), device=self.device))

    def _learning_rate(self) -> float:
        return float(self.trainer.optimizers[0].param_groups[0]["lr"])

    def _metrics(self, stage: str, rate: int) -> RateMetrics:
        return self.metrics[f"{stage}_"][rate]  # type: ignore[index]
