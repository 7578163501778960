"""One contract for every unit: exact sizes, exact bytes, refusals, and a start from the features."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from bottlenecks.coding.bitstream import BitstreamError, pack
from bottlenecks.errors import UsageError
from bottlenecks.splitting.features import Features
from bottlenecks.training.seeds import generator_for
from bottlenecks.units import UNITS, Bottleneck, ChannelUnit, FactorizedPart, TransformUnit, make_unit
from tests.units.transforms import begin

SHAPE = (12, 7, 10)
TRANSFORMS: dict[str, Callable[[Tensor], Bottleneck]] = {
    "blocks of one place": lambda sample: begin([sample], "separable", (1, 1)),
    "blocks that do not divide": lambda sample: begin([sample], "separable", (4, 4), restorer=8),
    "one block": lambda sample: begin([sample - sample.mean()], "separable", (10, 10), nonnegative=False, rounding=0.5),
    "joint": lambda sample: begin([sample], "joint", (7, 10), restorer=8),
    "joint and signed": lambda sample: begin([sample - sample.mean()], "joint", (7, 10), nonnegative=False),
    "joint in blocks": lambda sample: begin([sample], "joint", (7, 5)),
}


def features_like(shape: tuple[int, ...] = SHAPE, count: int = 3, seed: int = 0) -> Tensor:
    """Correlated, non-negative features (count, *shape)."""
    noise = torch.randn(count, *shape, generator=generator_for(seed, "features"))
    mix = torch.randn(shape[0], shape[0], generator=generator_for(seed, "mix"))
    return torch.einsum("nchw,dc->ndhw", noise, mix).relu()


def batch_like(shape: tuple[int, ...] = SHAPE, count: int = 3) -> Features:
    """The same as what crosses a cut."""
    return (features_like(shape, count),)


def factorized(shape: tuple[int, ...] = SHAPE, **config: Any) -> ChannelUnit:
    """A unit of one tensor."""
    return ChannelUnit([FactorizedPart(shape, **config)])


def make_trained(architecture: str) -> Bottleneck:
    torch.manual_seed(0)
    made = make_unit(architecture, {"feature_shape": SHAPE, "latent_channels": 6})
    sample = batch_like(count=16)
    made.start_from(sample)
    made.train()
    for step in range(20):  # some units learn their tables from what passes in training
        made(sample, generator_for(step))
    return made


@pytest.fixture(params=[*sorted({*UNITS} - {"transform"}), *TRANSFORMS])
def unit(request: pytest.FixtureRequest) -> Bottleneck:
    if request.param in TRANSFORMS:
        torch.manual_seed(0)
        made = TRANSFORMS[request.param](features_like(count=64))
    else:
        made = make_trained(request.param)
    made.eval().refresh()
    made.finalise()
    return made


def block_of(unit: Bottleneck) -> tuple[int, int]:
    """Sides that features must be whole multiples of."""
    (part,) = unit.parts
    return (part.block[0], part.block[1]) if getattr(part, "structure", None) == "joint" else (1, 1)


def test_every_size_is_restored_or_refused(unit: Bottleneck) -> None:
    height, width = block_of(unit)
    sizes = ((7, 10), (8, 8), (1, 1), (3, 2), (13, 5), (height, 3 * width), (2 * height, width))
    taken = 0
    for size in sizes:
        features = batch_like((SHAPE[0], *size))
        if size[0] % height or size[1] % width:
            with pytest.raises(ValueError, match=r"no whole number of this unit's blocks of \(7, .*unit.structure=sep"):
                unit.compress(features)
            continue
        for (restored,) in (unit(features).features_hat, unit.decompress(unit.compress(features))):
            assert restored.shape == features[0].shape
        taken += 1
    assert taken == len(sizes) if (height, width) == (1, 1) else taken == 3


def test_bytes_decode_to_what_the_forward_pass_gives(unit: Bottleneck) -> None:
    features = batch_like()
    with torch.no_grad():
        (expected,) = unit(features).features_hat
    streams = unit.compress(features)
    assert torch.equal(unit.decompress(streams)[0], expected)
    assert streams == unit.compress(features)


def test_real_bytes_follow_the_estimate(unit: Bottleneck) -> None:
    features = batch_like(count=64)
    with torch.no_grad():
        estimated = float(unit(features).rate_bits.sum()) / 8
    streams = unit.compress(features)
    payload = sum(map(len, streams)) - 6 * len(streams)
    assert payload > 2 * len(streams)
    assert estimated * 0.97 <= payload <= estimated * 1.03 + 2 * len(streams)


def test_chance_comes_from_the_generator_alone(unit: Bottleneck) -> None:
    features = batch_like()
    unit.train()
    first = unit(features, generator_for(1)).rate_bits
    torch.rand(7)
    assert torch.equal(unit(features, generator_for(1)).rate_bits, first)
    rounds = isinstance(unit, TransformUnit)  # for real, where others take noise
    assert torch.equal(unit(features, generator_for(2)).rate_bits, first) == rounds


def test_state_can_be_reloaded_and_swapped_after_tables_were_built(unit: Bottleneck) -> None:
    twin = copy.deepcopy(unit)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.add_(0.1)
    twin.finalise()
    unit.load_state_dict(twin.state_dict())
    unit.finalise()
    features = batch_like()
    assert unit.compress(features) == twin.compress(features)


def test_streams_of_another_unit_are_refused(unit: Bottleneck) -> None:
    twin = copy.deepcopy(unit)
    with torch.no_grad():
        for value in twin.state_dict().values():
            if value.is_floating_point():
                value.add_(torch.rand(value.shape, generator=generator_for("other")))
    twin.refresh()
    twin.finalise()
    with pytest.raises(BitstreamError, match="not for this one"):
        unit.decompress(twin.compress(batch_like()))


@pytest.mark.parametrize("damage", ["short", "long", "flipped", "empty"])
def test_damaged_streams_are_refused(unit: Bottleneck, damage: str) -> None:
    (stream,) = unit.compress(batch_like(count=1))
    damaged = {
        "short": stream[:-1],
        "long": stream + b"\0",
        "flipped": stream[:-1] + bytes([stream[-1] ^ 1]),
        "empty": b"",
    }[damage]
    with pytest.raises(BitstreamError):
        unit.decompress([damaged])


def test_a_forged_size_is_bounded(unit: Bottleneck) -> None:
    fingerprint = unit.framing.fingerprint
    with pytest.raises(BitstreamError, match="positions are allowed"):
        unit.decompress([pack(b"", fingerprint, (4000, 4000))])
    with pytest.raises(BitstreamError, match="is not one this unit's encoder writes"):
        unit.decompress([pack(b"", fingerprint, SHAPE[1:])])
    if block_of(unit) != (1, 1):
        with pytest.raises(BitstreamError, match="no whole number of this unit's blocks"):
            unit.decompress([pack(b"", fingerprint, (7, 11))])


def test_what_no_receiver_takes_is_not_sent(unit: Bottleneck) -> None:
    with pytest.raises(ValueError, match=r"features of \(200, 200\) are more than 16 times as large"):
        unit.compress((torch.zeros(1, SHAPE[0], 200, 200),))
    with pytest.raises(ValueError, match="not finite or too large to code"):
        unit.compress((torch.full((1, *SHAPE), torch.nan),))


def test_finalising_ends_training(unit: Bottleneck) -> None:
    unit.train().finalise()
    assert not unit.training


def test_one_batch_has_one_size(unit: Bottleneck) -> None:
    streams = unit.compress(batch_like()) + unit.compress(batch_like((SHAPE[0], 14, 20)))
    with pytest.raises(BitstreamError, match="one batch must have one size"):
        unit.decompress(streams)


def test_coding_needs_tables() -> None:
    with pytest.raises(RuntimeError, match="no tables yet"):
        factorized().compress(batch_like())


@pytest.mark.parametrize(("stride", "kernel_size"), [(1, 1), (2, 3), (3, 3), (4, 5), (4, 7)])
def test_any_stride_restores_odd_sizes(stride: int, kernel_size: int) -> None:
    unit = factorized(latent_channels=4, stride=stride, kernel_size=kernel_size).eval()
    for size in ((7, 10), (9, 9), (14, 14), (1, 3)):
        features = batch_like((SHAPE[0], *size))
        (latent,) = unit.encode(features)
        assert latent.shape[-2:] == unit.parts[0].latent_size(size)
        assert unit(features).features_hat[0].shape == features[0].shape


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"kernel_size": 4}, r"unit.kernel_size=4: expected an odd number of at least unit.stride=2"),
        ({"stride": 5}, r"unit.kernel_size=3: expected an odd number of at least unit.stride=5"),
        ({"stride": 0}, r"unit.stride=0: expected a whole number of at least 1"),
        ({"latent_channels": 0}, r"unit.latent_channels=0: expected a whole number of at least 1"),
        ({"activation": "gelu"}, r"unit.activation=gelu: expected relu or none"),
        ({"widht": 3}, r"unit: factorized was given .*widht"),
        ({"feature_shape": (197, 768)}, r"features there have shape \(197, 768\); units take \(C, H, W\)"),
    ],
)
def test_bad_configurations_are_named(config: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_unit("factorized", {"feature_shape": SHAPE, **config})


def test_an_unknown_architecture_is_named() -> None:
    with pytest.raises(UsageError, match=r"unit.architecture=factorised: no such unit; there are factorized"):
        make_unit("factorised", {})


def test_only_nonnegative_features_end_in_relu() -> None:
    signed = factorized(nonnegative=False).eval()
    rectified = factorized(nonnegative=True).eval()
    assert (signed(batch_like()).features_hat[0] < 0).any()
    assert not (rectified(batch_like()).features_hat[0] < 0).any()


@pytest.mark.parametrize("activation", ["none", "relu"])
def test_a_warm_start_keeps_most_of_the_variance(activation: str) -> None:
    smooth = torch.nn.functional.interpolate(features_like((12, 4, 4), count=32), scale_factor=2)
    torch.manual_seed(0)
    cold = FactorizedPart((12, 8, 8), 12, activation=activation, nonnegative=True).eval()
    warm = copy.deepcopy(cold)
    warm.start_from(smooth)

    def lost(unit: FactorizedPart) -> float:
        with torch.no_grad():
            return float((unit.decode(unit.encode(smooth), (8, 8)) - smooth).square().mean() / smooth.var())

    assert lost(cold) > 0.9
    assert lost(warm) < (1e-3 if activation == "none" else 0.5)  # not 0: the way back is damped


def test_a_warm_start_keeps_what_is_particular_to_places_of_a_small_map() -> None:
    features = features_like((12, 1, 1), count=64).repeat(1, 1, 2, 2)
    features[..., 0, :] *= torch.rand(12, 1, generator=generator_for("upper"))
    unit = FactorizedPart((12, 2, 2), 12).eval()
    unit.start_from(features)
    with torch.no_grad():
        lost = (unit.decode(unit.encode(features), (2, 2)) - features).square().mean() / features.var()
    assert lost < 3e-3


def test_a_warm_start_is_one_in_every_scale_of_the_features() -> None:
    bits = []
    for scale in (1e-3, 1.0, 1e3):
        torch.manual_seed(0)
        unit, features = factorized(latent_channels=6).eval(), (scale * features_like(count=16),)
        unit.start_from(features)
        with torch.no_grad():
            bits.append(float(unit(features).rate_bits.mean()))
    assert bits == pytest.approx([bits[1]] * 3, rel=0.02)


def test_the_default_unit_for_resnet50_is_small() -> None:
    unit = FactorizedPart((1024, 14, 14))
    assert sum(tensor.numel() * tensor.element_size() for tensor in unit.state_dict().values()) < 2**20
