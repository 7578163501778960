"""Several tensors in one transform unit: one frame for all, and each part as if it were alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from bottlenecks.coding.bitstream import BitstreamError, pack
from bottlenecks.rates.rate import Rate, load_rate, save_rate
from bottlenecks.training.seeds import generator_for
from bottlenecks.units import TransformUnit
from tests.fuzzing import each_flip
from tests.units.test_transform import info_of
from tests.units.test_units import features_like
from tests.units.transforms import begin

SHAPES = ((12, 8, 10), (20, 4, 5), (6, 2, 3))
BLOCKS = ((4, 4), (4, 5), (2, 3))  # of what is joint: the whole map


def sample(count: int = 3, scale: int = 1) -> tuple[Tensor, ...]:
    return tuple(features_like((c, scale * h, scale * w), count, seed=at) for at, (c, h, w) in enumerate(SHAPES))


@pytest.fixture(scope="module", params=["separable, joint, joint", "separable", "joint"])
def unit(request: pytest.FixtureRequest) -> TransformUnit:
    """A unit whose parts were begun one by one, with structures of their own."""
    torch.manual_seed(0)
    structures = request.param.split(", ") if "," in request.param else 3 * [request.param]
    alone = []
    for structure, own, block in zip(structures, sample(64), BLOCKS, strict=True):
        whole = (own.shape[2], own.shape[3])
        alone.append(begin([own], structure, whole if structure == "joint" else block, rank=5, restorer=4))
    made = TransformUnit([one.parts[0].config() for one in alone])
    for part, one in zip(made.parts, alone, strict=True):
        part.load_state_dict(one.parts[0].state_dict())
    made.finalise()
    return made


def alone(unit: TransformUnit) -> list[TransformUnit]:
    """Each part as a unit by itself."""
    units = []
    for part in unit.parts:
        units.append(TransformUnit([part.config()]))
        units[-1].parts[0].load_state_dict(part.state_dict())
        units[-1].finalise()
    return units


def test_bytes_give_what_each_part_alone_would(unit: TransformUnit) -> None:
    features = sample()
    streams = unit.compress(features)
    together = unit.decompress(streams)
    lengths = []
    for one, tensor, decoded in zip(alone(unit), features, together, strict=True):
        own = one.compress((tensor,))
        assert torch.equal(one.decompress(own)[0], decoded) and decoded.shape == tensor.shape
        lengths.append([len(stream) for stream in own])
    for stream, *parts in zip(streams, *lengths, strict=True):
        assert len(stream) <= sum(parts) - 12  # one header in the place of three


def test_bits_are_the_sum_of_the_parts_and_near_the_bytes(unit: TransformUnit) -> None:
    features = sample(64)
    with torch.no_grad():
        found = unit(features).rate_bits
        expected = sum(one((own,)).rate_bits for one, own in zip(alone(unit), features, strict=True))
    assert torch.allclose(found, torch.as_tensor(expected))
    assert float(unit.bits_per_channel(features).sum()) == pytest.approx(float(found.mean()), rel=1e-4)
    assert unit.bits_per_channel(features).shape == (15,)
    payload = sum(map(len, unit.compress(features))) - 64 * 6
    assert float(found.sum()) / 8 <= payload <= 1.01 * float(found.sum()) / 8 + 2 * 64


def test_forward_gives_what_bytes_give(unit: TransformUnit) -> None:
    features = sample()
    with torch.no_grad():
        expected = unit(features).features_hat
    assert all(torch.equal(*pair) for pair in zip(unit.decompress(unit.compress(features)), expected, strict=True))


def test_other_sizes_travel(unit: TransformUnit) -> None:
    features = sample(2, scale=2)
    decoded = unit.decompress(unit.compress(features))
    assert [one.shape for one in decoded] == [one.shape for one in features]


def test_one_tensor_of_a_size_that_does_not_fit_is_refused(unit: TransformUnit) -> None:
    first, second, third = sample(2)
    odd = (first, second, features_like((6, 3, 3), 2))
    if unit.parts[2].structure == "separable":
        assert unit.decompress(unit.compress(odd))[2].shape == (2, 6, 3, 3)
        return
    with pytest.raises(ValueError, match=r"features of \(3, 3\) are no whole number of this unit's blocks of \(2, 3\)"):
        unit.compress(odd)
    forged = pack(b"\x55", unit.framing.fingerprint, (8, 10, 4, 5, 3, 3), 6)
    with pytest.raises(BitstreamError, match="no whole number of this unit's blocks"):
        unit.decompress([forged])
    assert third.shape[-2:] == (2, 3)


def test_every_flipped_bit_is_refused(unit: TransformUnit) -> None:
    (stream,) = unit.compress(tuple(one[:1] for one in sample()))
    for damaged in each_flip(stream):
        with pytest.raises(BitstreamError):
            unit.decompress([damaged])


def test_forged_payloads_end_in_an_error_or_in_the_promised_shapes(unit: TransformUnit) -> None:
    generator, ends = generator_for("forged"), set()
    for length in range(60):
        payload = bytes(torch.randint(0, 256, (length,), generator=generator).tolist())
        try:
            decoded = unit.decompress([pack(payload, unit.framing.fingerprint)])
        except BitstreamError:
            ends.add("error")
            continue
        ends.add("shapes")
        assert [one.shape[1:] for one in decoded] == [torch.Size(shape) for shape in SHAPES]
    assert "shapes" in ends


def test_a_file_gives_the_same_bytes_again(unit: TransformUnit, tmp_path: Path) -> None:
    save_rate(tmp_path / "lambda=0.01.safetensors", Rate(unit, info_of(unit)))
    again = load_rate(tmp_path / "lambda=0.01.safetensors").unit
    assert isinstance(again, TransformUnit) and again.config() == unit.config()
    streams = unit.compress(sample())
    assert again.compress(sample()) == streams
    assert all(torch.equal(*pair) for pair in zip(again.decompress(streams), unit.decompress(streams), strict=True))
