"""Frozen means frozen, and a unit trains beside others as it would alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins import MixedPrecision
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from bottlenecks.backbones.backbone import freeze
from bottlenecks.settings.training import OptimiserConfig
from bottlenecks.splitting.cut import cut
from bottlenecks.tasks import Classification
from bottlenecks.training.any_rate import Measured
from bottlenecks.training.calibration import calibrate
from bottlenecks.training.ladder import build_units
from bottlenecks.training.loss import RateDistortionLoss
from bottlenecks.training.module import FINE, LadderModule, pace_of, trained
from bottlenecks.training.optimisers import scaler_of
from bottlenecks.training.seeds import generator_for
from tests.networks import Tiny

UNIT = {"architecture": "factorized", "latent_channels": 5}


def forty(dtype: torch.dtype = torch.float32) -> DataLoader:
    """Forty random images in a fixed order, ten a batch."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(40, 3, 32, 32, generator=generator, dtype=torch.float64).to(dtype)
    return DataLoader(TensorDataset(images, torch.arange(40) % 10), batch_size=10)


def make_module(
    lmbdas: Sequence[float], dtype: torch.dtype = torch.float32, rates_per_pass: int | None = None, **optimiser: Any
) -> LadderModule:
    """Cut a tiny frozen network at `body` and put units there."""
    torch.manual_seed(0)
    network = cut(freeze(Tiny().to(dtype)), "body", torch.zeros(1, 3, 32, 32, dtype=dtype))
    features = calibrate(network.head, forty(dtype), torch.device("cpu"))
    units = {lmbda: unit.to(dtype) for lmbda, unit in build_units(lmbdas, UNIT, network, features, seed=3).items()}
    task = Classification()
    loss = RateDistortionLoss(task, {"kd": 1.0, "mse": 0.1}, [features[0].variance])
    return LadderModule(network, units, task, loss, OptimiserConfig(**optimiser), 3, rates_per_pass)


def fit(
    module: LadderModule, tmp_path: Path, epochs: int = 1, dtype: torch.dtype = torch.float32, **options: Any
) -> pl.Trainer:
    """Train on the images."""
    trainer = pl.Trainer(
        **options,
        accelerator="cpu",
        max_epochs=epochs,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=tmp_path,
    )
    trainer.fit(module, forty(dtype), forty(dtype))
    return trainer


def half_precision(scale: float = 2.0**16) -> MixedPrecision:
    """Make what Lightning trains with in 16-mixed on an accelerator, on the CPU."""
    return MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=scale))


def gradients(module: LadderModule, trainer: pl.Trainer) -> list[Tensor]:
    """Take the gradients of one batch as a trainer does, without their scale, all of a unit as one."""
    module.trainer = trainer
    module.train()
    with trainer.precision_plugin.forward_context():
        loss = module.training_step(next(iter(forty())), 0)
    scaler = scaler_of(module)
    (loss if scaler is None else scaler.scale(loss)).backward()
    scale = 1.0 if scaler is None else scaler.get_scale()
    values = [[value.grad for value in unit.parameters() if value.grad is not None] for unit in module.units]
    return [torch.cat([one.flatten() for one in own]) / scale for own in values]


def plain_trainer(**options: Any) -> pl.Trainer:
    """Make a trainer that is only asked for its precision."""
    return pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, **options)


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


@pytest.mark.slow
def test_a_unit_trains_in_a_ladder_as_it_does_alone(tmp_path: Path) -> None:
    ladder = make_module([0.003, 0.03, 0.3], torch.float64)
    alone = make_module([0.03], torch.float64)
    for module in (ladder, alone):
        fit(module, tmp_path, epochs=5, dtype=torch.float64)  # 20 steps
    expected = alone.units[0].state_dict()
    for name, tensor in ladder.units[1].state_dict().items():
        assert torch.allclose(tensor.double(), expected[name].double(), atol=1e-6, rtol=0), name
    coarse, fine = (unit.state_dict()["down.weight"] for unit in [*ladder.units][:2])
    assert not torch.allclose(coarse, fine)


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


def test_a_unit_of_any_rate_learns_as_slowly_as_its_finest_rate() -> None:
    points = [Measured(-40.0, 9.0, 0.2), Measured(0.0, 4 * FINE, 0.1), Measured(50.0, FINE / 16, 0.5)]
    assert pace_of(points) == 1 and pace_of(points, 55) == pytest.approx(1 / 4)


@pytest.mark.slow
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
    images, targets = next(iter(forty()))
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


def test_half_precision_has_the_gradients_of_single() -> None:
    """Unscaled, those of the distortion would be too small for half precision, and zero."""
    found = gradients(make_module([0.0003, 0.03]), plain_trainer(plugins=[half_precision()]))
    expected = gradients(make_module([0.0003, 0.03]), plain_trainer())
    for own, right in zip(found, expected, strict=True):
        assert float((own - right).norm() / right.norm()) < 0.01


def test_what_is_clipped_is_not_scaled(tmp_path: Path) -> None:
    """With scaled gradients every step would be clipped to the same length, whatever the scale."""
    seen: list[list[float]] = []

    class Watched(LadderModule):
        def configure_gradient_clipping(self, *given: Any, **named: Any) -> None:
            seen[-1] += [
                float(nn.utils.get_total_norm([p.grad for p in self.units.parameters() if p.grad is not None]))
            ]
            super().configure_gradient_clipping(*given, **named)

    for plugins in ([half_precision()], []):
        module = make_module([0.01], gradient_clip=1e-3)
        module.__class__ = Watched
        seen.append([])
        fit(module, tmp_path, plugins=plugins)
    assert len(seen[0]) == len(seen[1]) == 4 and seen[0] == pytest.approx(seen[1], rel=0.05)


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")
def test_too_large_a_scale_is_lowered(tmp_path: Path) -> None:
    """Gradients that are not finite in half precision are seen by what scales them, and the units stay sound."""
    plugin = half_precision(2.0**40)
    module = make_module([0.01])
    fit(module, tmp_path, epochs=8, plugins=[plugin])
    assert plugin.scaler is not None and plugin.scaler.get_scale() < 2.0**40
    assert all(tensor.isfinite().all() for tensor in module.units.state_dict().values() if tensor.is_floating_point())


def test_batches_that_are_added_up_have_noise_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[int] = []
    make = generator_for
    monkeypatch.setattr(
        "bottlenecks.training.module.generator_for", lambda *purpose: (steps.append(purpose[2]), make(*purpose))[1]
    )
    fit(make_module([0.01]), tmp_path, epochs=2, accumulate_grad_batches=2, limit_val_batches=0)
    assert steps == [*range(8)]
