"""The library from Python: a user's own module, tensors and loaders, as the examples use them."""

from __future__ import annotations

import runpy
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
    default_collate,
)

import bottlenecks as bn
from bottlenecks.deploy.bundle import Bundle
from tests.conftest import REPOSITORY
from tests.networks import Tiny

FAST = {"training.epochs": 1, "training.fit_images": 64, "unit.structure": "separable"}
IMAGES = torch.randn(120, 3, 32, 32, generator=torch.Generator().manual_seed(0))


LABELS = torch.arange(120) % 10


def network(**options: Any) -> bn.CutNetwork:
    """Cut a module whose output depends on its input."""
    torch.manual_seed(0)
    model = Tiny().eval()
    with torch.no_grad():
        logits = model(IMAGES)
        scale = 3 / logits.std(0)
        model.classifier.weight *= scale[:, None]
        model.classifier.bias.copy_(scale * (model.classifier.bias - logits.mean(0)))
    return bn.cut(model, at="body", example=IMAGES[:2], **options)


@pytest.fixture(scope="module")
def cut() -> bn.CutNetwork:
    return network()


@pytest.fixture(scope="module")
def rates(cut: bn.CutNetwork, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rates")
    loader = DataLoader(TensorDataset(IMAGES), batch_size=16)
    bn.fit(cut, loader, lmbdas=[0.1, 1.0], settings=FAST).save(folder)
    return folder


def test_rates_are_saved_and_loaded_around_the_module_that_is_handed_in_again(rates: Path) -> None:
    net = bn.load(rates, network=network())
    assert list(net.ladder) == [0.1, 1.0]
    streams = []
    for lmbda in (0.1, 1.0):
        net.lmbda = lmbda
        streams += net.encode(IMAGES[:2])
    assert net.decode(streams).shape == (4, 10)
    assert len(streams[2]) > len(streams[0]) > 6
    with pytest.raises(bn.UsageError, match=r"model=tiny: .* hand it over once more: .*network="):
        bn.load(rates)
    other = network()
    other.backbone.network.classifier.weight.data += 1  # type: ignore[operator,union-attr]
    with pytest.raises(bn.UsageError, match="weights"):
        bn.load(rates, network=bn.cut(other.backbone.network, at="body", example=IMAGES[:2]))
    with pytest.raises(bn.UsageError, match="lies there already"):
        net.ladder.save(rates)


class Giving(nn.Module):
    """Gives something else than logits.

    Args:
        what: makes it of logits (N, C).
    """

    def __init__(self, what: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.own, self.what = Tiny(), what

    def forward(self, x: Tensor) -> Any:
        return self.what(self.own(x))


@pytest.mark.parametrize(
    ("what", "found"),
    [
        (lambda y: {"scores": y}, "a dict"),
        (lambda y: {"logits": {"logits": y}}, "a dict"),
        (lambda y: (y,), "a tuple"),
        (lambda y: y[:, :, None], r"a tensor \(1, 10, 1\)"),
        (lambda y: {"logits": y[:, :, None, None]}, r"a tensor \(1, 10, 1, 1\)"),
        (lambda y: y.argmax(1, keepdim=True).expand(-1, 3), r"a tensor \(1, 3\)"),
    ],
)
def test_a_network_without_logits_is_refused_where_it_is_cut(what: Callable[[Tensor], Any], found: str) -> None:
    with pytest.raises(bn.UsageError, match=rf"model=giving: it gives {found} in eval mode, where logits"):
        bn.cut(Giving(what), at="own.body", example=IMAGES[:2])


def test_what_is_no_tensor_beside_the_logits_does_no_harm() -> None:
    cut = bn.cut(Giving(lambda y: {"logits": y, "name": "tiny", "more": [y, None]}), at="own.body", example=IMAGES[:2])
    with torch.no_grad():
        assert cut.network(IMAGES[:2])["logits"].shape == (2, 10)


class Module(pl.LightningDataModule):
    """The same images, in two loaders."""

    def train_dataloader(self) -> DataLoader:
        return DataLoader(TensorDataset(IMAGES[:100], torch.zeros(100, dtype=torch.long)), batch_size=16)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(TensorDataset(IMAGES[100:], torch.zeros(20, dtype=torch.long)), batch_size=16)


@pytest.mark.slow
def test_however_images_come_the_units_are_the_same(cut: bn.CutNetwork) -> None:
    ways: list[tuple[Any, Any]] = [
        (IMAGES[:100], IMAGES[100:]),
        (TensorDataset(IMAGES[:100]), (IMAGES[100:],)),
        (Module(), None),
    ]
    settings = {**FAST, "training.epochs": 0}
    found = [bn.fit(cut, train, val, lmbdas=0.1, settings=settings)[0.1].unit.state_dict() for train, val in ways]
    for other in found[1:]:
        assert all(torch.equal(other[name], tensor) for name, tensor in found[0].items())


@pytest.mark.usefixtures("empty_graphs")
def test_curve_and_bundle_take_codecs_of_images_where_preprocessing_is_known(tmp_path: Path) -> None:
    known = network(preprocessing=bn.Preprocessing(mean=(0.5,) * 3, std=(0.25,) * 3), class_names=list("abcdefghij"))
    ladder = bn.fit(known, IMAGES, lmbdas=0.1, settings={**FAST, "training.epochs": 0})
    net = bn.BottleneckNetwork(known.network, ladder, known.backbone.network)
    few = {"calibration_images": 8, "timed_images": 1, "workers": 0}
    curve = bn.evaluate(net, IMAGES[:12], calibration=IMAGES, codecs=["unit", "jpeg"], settings=few)
    assert curve.codecs == ["unit", "jpeg"] and curve.plot().axes
    assert Bundle(bn.export(net, tmp_path / "bundle", curve)).manifest.class_names == list("abcdefghij")


@pytest.mark.slow
def test_a_bundle_has_the_head_that_settings_ask_for(tmp_path: Path) -> None:
    known = network(preprocessing=bn.Preprocessing(mean=(0.5,) * 3, std=(0.25,) * 3))
    ladder = bn.fit(known, IMAGES, lmbdas=[0.01, 0.1], settings={**FAST, "training.epochs": 0, "unit.range": True})
    net = bn.BottleneckNetwork(known.network, ladder, known.backbone.network)
    settings = {"head": "int8", "pixels": "uint8", "max_drop": 0.5, "points": 3}
    bundle = Bundle(bn.export(net, tmp_path / "bundle", test=IMAGES[:16], calibration=IMAGES, settings=settings))
    assert (bundle.manifest.head, bundle.manifest.pixels) == ("int8", "uint8")
    (rate,) = bundle.rates
    assert len(rate.curve) == 3 and all(one.other_symbols is not None for one in (rate, *rate.curve))


def test_what_an_export_needs_is_named(cut: bn.CutNetwork, rates: Path, tmp_path: Path) -> None:
    net = bn.load(rates, network=cut)
    with pytest.raises(bn.UsageError, match=r"curve: missing; bn\.evaluate\(net, …\) makes one"):
        bn.export(net, tmp_path)
    with pytest.raises(bn.UsageError, match="test: missing; a head in 8 bits"):
        bn.export(net, tmp_path, calibration=IMAGES, settings={"head": "int8"})
    with pytest.raises(bn.UsageError, match="head=int4: expected float or int8"):
        bn.export(net, tmp_path, settings={"head": "int4"})


def test_without_preprocessing_they_are_refused_with_the_way_out(
    cut: bn.CutNetwork, rates: Path, tmp_path: Path
) -> None:
    net = bn.load(rates, network=cut)
    curve = bn.evaluate(net, IMAGES[:8], settings={"timed_images": 1})
    with pytest.raises(bn.UsageError, match=r"preprocessing=bottlenecks\.Preprocessing"):
        bn.export(net, tmp_path / "bundle", curve)
    with pytest.raises(bn.UsageError, match=r"preprocessing=bottlenecks\.Preprocessing"):
        bn.evaluate(net, IMAGES[:8], calibration=IMAGES[:8], codecs=["jpeg"], settings={"workers": 0})


class Endless(IterableDataset[Tensor]):
    """Images without a number."""

    def __iter__(self) -> Iterator[Tensor]:
        return iter(IMAGES)


@pytest.mark.parametrize(
    ("train", "options", "message"),
    [
        (IMAGES[:, 0], {}, r"train: expected images \(N, 3, 32, 32\) of torch.float32, got \(.*32, 32\)"),
        ((IMAGES * 255).byte(), {}, "got .* of torch.uint8"),
        (IMAGES.double(), {}, "got .* of torch.float64; convert them"),
        (torch.zeros(50, 3, 48, 48), {}, r"expected images \(N, 3, 32, 32\) .* got \(32, 3, 48, 48\)"),
        (torch.zeros(()), {}, r"train: expected images .* got tensors \(\)"),
        ((IMAGES, LABELS[:-1]), {}, r"train: expected images .* as many targets, got .* \(119,\)"),
        ([IMAGES[:60], IMAGES[60:]], {}, "batches of images, put them together by torch.cat"),
        ((IMAGES, LABELS.float()), {}, r"expected targets \(N,\) of torch.int64, got \(32,\) of torch.float32; -1 is"),
        ((IMAGES, LABELS[:, None]), {}, r"expected targets \(N,\) of torch.int64, got \(32, 1\)"),
        (IMAGES, {"settings": {"loss.ce": 1}}, "loss.ce=1: no training image has a label; give"),
        (Endless(), {}, "train: expected a tensor .* got Endless"),
        ("images", {}, "train: expected a tensor .* got str"),
        (IMAGES[:0], {}, "train: there are no images in it"),
        (IMAGES[:1], {}, "train: one image alone"),
        (IMAGES, {"settings": {"training.epoch": 1}}, "no such setting as training.epoch; closest: epochs"),
        (IMAGES, {"lmbdas": []}, r"lambda=\[\]"),
        (
            (IMAGES, torch.full((len(IMAGES),), 10)),
            {"settings": {"loss.ce": 1.0, "training.fit_images": 64, "unit.structure": "separable", "unit.block": 2}},
            "targets: class 10 is among them, and the network has 10 outputs",
        ),
        (IMAGES, {"unit": "tranform"}, "unit=tranform: no such unit; there are factorized, spic, transform"),
    ],
)
def test_what_cannot_be_used_is_named(cut: bn.CutNetwork, train: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(bn.UsageError, match=message):
        bn.fit(cut, train, **options)


class Numbered(Dataset[Tensor]):
    """Images that remember which of them were asked for."""

    def __init__(self) -> None:
        self.asked: set[int] = set()

    def __len__(self) -> int:
        return len(IMAGES)

    def __getitem__(self, index: int) -> Tensor:
        self.asked.add(index)
        return IMAGES[index]


@pytest.mark.parametrize(
    ("options", "chosen"),
    [
        ({"sampler": SubsetRandomSampler(range(60, 120))}, range(60, 120)),
        ({"batch_sampler": [range(7, 27), range(30, 40)]}, [*range(7, 27), *range(30, 40)]),
        ({"batch_size": 50, "shuffle": True, "drop_last": True}, range(120)),
    ],
)
def test_images_that_a_sampler_leaves_out_are_not_read(
    cut: bn.CutNetwork, rates: Path, options: dict[str, Any], chosen: Sequence[int]
) -> None:
    held_back, net = Numbered(), bn.load(rates, network=cut)
    curve = bn.evaluate(net, DataLoader(held_back, **options), settings={"timed_images": 1})
    assert held_back.asked == {*chosen} and curve.num_images == len(chosen)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sampler": WeightedRandomSampler([1.0] * 120, 120)}, "the sampler of this DataLoader draws other images"),
        ({"sampler": [1, 1, 2]}, "draws an image more than once, .* by torch.utils.data.Subset"),
        ({"sampler": []}, "there are no images in it"),
        ({"batch_size": None}, "a DataLoader with batch_size=None"),
        (
            {"batch_size": 40, "collate_fn": lambda items: default_collate(items[1:])},
            "items make a batch of .* images; collate_fn",
        ),
        ({"collate_fn": lambda items: default_collate([])}, r"of its items make no batch \(list index out of range\)"),
        ({"num_workers": 1, "collate_fn": len}, "^(train|test): expected batches of images .* got int$"),
    ],
)
def test_a_loader_that_does_not_give_each_image_once_is_named(
    cut: bn.CutNetwork, rates: Path, options: dict[str, Any], message: str
) -> None:
    loader = DataLoader(IMAGES, **options)  # type: ignore[arg-type]
    with pytest.raises(bn.UsageError, match=message):
        bn.fit(cut, loader, lmbdas=0.1, settings=FAST)
    with pytest.raises(bn.UsageError, match=message):
        bn.evaluate(bn.load(rates, network=cut), loader)


def test_labels_that_some_images_lack_do_not_count(cut: bn.CutNetwork, rates: Path) -> None:
    some = torch.where(LABELS > 4, LABELS, -1)
    settings = {**FAST, "training.epochs": 0, "loss.ce": 1, "unit.block": 4}
    units = [
        bn.fit(cut, (IMAGES, labels), lmbdas=0.1, settings=settings)[0.1].unit.state_dict()
        for labels in (some, some.int(), torch.where(LABELS > 4, LABELS, -100))
    ]
    for other in units[1:]:
        assert all(torch.equal(other[name], tensor) for name, tensor in units[0].items())
    net = bn.load(rates, network=cut)
    scores = [
        bn.evaluate(net, given, settings={"timed_images": 1}).unsplit
        for given in ((IMAGES, some), (IMAGES[some >= 0], LABELS[some >= 0]))
    ]
    assert scores[0] == pytest.approx(scores[1])
    for wrong in (LABELS.float(), LABELS > 4, nn.functional.one_hot(LABELS), IMAGES):
        with pytest.raises(bn.UsageError, match=r"test: expected targets \(N,\) of torch.int64"):
            bn.evaluate(net, (IMAGES, wrong))


def test_rates_are_of_the_very_images_whatever_their_batches(cut: bn.CutNetwork, tmp_path: Path) -> None:
    settings = {**FAST, "training.epochs": 0, "unit.block": 4}
    bn.fit(cut, IMAGES, lmbdas=0.1, settings=settings, folder=tmp_path)
    again = DataLoader(TensorDataset(IMAGES), batch_size=7)
    bn.fit(cut, again, lmbdas=0.1, settings=settings, folder=tmp_path)
    for one in (1, 50, 118):
        other = IMAGES.clone()
        other[one] += 1
        with pytest.raises(bn.UsageError, match="is finished and was trained otherwise"):
            bn.fit(cut, other, lmbdas=0.1, settings=settings, folder=tmp_path)


def test_codecs_that_are_unknown_or_need_images_are_named(cut: bn.CutNetwork, rates: Path) -> None:
    net = bn.load(rates, network=cut)
    with pytest.raises(bn.UsageError, match="codecs=jpg: unknown"):
        bn.evaluate(net, IMAGES[:8], codecs=["jpg"])
    with pytest.raises(bn.UsageError, match="targets: class 10 is among them, and the network has 10 outputs"):
        bn.evaluate(net, (IMAGES[:8], torch.full((8,), 10)))
    with pytest.raises(bn.UsageError, match="calibration: jpeg choose"):
        bn.evaluate(net, IMAGES[:8], codecs=["jpeg"])


def test_a_cut_that_is_not_there_is_named() -> None:
    with pytest.raises(bn.UsageError, match="bdoy: no tensor of Tiny has this name; closest: body"):
        bn.cut(Tiny(), at="bdoy", example=IMAGES[:1])
    with pytest.raises(bn.UsageError, match="units take maps"):
        bn.cut(nn.Sequential(nn.Flatten(), nn.Unflatten(1, (4, 2, 384)), nn.ReLU()), at="1", example=IMAGES[:1])


def test_public_names_are_there_and_nothing_else() -> None:
    assert {"cut", "fit", "load", "evaluate", "export", "Preprocessing"} <= set(dir(bn))
    assert all(getattr(bn, name) is not None for name in bn.__all__)
    with pytest.raises(AttributeError, match="nothing"):
        bn.nothing  # noqa: B018


@pytest.mark.slow
@pytest.mark.usefixtures("brief_fits")
@pytest.mark.parametrize("path", sorted((REPOSITORY / "examples").glob("*.py")), ids=lambda path: path.stem)
def test_examples_run(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(path))
    assert "bytes an image" in capsys.readouterr().out and (tmp_path / "curve.png").stat().st_size > 1000
