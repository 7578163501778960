"""The published unit: its layers, its one static table, and training through the real entry point."""

from __future__ import annotations

import copy
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from bottlenecks.coding.coder import TOTAL, ideal_bits
from bottlenecks.errors import UsageError
from bottlenecks.rates.ladder import Ladder
from bottlenecks.rates.rate import Rate, load_rate, read_info, save_rate
from bottlenecks.training.seeds import generator_for
from bottlenecks.units import Bottleneck, ChannelUnit, SpicPart, make_unit
from bottlenecks.units.spic import MOMENTUM, NARROWEST, NUM_SYMBOLS, gaussian_bits, whole_counts
from evaluate import evaluate
from tests.conftest import QUICK, TINY, configure, quiet
from train import train

SHAPE = (12, 7, 10)


def features_like(count: int = 16, seed: int = 0, shape: tuple[int, ...] = SHAPE) -> Tensor:
    return torch.randn(count, *shape, generator=generator_for(seed, "features")).relu()


def fitted(**config: object) -> ChannelUnit:
    """A unit that has seen training batches."""
    torch.manual_seed(0)
    unit = make_unit("spic", {"feature_shape": SHAPE, "latent_channels": 6, "step": 0.25, **config})
    assert isinstance(unit, ChannelUnit)
    for step in range(20):
        unit((features_like(seed=step),), generator_for(step))
    unit.eval().finalise()
    return unit


def part_of(unit: Bottleneck) -> SpicPart:
    (part,) = unit.parts
    assert isinstance(part, SpicPart)
    return part


@pytest.fixture(scope="module")
def unit() -> ChannelUnit:
    return fitted()


@pytest.fixture(scope="module")
def part(unit: ChannelUnit) -> SpicPart:
    return part_of(unit)


@torch.no_grad()
def check_bytes(unit: Bottleneck, *features: Tensor) -> None:
    """Bytes give what the forward pass gives."""
    (restored,), (expected,) = unit.decompress(unit.compress(features)), unit(features).features_hat
    assert torch.equal(restored, expected)


@pytest.mark.parametrize(("stride", "encoder", "total"), [(2, 76_928, 155_776), (4, 76_928, 172_160)])
def test_the_layers_are_those_published_for_s3(stride: int, encoder: int, total: int) -> None:
    part = SpicPart((1024, 14, 14), 64, stride)
    counts: dict[str, int] = {}
    for name, parameter in part.named_parameters():
        layer = name.split(".")[0]
        counts[layer] = counts.get(layer, 0) + parameter.numel()
    assert counts.pop("prior") < 4000
    assert sum(counts.values()) == total
    assert sum(counts[layer] for layer in ("down", "down_norm", "project", "project_norm")) == encoder
    wide = stride + 1
    assert {
        name: tuple(value.shape) for name, value in part.named_parameters() if value.dim() == 4 and "prior" not in name
    } == {
        "down.weight": (1024, 1, 3, 3),
        "project.weight": (64, 1024, 1, 1),
        "expand.weight": (1024, 64, 1, 1),
        "up.weight": (1024, 1, wide, wide),
    }


def test_the_rate_estimator_has_eight_hyper_channels_and_mirrored_layers() -> None:
    shapes = {name: tuple(value.shape) for name, value in SpicPart(SHAPE, 6).prior.named_parameters()}
    assert shapes["down.weight"] == shapes["up.weight"] == (6, 1, 3, 3)
    assert shapes["project.weight"] == (8, 6, 1, 1) and shapes["expand.weight"] == (6, 8, 1, 1)
    assert all(shape[0] == 8 for name, shape in shapes.items() if name.startswith("entropy."))


def test_only_the_densities_of_the_hyper_latent_learn_at_the_entropy_models_rate() -> None:
    names = {f"units.0.{name}" for name, _ in SpicPart(SHAPE).named_parameters()}
    entropy = {name for name in names if ".entropy." in name}
    assert entropy and all(name.startswith("units.0.prior.entropy.") for name in entropy)


