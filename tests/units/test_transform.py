"""What is particular to transform units: their fingerprint, their precision, dead coefficients, and how they learn."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bottlenecks.errors import UsageError
from bottlenecks.rates.info import RateInfo
from bottlenecks.rates.rate import Rate, load_rate, save_rate
from bottlenecks.tensor_files import read_safetensors
from bottlenecks.training.seeds import generator_for
from bottlenecks.units import Bottleneck, TransformUnit, make_unit
from bottlenecks.units.base import LearningRates
from bottlenecks.units.laplacian import LARGEST, PARTS, RATIO
from bottlenecks.units.transform_part import TransformPart
from tests.units.test_units import SHAPE, batch_like, features_like
from tests.units.transforms import begin

KINDS = {"separable": (4, 4), "joint": (7, 10)}


@pytest.fixture(params=KINDS)
def unit(request: pytest.FixtureRequest) -> TransformUnit:
    torch.manual_seed(0)
    made = begin([features_like(count=64)], request.param, KINDS[request.param], restorer=8)
    made.finalise()
    return made


def info_of(unit: Bottleneck) -> RateInfo:
    return RateInfo(
        model="m", backbone={}, backbone_fingerprint="f", preprocessing={}, class_names=[], split="s",
        image_shape=[3, 64, 80], feature_shape=unit.feature_shape, unit_name="transform",
        unit={"architecture": "transform", "config": unit.config()}, lmbda=0.01, data="d", training={},
        training_hash="h",
    )  # fmt: skip


def test_finalising_again_changes_nothing(unit: TransformUnit) -> None:
    twin = copy.deepcopy(unit)
    twin.finalise()
    assert twin.framing.fingerprint == unit.framing.fingerprint
    assert all(torch.equal(own, twin.state_dict()[name]) for name, own in unit.state_dict().items())
    other = make_unit("transform", unit.config())
    other.load_state_dict(unit.state_dict())
    other.finalise(unit.tables)
    assert other.framing.fingerprint == unit.framing.fingerprint


def test_the_fingerprint_covers_every_weight_and_the_quantiser(unit: TransformUnit) -> None:
    own = unit.framing.fingerprint
    for name in unit.state_dict():
        twin = copy.deepcopy(unit)
        flat = twin.state_dict()[name].flatten()
        with torch.no_grad():
            twin.state_dict()[name].view(-1)[-1] = flat[-1] + max(1.0, float(flat[-1].abs()))
        twin.finalise()
        assert twin.framing.fingerprint != own, name
    config = unit.config()
    config["parts"][0]["rounding"] = 0.44
    other = make_unit("transform", config)
    other.load_state_dict(unit.state_dict())
    other.finalise()
    assert other.framing.fingerprint != own


def test_a_file_holds_half_precision_and_gives_the_same_unit(unit: TransformUnit, tmp_path: Path) -> None:
    path = tmp_path / "lambda=0.01.safetensors"
    save_rate(path, Rate(unit, info_of(unit)))
    stored, _ = read_safetensors(path)
    halves = {name for name, tensor in stored.items() if tensor.dtype == torch.float16}
    weights = {f"unit.{name}" for name in unit.state_dict() if not name.endswith(("bias", "mean"))}
    assert weights <= halves and len(weights) > 6
    again = load_rate(path).unit
    assert all(torch.equal(own, again.state_dict()[name]) for name, own in unit.state_dict().items())
    assert again.framing.fingerprint == unit.framing.fingerprint and again.config() == unit.config()
    features = batch_like()
    streams = unit.compress(features)
    assert again.compress(features) == streams
    assert torch.equal(again.decompress(streams)[0], unit.decompress(streams)[0])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", [1e-7, 1e-3, 1.0, 1e3, 1e7])
def test_what_half_precision_cannot_hold_stays_in_single(kind: str, scale: float, tmp_path: Path) -> None:
    """The features' own scale must not matter: bytes and what they restore are the same but for that scale."""
    reference = begin([features_like(count=64)], kind, KINDS[kind])
    features = features_like()
    made = begin([scale * features_like(count=64)], kind, KINDS[kind])
    with torch.no_grad():
        (before,), bits_before = made((scale * features,))
    made.finalise()
    reference.finalise()
    with torch.no_grad():
        (after,), bits_after = made((scale * features,))
    assert float((after - before).norm() / before.norm()) < 0.05
    assert float(bits_after.sum()) == pytest.approx(float(bits_before.sum()), rel=0.02)
    lost = [
        float((own.decompress(own.compress((by * features,)))[0] / by - features).square().mean())
        for own, by in ((reference, 1.0), (made, scale))
    ]
    assert lost[1] == pytest.approx(lost[0], rel=0.02)
    save_rate(tmp_path / "lambda=0.01.safetensors", Rate(made, info_of(made)))
    again = load_rate(tmp_path / "lambda=0.01.safetensors").unit
    assert all(torch.equal(own, again.state_dict()[name]) for name, own in made.state_dict().items())


