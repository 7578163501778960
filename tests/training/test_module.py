"""Frozen means frozen, and a unit trains beside others as it would alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from bottlenecks.backbone import freeze
from bottlenecks.split import cut
from bottlenecks.tasks import Classification
from bottlenecks.training.any_rate import Measured
from bottlenecks.training.calibration import calibrate
from bottlenecks.training.ladder import build_units
from bottlenecks.training.loss import RateDistortionLoss
from bottlenecks.training.module import FINE, LadderModule, OptimiserConfig, trained
from tests.networks import Tiny

UNIT = {"architecture": "factorized", "latent_channels": 5}


def pictures(dtype: torch.dtype = torch.float32) -> DataLoader:
    """Forty random pictures in a fixed order, ten a batch."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(40, 3, 32, 32, generator=generator, dtype=torch.float64).to(dtype)
    return DataLoader(TensorDataset(images, torch.arange(40) % 10), batch_size=10)


def make_module(
    lmbdas: Sequence[float], dtype: torch.dtype = torch.float32, rates_per_pass: int | None = None, **optimiser: Any
) -> LadderModule:
    """Cut a tiny frozen network at `body` and put units there."""
    torch.manual_seed(0)
    network = cut(freeze(Tiny().to(dtype)), "body", torch.zeros(1, 3, 32, 32, dtype=dtype))
    features = calibrate(network.head, pictures(dtype), torch.device("cpu"))
    units = {lmbda: unit.to(dtype) for lmbda, unit in build_units(lmbdas, UNIT, network, features, seed=3).items()}
    task = Classification()
    loss = RateDistortionLoss(task, {"kd": 1.0, "mse": 0.1}, [features[0].variance])
    return LadderModule(network, units, task, loss, OptimiserConfig(**optimiser), 3, rates_per_pass)


def fit(module: LadderModule, tmp_path: Path, epochs: int = 1, dtype: torch.dtype = torch.float32) -> pl.Trainer:
    """Train on the pictures."""
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=tmp_path,
    )
    trainer.fit(module, pictures(dtype), pictures(dtype))
    return trainer


def snapshot(module: LadderModule) -> dict[str, Tensor]:
    """Copy every tensor."""
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def test_every_backbone_tensor_is_bitwise_the_same_after_training(tmp_path: Path) -> None:
    module = make_module([0.01, 0.1])
    before = snapshot(module)
    fit(module, tmp_path)
    after = module.state_dict()
    frozen = [name for name in after if not trained(name)]
    assert frozen and all(torch.equal(before[name], after[name]) for name in frozen)
    changed = [name for name in after if trained(name) and not torch.equal(before[name], after[name])]
    assert any("down.weight" in name for name in changed) and any("entropy.matrices" in name for name in changed)


def test_optimiser_and_checkpoint_hold_exactly_the_units(tmp_path: Path) -> None:
    module = make_module([0.01, 0.1])
    trainer = fit(module, tmp_path)
    trainer.save_checkpoint(tmp_path / "state.ckpt", weights_only=False)
    saved = torch.load(tmp_path / "state.ckpt", weights_only=True)["state_dict"]
    assert set(saved) == {f"units.{rate}.{name}" for rate in (0, 1) for name in module.units[0].state_dict()}
    optimised = {id(value) for group in trainer.optimizers[0].param_groups for value in group["params"]}
    expected = {name for name, _ in module.units.named_parameters() if not name.endswith("entropy.quantiles")}
    assert {name for name, value in module.units.named_parameters() if id(value) in optimised} == expected
    assert len(optimised) == len(expected)


def test_a_unit_trains_in_a_ladder_as_it_does_alone(tmp_path: Path) -> None:
    ladder = make_module([0.003, 0.03, 0.3], torch.float64)
    alone = make_module([0.03], torch.float64)
    for module in (ladder, alone):
        fit(module, tmp_path, epochs=5, dtype=torch.float64)  # 20 steps
    expected = alone.units[0].state_dict()
    for name, tensor in ladder.units[1].state_dict().items():
        assert torch.allclose(tensor.double(), expected[name].double(), atol=1e-6, rtol=0), name
    assert not torch.allclose(ladder.units[0].down.weight, ladder.units[1].down.weight)


def test_a_unit_that_begins_fine_learns_slowly_but_for_its_entropy_model(tmp_path: Path) -> None:
    made = make_module([0.01, 0.1])
    units = dict(zip(made.lmbdas, made.units, strict=True))
    points = {0.01: [Measured(0.0, 4 * FINE, 0.1)], 0.1: [Measured(-4.0, 9.0, 0.2), Measured(1.0, FINE / 16, 0.5)]}
    module = LadderModule(made.network, units, made.task, made.rate_loss, OptimiserConfig(), 3, measured=points)
    groups = fit(module, tmp_path).optimizers[0].param_groups
    of_each = [
        {group["initial_lr"] for group in groups if {*map(id, group["params"])} & {*map(id, unit.parameters())}}
        for unit in module.units
    ]
    assert of_each == [{2e-3, 2e-2}, {5e-4, 2e-2}]


def test_rates_train_in_several_passes_as_in_one(tmp_path: Path) -> None:
    together = make_module([0.003, 0.03, 0.3], torch.float64)
    in_turn = make_module([0.003, 0.03, 0.3], torch.float64, rates_per_pass=2)
    assert len(in_turn.passes) == 2
    for module in (together, in_turn):
        fit(module, tmp_path, dtype=torch.float64)
    expected = together.units.state_dict()
    for name, tensor in in_turn.units.state_dict().items():
        assert torch.allclose(tensor.double(), expected[name].double(), atol=1e-9, rtol=0), name


def test_clipping_one_unit_leaves_its_neighbour_alone(tmp_path: Path) -> None:
    module = make_module([0.01, 10.0], gradient_clip=0.5)
    images, targets = next(iter(pictures()))
    module.trainer = pl.Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")
    module.training_step((images, targets), 0).backward()

    def norms() -> list[float]:
        return [
            float(torch.stack([value.grad.norm() for value in unit.parameters() if value.grad is not None]).norm())
            for unit in module.units
        ]

    before = norms()
    module.configure_gradient_clipping(torch.optim.Adam(module.units.parameters()))
    assert norms() == pytest.approx([min(norm, 0.5) for norm in before], rel=1e-3)
    assert before[0] < 0.5 < before[1]


def test_the_network_stays_in_eval_mode() -> None:
    module = make_module([0.01]).train()
    assert module.units.training
    assert not any(part.training for part in module.network.modules())