def test_the_latent_is_rectified_and_counted_in_steps(part: SpicPart) -> None:
    wider = copy.deepcopy(part)
    wider.step = 4 * part.step
    features = features_like()
    with torch.no_grad():
        y = part.encode(features)
        assert (y >= 0).all() and (y == 0).any()
        assert torch.equal(wider.encode(features), y / 4)
        assert torch.equal(wider.decode(y / 4, (7, 10)), part.decode(y, (7, 10)))
    assert torch.equal(part.medians, torch.zeros(6, 1, 1))


def test_the_table_is_the_histogram_of_the_training_symbols() -> None:
    part = SpicPart(SHAPE, 6, step=0.25)
    expected = np.zeros(NUM_SYMBOLS + 1)
    for step in range(10):
        y = 40 * torch.rand(4, 6, 4, 5, generator=generator_for(step)).square()
        part.quantise(y)
        shares = np.bincount(np.rint(y.numpy()).astype(int).ravel(), minlength=NUM_SYMBOLS + 1) / y.numel()
        expected = (1 - MOMENTUM) * expected + MOMENTUM * shares
    tables = part.build_tables()
    counts = tables.frequencies[0, :-1] / TOTAL
    assert len(counts) == 41 and set(tables.offsets) == {0}
    assert counts == pytest.approx(expected[:41] / expected.sum(), abs=50 / TOTAL)
    assert tables.frequencies[0, -1] == 1


def test_evaluation_leaves_the_table_alone(unit: ChannelUnit, part: SpicPart) -> None:
    before = part.histogram.clone()
    unit((features_like(seed=99),))
    unit.bits_per_channel((features_like(seed=99),))
    assert torch.equal(part.histogram, before)


def test_all_channels_have_one_table(part: SpicPart) -> None:
    tables = part.build_tables()
    assert tables.frequencies.shape[0] == 6
    assert (tables.frequencies == tables.frequencies[0]).all() and (tables.lengths == tables.lengths[0]).all()


@pytest.mark.parametrize("scale", [1.0, 20.0])
def test_what_is_evaluated_is_the_length_of_the_code(unit: ChannelUnit, scale: float) -> None:
    features = (scale * features_like(seed=77),)
    (symbols,), (tables,) = unit.symbols(features), unit.tables
    assert (symbols.max() >= tables.lengths[0] - 1) == (scale > 1)  # with escapes, and without
    with torch.no_grad():
        bits = unit(features).rate_bits
        per_channel = unit.bits_per_channel(features)
    assert bits.tolist() == pytest.approx([ideal_bits(one, tables) for one in symbols], rel=1e-5)
    assert float(per_channel.sum()) == pytest.approx(float(bits.mean()), rel=1e-5)


@pytest.mark.parametrize("largest", [300.0, 2.0**24])
def test_symbols_that_training_never_saw_are_coded_too(unit: ChannelUnit, largest: float) -> None:
    features = features_like(count=2)
    features[0, :, 2, 3] = largest
    assert unit.symbols((features,))[0].max() > NUM_SYMBOLS
    check_bytes(unit, features)


def test_a_unit_that_saw_nothing_codes_all_the_same() -> None:
    unit = ChannelUnit([SpicPart(SHAPE, 6)]).eval()
    unit.finalise()
    check_bytes(unit, features_like(count=2))


def test_a_latent_that_is_not_finite_is_no_crash() -> None:
    part = SpicPart(SHAPE, 6)
    for mode in (True, False):
        part.train(mode)
        y_hat, _ = part.quantise(torch.full((2, 6, 4, 5), math.nan))
        assert y_hat.isnan().all()


def test_a_file_holds_all_of_it(unit: ChannelUnit, trained: Path, tmp_path: Path) -> None:
    info = read_info(trained / "checkpoints/tiny/body/digits/lambda=0.03.safetensors")
    described = type(info)(**{**vars(info), "unit": {"architecture": "spic", "config": unit.config()}})
    save_rate(tmp_path / "rate.safetensors", Rate(unit, described))
    loaded = load_rate(tmp_path / "rate.safetensors").unit
    assert loaded.config() == unit.config()
    for name, value in unit.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
    built = [part_of(own).build_tables().digest for own in (loaded, unit)]
    assert [loaded.tables[0].digest] * 2 == built
    assert loaded.compress((features_like(),)) == unit.compress((features_like(),))