class Sender(nn.Module):
    """What runs on the device."""

    def __init__(self, part: TransformPart) -> None:
        super().__init__()
        self.part = part

    def forward(self, features: Tensor) -> Tensor:
        return self.part.steps(features)


class Receiver(nn.Module):
    """What runs on the server."""

    def __init__(self, part: TransformPart) -> None:
        super().__init__()
        self.part = part

    def forward(self, symbols: Tensor) -> Tensor:
        return self.part.reconstruct(symbols, self.part.own_size)


def test_the_halves_that_are_exported_are_what_compresses_and_restores(unit: TransformUnit) -> None:
    (part,), features = unit.parts, features_like()
    sender = torch.export.export(Sender(part), (features,)).module()
    symbols = sender(features)
    assert np.array_equal(symbols.detach().numpy(), *unit.symbols((features,))) and symbols.abs().max() > 1
    receiver = torch.export.export(Receiver(part), (symbols.detach(),)).module()
    (restored,) = unit.decompress(unit.compress((features,)))
    assert torch.allclose(receiver(symbols.detach()), restored, atol=1e-5)


@pytest.mark.parametrize("nonnegative", [True, False])
def test_only_nonnegative_features_end_in_relu(nonnegative: bool) -> None:
    features = features_like(count=64) - 0.5 * (not nonnegative)
    unit = begin([features], "separable", (4, 4), nonnegative=nonnegative)
    assert bool((unit((features,)).features_hat[0] < 0).any()) != nonnegative


@pytest.mark.parametrize("training", [True, False])
def test_dead_coefficients_are_not_coded(unit: TransformUnit, training: bool) -> None:
    features, (part,) = (100 * features_like(),), unit.parts
    with torch.no_grad():
        part.scales[:3] = PARTS - 1.0
    (y_hat,), bits = unit.train(training).quantise(unit.encode(features), generator_for(0))
    assert not y_hat[:, :3].any() and y_hat[:, 3:].any() and (bits > 0).all()
    if not training:
        assert not unit.bits_per_channel(features)[:3].any()
    unit.finalise()
    (stream, *_) = unit.compress(features)
    (symbols,), _, _ = unit.framing.read(stream)
    assert not symbols[:3].any() and symbols[3:].any()


def test_a_unit_that_sends_nothing_restores_nearly_the_mean(unit: TransformUnit) -> None:
    features = features_like()
    for part in unit.parts:
        part.scales.data.zero_()
        part.restorer = None
    unit.finalise()
    streams = unit.compress((features,))
    assert [len(stream) for stream in streams] == [6, 6, 6] and unit.compress((0 * features,)) == streams
    (restored,) = unit.decompress(streams)
    assert torch.equal(restored[0], restored[1])
    over = 0 if unit.parts[0].structure == "joint" else (0, 2, 3)
    mean = features_like(count=64).mean(over, keepdim=True)[0]
    assert float((restored[0] - mean).square().mean()) < 1e-3 * float(features.var())


