"""What a ladder costs: python -m benchmarks.training [--steps-only] [--closed-form] [--quality-only].

Times, alternating in one run, the steps of

    a  separate        each rate trained by itself, float32, nothing cached, as others do it: the sum over the rates
    b  joint           all rates in one run
    c  cached          the same, the frozen network's outputs cached
    d  best            the same, in channels_last, and in bfloat16 where the processor has its arithmetic
    e  finetune        training the whole network, for scale
    f  bare            a plain PyTorch loop around the work of b, to show what the project's loop costs
    g  transform       as d, with the default unit

on ResNet-50 at layer3 with random weights, on digits. The units of a to d and f are `unit=factorized`, the former
default; g has `unit=transform`. All but e and f run through the shipped configuration and the trainer that users get.

Then the closed form: how long a ladder of the default unit takes without any training (training.epochs=0), from images
to units, over one epoch of a on the same images, whose steps are timed and multiplied up.

Then the time to quality: how long d, the default unit with all that it does by default, and its closed form take until
the held-back loss of every rate is where a brings it in `--epochs` epochs.

Each part can be run alone. The last line of output is JSON.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig
from torch.nn import functional as F

from benchmarks.ladders import FORMER, LMBDAS, SEPARATE, configure, fit, prepared
from benchmarks.time_to_quality import cifar10, time_to_quality
from bottlenecks.backbones.architecture import build_network
from bottlenecks.backbones.backbone import Backbone, save_backbone
from bottlenecks.console.cli import hush_lightning
from bottlenecks.images.preprocessing import Preprocessing
from bottlenecks.runs.fitting import assemble
from bottlenecks.settings.model import BackboneSpec
from bottlenecks.settings.training import TrainingPlan
from bottlenecks.splitting.features import cat
from bottlenecks.training.seeds import generator_for
from bottlenecks.training.start_file import StartFile

BEST = ("training.cache_features=true",)
CACHED = ("training.cache_features=true", "training.channels_last=false")
RATIOS = {
    "joint_over_separate": ("joint", "separate"),
    "cached_over_separate": ("cached", "separate"),
    "best_over_separate": ("best", "separate"),
    "transform_over_separate": ("transform", "separate"),
    "joint_over_finetune_step": ("joint", "finetune"),
    "best_over_finetune_step": ("best", "finetune"),
    "transform_over_finetune_step": ("transform", "finetune"),
    "loop_over_bare": ("joint", "bare"),
}
JOINT = ("training.cache_features=false",)  # in the layout that users get, too
ONE_VIEW = "data.augment=false"  # of each image, as the former default has it


class Clock(pl.Callback):
    """Takes the time between the ends of training steps; what the loop does in between counts."""

    def __init__(self, read: Callable[[], float] = time.perf_counter) -> None:
        self.read, self.last, self.times = read, 0.0, list[float]()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.last = self.read()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        now = self.read()
        self.times.append(now - self.last)
        self.last = now


def has_bfloat16() -> bool:
    """Whether the processor multiplies in bfloat16; without, it only looks as if."""
    cpus = Path("/proc/cpuinfo")
    return cpus.exists() and any(flag in cpus.read_text() for flag in ("avx512_bf16", "amx_bf16"))


def random_backbone(root: Path, size: int) -> Path:
    """Write a ResNet-50 with random weights for ten classes, and what it wants images to look like."""
    torch.manual_seed(0)
    spec = BackboneSpec.of(configure(root).model)
    names = tuple(str(digit) for digit in range(10))
    look = Preprocessing.from_dict({**configure(root).data.preprocessing, "resize": [size, size]})
    path = root / "backbone.safetensors"
    save_backbone(path, Backbone(build_network(spec, 10), spec, look, names, "random"), {"data": "digits"})
    return path


def few_steps(root: Path, size: int, batch: int, images: int, steps: int) -> tuple[str, ...]:
    """Return the settings of one step that warms up and some that are timed, on so many images."""
    return (
        f"model.weights={random_backbone(root, size)}",
        f"data.batch_size={batch}",
        f"data.limit_train={images}",
        f"data.limit_val={batch}",
        ONE_VIEW,
        "training.calibration_images=16",
        "training.epochs=1",
        f"+trainer.limit_train_batches={steps + 1}",
        "+trainer.limit_val_batches=0",
    )


def step_times(root: Path, best: Sequence[str], size: int, batch: int, rounds: int, steps: int) -> dict[str, float]:
    """Return the median seconds of a step of each variant, taken in turns."""
    common = few_steps(root, size, batch, (steps + 1) * batch, steps)
    names = ("separate", "joint", "cached", "best", "transform", "finetune", "bare")
    times: dict[str, list[float]] = {name: [] for name in names}
    experiments = {}

    def project(name: str, lmbdas: Sequence[float], *overrides: str) -> list[float]:
        cfg = configure(root, *common, *overrides)
        if name not in experiments:
            experiments[name] = prepared(cfg)
        clock = Clock()
        fit(cfg, experiments[name], lmbdas, root / f"{name}.start", clock)
        return clock.times[1:]  # the first step warms up

    bare = bare_step(root, configure(root, *common, FORMER, *JOINT), batch)
    finetune = finetune_step(batch, size)
    for done in range(rounds):
        for lmbda in LMBDAS[: 1 if done else None]:  # all rates cost the same; the first round shows it
            times["separate"] += project("separate", [lmbda], FORMER, *SEPARATE)
        times["joint"] += project("joint", LMBDAS, FORMER, *JOINT)
        times["bare"] += timed(bare, steps)
        times["cached"] += project("cached", LMBDAS, FORMER, *CACHED)
        times["best"] += project("best", LMBDAS, FORMER, *best)
        times["transform"] += project("transform", LMBDAS, *best)
        times["finetune"] += timed(finetune, steps)
        print(f"round {done + 1} of {rounds}: " + ", ".join(f"{k} {v[-1]:.2f} s" for k, v in times.items()), flush=True)
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {**medians, "separate": len(LMBDAS) * medians["separate"]}


def timed(step: Callable[[], None], count: int) -> list[float]:
    """Time a step after one that warms up."""
    times = []
    for _ in range(count + 1):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return times[1:]


def bare_step(root: Path, cfg: DictConfig, batch: int) -> Callable[[], None]:
    """The joint step written out, with the project's units and nothing else of it."""
    experiment, start = prepared(cfg), StartFile(root / "bare.start", {}, {}, False)
    trainer = pl.Trainer(logger=False, enable_checkpointing=False, accelerator="cpu", enable_model_summary=False)
    module, _ = assemble(experiment, TrainingPlan.of(cfg), LMBDAS, trainer, start)
    network, units = module.network, [unit.train() for unit in module.units]
    parameters = [value for unit in units for value in unit.parameters() if value.requires_grad]
    optimiser = torch.optim.Adam(parameters, 2e-3, fused=True)
    dataset: Any = experiment.datamodule.calibration_dataloader().dataset
    state = {"step": 0}

    def step() -> None:
        first = state["step"] * batch % (len(dataset) - batch + 1)
        images = torch.stack([dataset[index][0] for index in range(first, first + batch)])
        with torch.no_grad():
            features = network.head(images)
            teacher = F.log_softmax(network.tail(*features), 1)
        outputs = [
            unit(features, generator_for(0, lmbda, state["step"])) for lmbda, unit in zip(LMBDAS, units, strict=True)
        ]
        students = network.tail(*cat([output.features_hat for output in outputs])).chunk(len(units))
        loss = torch.zeros(())
        for lmbda, output, student in zip(LMBDAS, outputs, students, strict=True):
            distortion = 100 * F.kl_div(F.log_softmax(student, 1), teacher, log_target=True, reduction="batchmean")
            loss = loss + lmbda * distortion + output.rate_bits.mean() / images[0, 0].numel()
        optimiser.zero_grad()
        loss.backward()
        for unit in units:
            torch.nn.utils.clip_grad_norm_(unit.parameters(), 1.0)
        optimiser.step()
        state["step"] += 1

    return step