def test_a_gaussian_has_the_bits_of_its_integral() -> None:
    y_hat, scales = torch.tensor([0.0, 0.3, -2.0, 5.0, 80.0]), torch.tensor([1.0, 0.2, 1.5, 9.0, NARROWEST])
    normal = torch.distributions.Normal(0.0, scales.double())
    expected = -(normal.cdf(y_hat + 0.5) - normal.cdf(y_hat - 0.5)).log2()
    y_hat.requires_grad_()
    bits = gaussian_bits(y_hat, scales)
    assert torch.allclose(bits[:4].double(), expected[:4], rtol=1e-4)
    (gradient,) = torch.autograd.grad(bits.sum(), y_hat)
    assert bits.isfinite().all() and gradient.isfinite().all() and gradient[-1] > 0


@pytest.mark.parametrize("shares", [[0.0, 0.0], [1.0, 0.0, 0.0], [0.2, 0.5, 1e-9], [1 / 257] * 257])
def test_whole_counts_leave_nothing_at_zero(shares: list[float]) -> None:
    counts = whole_counts(np.array(shares))
    assert counts.min() >= 1 and counts.sum() == TOTAL
    assert counts / TOTAL == pytest.approx(np.array(shares) / sum(shares) if any(shares) else 0.5, abs=300 / TOTAL)


@pytest.mark.parametrize("stride", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("nonnegative", [True, False])
def test_any_stride_restores_odd_sizes(stride: int, nonnegative: bool) -> None:
    unit = ChannelUnit([SpicPart(SHAPE, 4, stride, step=0.01, nonnegative=nonnegative)]).eval()
    for size in ((7, 10), (9, 9), (14, 14), (1, 3)):
        features = features_like(shape=(SHAPE[0], *size))
        assert unit.encode((features,))[0].shape[-2:] == part_of(unit).latent_size(size)
        (restored,) = unit((features,)).features_hat
        assert restored.shape == features.shape
        assert (restored < 0).any() != nonnegative


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"step": 0}, r"unit.step=0: expected a number above 0"),
        ({"step": -1.0}, r"unit.step=-1.0: expected a number of at least 0"),
        ({"stride": 0}, r"unit.stride=0: expected a whole number of at least 1"),
        ({"latent_channels": 0}, r"unit.latent_channels=0: expected a whole number of at least 1"),
    ],
)
def test_bad_configurations_are_named(config: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_unit("spic", {"feature_shape": SHAPE, **config})


@pytest.mark.slow
def test_it_trains_and_is_evaluated_through_the_real_commands(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(trained / "checkpoints/tiny/backbone", tmp_path / "checkpoints/tiny/backbone")
    chosen = (*TINY, "unit=spic", "unit.latent_channels=8", "logger=none")
    quick = [option for option in QUICK if not option.startswith("unit.")]
    train(configure("train", tmp_path, *quiet([*quick, *chosen, "lambda=[0.01,0.1]"])))
    assert "warn" not in capsys.readouterr().err.lower()
    ladder = Ladder.load(tmp_path / "checkpoints/tiny/body/digits/unit=spic")
    assert [*ladder] == [0.01, 0.1] and ladder.info.unit_name == "spic"
    unit = ladder[0.1].unit
    assert part_of(unit).histogram.sum() > 0.5
    check_bytes(unit, features_like(shape=(16, 8, 8)))
    evaluate(configure("evaluate", tmp_path, *chosen))
    (curve,) = (tmp_path / "results/tiny/body/digits/unit=spic").glob("curve.json")
    points = [point for point in json.loads(curve.read_text())["points"] if point["codec"] == "unit"]
    assert [point["lambda"] for point in points] == [0.01, 0.1]
    for point in points:  # a header, and the end of the code: some bytes above its length, no less than it
        assert 0 <= (point["bpp"] - point["estimated_bpp"]) * 32 * 32 / 8 <= 9