def test_training_sees_rounded_symbols_and_bits_near_those_of_the_tables(unit: TransformUnit) -> None:
    features = batch_like(count=64)
    with torch.no_grad():
        evaluated = unit.eval()(features)
        learned = unit.train()(features, generator_for(0))
    assert torch.allclose(learned.features_hat[0], evaluated.features_hat[0], atol=1e-4)
    assert float(learned.rate_bits.mean()) == pytest.approx(float(evaluated.rate_bits.mean()), rel=0.15)


def test_every_parameter_gets_a_gradient_from_rate_and_distortion(unit: TransformUnit) -> None:
    features = features_like(count=16)
    output = unit.train()((features,), generator_for(0))
    (output.features_hat[0] - features).square().mean().backward(retain_graph=True)
    silent = {name for name, own in unit.named_parameters() if own.grad is None or not own.grad.any()}
    assert silent == {"tensors.0.scales"}
    output.rate_bits.mean().backward()
    assert all(own.grad is not None and own.grad.isfinite().all() for own in unit.parameters())
    assert unit.parts[0].scales.grad.any()


def test_bits_of_channels_add_up(unit: TransformUnit) -> None:
    features = batch_like()
    bits = unit.bits_per_channel(features)
    assert bits.shape == (6,) and float(bits.sum()) == pytest.approx(float(unit(features).rate_bits.mean()), rel=1e-5)


def test_each_parameter_learns_in_proportion_to_its_size(unit: TransformUnit) -> None:
    plan = LearningRates(network=0.1, entropy=0.2, linear=0.01, weight_decay=0.3)
    groups = unit.parameter_groups(plan)
    rates = {id(own): group for group in groups for own in group.params}
    assert len(rates) == sum(len(group.params) for group in groups) == len([*unit.parameters()])
    for name, own in unit.named_parameters():
        group = rates[id(own)]
        if ".restorer." in name:
            assert (group.lr, group.weight_decay) == (0.1, 0.3)
        else:
            expected = 0.01
            if name.endswith("scales"):
                expected *= PARTS / math.log(RATIO)
            elif ".log_" not in name:
                expected *= float(own.detach().abs().mean())
            assert group.lr == pytest.approx(expected, rel=1e-6) and group.weight_decay == 0
    weight = unit.parts[0].transform.project.weight
    weight.data.zero_()
    (zeros,) = (group.lr for group in unit.parameter_groups(plan) if group.params[0] is weight)
    assert 1e-4 < zeros < 0.01


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"structure": "diagonal"}, r"unit.structure=diagonal: expected separable or joint"),
        ({"rank": 0}, r"unit.rank=0: expected a whole number of at least 1"),
        ({"block": [4, 0]}, r"unit.block=0: expected a whole number of at least 1"),
        ({"restorer": -1}, r"unit.restorer=-1: expected a whole number of at least 0"),
        ({"rounding": 0.6}, r"unit.rounding=0.6: expected a number above 0, and 0.5 at the most"),
        ({"rounding": 0.0}, r"unit.rounding=0.0: expected a number above 0, and 0.5 at the most"),
        ({"feature_shape": [197, 768]}, r"features there have shape \(197, 768\); units take \(C, H, W\)"),
        ({"widht": 3}, r"unit: transform was given .*widht"),
    ],
)
def test_bad_configurations_are_named(change: dict[str, Any], message: str) -> None:
    good = {
        "feature_shape": [*SHAPE], "structure": "separable", "rank": 3, "block": [4, 4], "restorer": 0,
        "nonnegative": True, "rounding": 0.5,
    }  # fmt: skip
    make_unit("transform", {"parts": [good]})
    with pytest.raises(UsageError, match=message):
        make_unit("transform", {"parts": [{**good, **change}]})


def test_tables_of_other_scales_are_refused(unit: TransformUnit) -> None:
    twin = copy.deepcopy(unit)
    with torch.no_grad():
        twin.parts[0].scales[0] = LARGEST
    with pytest.raises(ValueError, match=r"tables \d+ to \d+, the scales name those to \d+"):
        twin.finalise(unit.tables)