def finetune_step(batch: int, size: int) -> Callable[[], None]:
    """A step of training the whole network on labels."""
    network = build_network(BackboneSpec.of(configure(Path(".")).model), 1000).train().requires_grad_(True)
    optimiser = torch.optim.SGD(network.parameters(), 0.01, momentum=0.9)
    images, targets = torch.randn(batch, 3, size, size), torch.randint(1000, (batch,))

    def step() -> None:
        optimiser.zero_grad()
        F.cross_entropy(network(images), targets).backward()
        optimiser.step()

    return step


def closed_form_times(root: Path, size: int, batch: int, images: int, steps: int) -> dict[str, float]:
    """Compare a ladder in closed form with one epoch of separate trainings of the former default.

    Processor time is given, too: on a machine that does other work, it says more.
    """
    common = few_steps(root, size, batch, images, steps)
    reads = {"": time.perf_counter, "_processor": time.process_time}
    taken: dict[str, list[float]] = {name: [] for name in reads}

    def separate() -> None:
        cfg, clocks = configure(root, *common, FORMER, *SEPARATE), {name: Clock(read) for name, read in reads.items()}
        fit(cfg, prepared(cfg), LMBDAS[:1], root / "separate.start", *clocks.values())
        for name, clock in clocks.items():
            taken[name] += clock.times[1:]

    separate()
    cfg = configure(root, *common, "training.epochs=0")
    experiment = prepared(cfg)
    began = {name: read() for name, read in reads.items()}
    fit(cfg, experiment, LMBDAS, root / "closed_form.start")
    closed = {name: read() - began[name] for name, read in reads.items()}
    separate()  # before and after, for other work on the machine comes and goes
    ratios = {}
    for name, own in taken.items():
        epoch = len(LMBDAS) * (images // batch) * statistics.median(own)
        print(f"closed form {closed[name]:.1f} s, separate epoch {epoch:.1f} s {name[1:]}".strip(), flush=True)
        ratios[f"closed_form_over_separate_epoch{name}"] = closed[name] / epoch
    return ratios


def main() -> None:
    """Measure, and print JSON last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps-only", action="store_true", help="this part alone: the steps")
    parser.add_argument("--closed-form", action="store_true", help="this part alone: a ladder without training")
    parser.add_argument("--quality-only", action="store_true", help="this part alone: the time to quality")
    parser.add_argument("--size", type=int, default=224, help="of the images, in pixels")
    parser.add_argument("--images", type=int, default=1000, help="that the closed form is fitted to")
    parser.add_argument("--batch", type=int, default=16, help="images in a batch")
    parser.add_argument("--rounds", type=int, default=3, help="turns that the variants take")
    parser.add_argument("--steps", type=int, default=2, help="timed steps of each turn")
    parser.add_argument("--epochs", type=int, default=10, help="of the separate trainings whose loss is to be reached")
    parser.add_argument("--fast-epochs", type=int, default=4, help="at most, of the joint training")
    parser.add_argument("--cifar-images", type=int, default=5000, help="of CIFAR-10 to train on")
    precision = "bf16-mixed" if has_bfloat16() else "32-true"
    parser.add_argument("--precision", default=precision, help=f"of d; {precision} on this processor")
    parser.add_argument("--shared", type=Path, default=Path("../shared/data"), help="where the CIFAR-10 weights are")
    options = parser.parse_args()
    hush_lightning()
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        best = (*BEST, f"trainer.precision={options.precision}")
        result: dict[str, Any] = dict.fromkeys((*RATIOS, "closed_form_over_separate_epoch", "time_to_quality_speedup"))
        everything = not (options.steps_only or options.closed_form or options.quality_only)
        if options.steps_only or everything:
            times = step_times(root, best, options.size, options.batch, options.rounds, options.steps)
            print("seconds a step: " + ", ".join(f"{name} {value:.3f}" for name, value in times.items()))
            result |= {ratio: times[above] / times[below] for ratio, (above, below) in RATIOS.items()}
        if options.closed_form or everything:
            result |= closed_form_times(root, options.size, options.batch, options.images, options.steps)
        if options.quality_only or everything:
            data = cifar10(options.shared, options.cifar_images) or ["data=digits"]
            result |= time_to_quality(root, best, data, options.epochs, options.fast_epochs)
    print(json.dumps({name: value if value is None else round(value, 4) for name, value in result.items()}))


if __name__ == "__main__":
    main()
