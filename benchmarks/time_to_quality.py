"""How long a ladder takes to be as good as rates that were trained one by one; a part of `benchmarks.training`."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from benchmarks.ladders import FORMER, LMBDAS, SEPARATE, configure, fit, prepared
from bottlenecks.rates.places import Lmbda
from bottlenecks.runs.experiment import prepare
from bottlenecks.settings.experiment import ExperimentPlan
from bottlenecks.training.module import LadderModule

COLD = (*SEPARATE, "training.warm_start=false")


class Reached(pl.Callback):
    """Notes when each rate's held-back loss is where it is to be, and stops when all are."""

    def __init__(self, targets: dict[Lmbda, float]) -> None:
        self.targets, self.lowest, self.epochs = targets, dict.fromkeys(targets, math.inf), 0

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, LadderModule)
        self.epochs += not trainer.sanity_checking  # where the start is evaluated
        for rate, lmbda in enumerate(pl_module.lmbdas):
            self.lowest[lmbda] = min(self.lowest[lmbda], pl_module.figures("val", rate)["val/loss"])
        trainer.should_stop = self.done

    @property
    def done(self) -> bool:
        return all(self.lowest[lmbda] <= target for lmbda, target in self.targets.items())


def time_to_quality(
    root: Path, best: Sequence[str], data: Sequence[str], epochs: int, fast_epochs: int
) -> dict[str, Any]:
    """Train each rate by itself for `epochs`, then all at once until each is as good; compare the times."""
    common = (*data, f"training.epochs={epochs}")
    prepare(
        ExperimentPlan.of(configure(root, *common)), "fit"
    )  # a backbone that has to be trained first is no part of either
    targets, slow = dict[Lmbda, float](), 0.0
    for lmbda in LMBDAS:
        cfg = configure(root, *common, FORMER, *COLD)
        start = time.perf_counter()
        alone = Reached({lmbda: -math.inf})
        fit(cfg, prepared(cfg), [lmbda], root / "separate.start", alone)
        slow += time.perf_counter() - start
        targets[lmbda] = alone.lowest[lmbda]
        print(f"separate, lambda={lmbda}: loss {targets[lmbda]:.4f} after {epochs} epochs, {slow:.0f} s", flush=True)
    rows = {}
    ways = {
        "best": (FORMER, *best),
        "best, cold start": (FORMER, *best, "training.warm_start=false"),
        "transform": best,
        "closed form": (*best, "training.epochs=0"),
    }
    for name, overrides in ways.items():
        cfg = configure(root, *data, f"training.epochs={fast_epochs}", *overrides)
        start = time.perf_counter()
        reached = Reached(targets)
        fit(cfg, prepared(cfg), LMBDAS, root / f"{name}.start", reached)
        seconds = time.perf_counter() - start
        print(
            f"{name}: {'reached' if reached.done else 'NOT reached'} in {reached.epochs} epochs, {seconds:.0f} s; "
            + ", ".join(f"{lmbda}: {loss:.4f}" for lmbda, loss in reached.lowest.items()),
            flush=True,
        )
        rows[name] = slow / seconds if reached.done else None
    return {
        "time_to_quality_speedup": rows["best"],
        "time_to_quality_speedup_cold_start": rows["best, cold start"],
        "time_to_quality_speedup_transform": rows["transform"],
        "time_to_quality_speedup_closed_form": rows["closed form"],
    }


def cifar10(shared: Path, images: int) -> list[str] | None:
    """Name the settings of CIFAR-10 with the ResNet-50 that was trained for it, where both are at hand."""
    weights, root = shared / "resnet50-cifar10-64.safetensors", Path("data/cifar10")
    if not weights.exists() or not root.exists():
        return None
    return [
        "data=cifar10",
        f"data.root={root}",
        f"model.weights={weights}",
        f"data.limit_train={images}",
        "data.limit_val=500",
        "data.num_workers=0",
        "data.batch_size=64",
    ]
