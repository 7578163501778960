"""Several tensors at one cut: one frame, each tensor by a unit of its own, and nothing wrong is taken for right."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from bottlenecks.coding.bitstream import BitstreamError
from bottlenecks.rates.info import RateInfo
from bottlenecks.rates.rate import Rate, load_rate, save_rate
from bottlenecks.training.seeds import generator_for
from bottlenecks.units import ChannelUnit, make_unit
from tests.fuzzing import each_flip
from tests.units.test_units import features_like

SHAPES = ((12, 8, 10), (20, 4, 5), (6, 2, 3))


def sample(count: int = 3, scale: int = 1) -> tuple[Tensor, ...]:
    return tuple(features_like((c, scale * h, scale * w), count) for c, h, w in SHAPES)


@pytest.fixture(params=["factorized", "spic"])
def unit(request: pytest.FixtureRequest) -> ChannelUnit:
    torch.manual_seed(0)
    parts = [{"feature_shape": shape, "latent_channels": 5} for shape in SHAPES]
    made = make_unit(request.param, {"parts": parts})
    assert isinstance(made, ChannelUnit)
    made.start_from(sample(16))
    made.train()
    for step in range(10):
        made(sample(16), generator_for(step))
    made.eval().refresh()
    made.finalise()
    return made


def alone(unit: ChannelUnit) -> list[ChannelUnit]:
    """Each part as a unit by itself."""
    units = [ChannelUnit([part]) for part in unit.parts]
    for own in units:
        own.finalise()
    return units


def test_bytes_give_what_each_part_alone_would(unit: ChannelUnit) -> None:
    features, units = sample(), alone(unit)
    streams = unit.compress(features)
    together = unit.decompress(streams)
    for own, tensor, decoded in zip(units, features, together, strict=True):
        (restored,) = own.decompress(own.compress((tensor,)))
        assert torch.equal(restored, decoded) and decoded.shape == tensor.shape
    lengths = [[len(one) for one in own.compress((tensor,))] for own, tensor in zip(units, features, strict=True)]
    for stream, *parts in zip(streams, *lengths, strict=True):
        assert len(stream) < sum(parts)  # one header in the place of three


def test_bits_are_the_sum_of_the_parts(unit: ChannelUnit) -> None:
    features = sample()
    expected = sum(own((tensor,)).rate_bits for own, tensor in zip(alone(unit), features, strict=True))
    assert torch.allclose(unit(features).rate_bits, expected)
    assert unit.bits_per_channel(features).shape == (15,)


def test_other_sizes_travel(unit: ChannelUnit) -> None:
    features = sample(2, scale=2)
    decoded = unit.decompress(unit.compress(features))
    assert [one.shape for one in decoded] == [one.shape for one in features]


def test_every_flipped_bit_is_refused(unit: ChannelUnit) -> None:
    (stream,) = unit.compress(tuple(one[:1] for one in sample()))
    for damaged in each_flip(stream):
        with pytest.raises(BitstreamError):
            unit.decompress([damaged])


def test_forged_payloads_end_in_an_error_or_in_the_promised_shapes(unit: ChannelUnit) -> None:
    from bottlenecks.coding.bitstream import pack

    generator = torch.Generator().manual_seed(0)
    for length in range(0, 40):
        payload = bytes(torch.randint(0, 256, (length,), generator=generator).tolist())
        try:
            decoded = unit.decompress([pack(payload, unit.framing.fingerprint)])
        except BitstreamError:
            continue
        assert [one.shape[1:] for one in decoded] == [torch.Size(shape) for shape in SHAPES]


def test_a_file_gives_the_same_bytes_again(unit: ChannelUnit, tmp_path: Path) -> None:
    info = RateInfo(
        model="m", backbone={}, backbone_fingerprint="f", preprocessing={}, class_names=[], split="s",
        image_shape=[3, 64, 80], feature_shape=SHAPES, unit_name="factorized",
        unit={"architecture": "spic" if "spic" in type(unit.parts[0]).__name__.lower() else "factorized",
              "config": unit.config()},
        lmbda=0.01, data="d", training={}, training_hash="h",
    )  # fmt: skip
    save_rate(tmp_path / "lambda=0.01.safetensors", Rate(unit, info))
    again = load_rate(tmp_path / "lambda=0.01.safetensors").unit
    assert again.feature_shape == unit.feature_shape
    assert again.compress(sample()) == unit.compress(sample())
