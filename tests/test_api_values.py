"""What programs hand to the library's functions: their own Hydra, folders of any name, numbers of any library."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

import bottlenecks as bn
from bottlenecks.settings.composed import change, composed
from tests.networks import Tiny
from tests.test_api import IMAGES, network

FAST = {"training.epochs": 0, "training.fit_images": 64, "unit.structure": "separable", "unit.block": 4}


@pytest.fixture(scope="module")
def cut() -> bn.CutNetwork:
    return network()


def test_a_program_keeps_its_own_hydra(cut: bn.CutNetwork, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("a: 1")
    with hydra.initialize_config_dir(str(tmp_path), version_base="1.2"):
        own = GlobalHydra.instance().hydra
        assert list(bn.fit(cut, IMAGES, lmbdas=0.1, settings=FAST)) == [0.1]
        assert GlobalHydra.instance().hydra is own and str(hydra.version.getbase()) == "1.2"
        assert hydra.compose("own") == {"a": 1}


def test_threads_compose_at_once() -> None:
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda _: composed("evaluate", ["logger=none"]), range(8)))
    assert all(one == found[0] for one in found) and not GlobalHydra.instance().is_initialized()


def test_folders_have_any_names(cut: bn.CutNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "jürgen/日本 a,b=(c) [d] {e} 'f' \"g\" &#;! ~${y} \\${z}"
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    bn.fit(cut, IMAGES, lmbdas=0.1, settings=FAST, folder=folder)
    assert [path.name for path in folder.glob("*.safetensors")] == ["lambda=0.1.safetensors"]
    assert list(bn.fit(cut, IMAGES, lmbdas=0.1, settings=FAST)) == [0.1]
    assert list(bn.load(folder, network=cut).ladder) == [0.1]


@pytest.mark.parametrize("text", ["${y}", r"\${y}", r"\\${y}\ ", "${${y}}", "a$b", r"c:\d", "${", "'\"${y}"])
def test_texts_stand_for_themselves(text: str) -> None:
    cfg = composed("train", ["logger=none"])
    change(cfg, {"paths.cache": text, "unit": {"name": text}})
    assert OmegaConf.to_container(OmegaConf.merge(cfg, {}), resolve=True)["paths"]["cache"] == text  # type: ignore
    assert cfg.unit.name == text


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        (np.geomspace(0.25, 1, 2), [0.25, 1.0]),
        ([np.float64(0.1), np.float32(0.1)], [0.1, 0.1]),
        (torch.tensor([0.1, 1.0]), [0.1, 1.0]),
        (torch.tensor(0.1, dtype=torch.float16), 0.1),
        (range(1, 3), [1, 2]),
        ((one for one in (0.1, 1.0)), [0.1, 1.0]),
        (np.int64(64), 64),
    ],
)
def test_numbers_come_from_any_library(given: Any, taken: Any) -> None:
    cfg = composed("train", ["logger=none"])
    change(cfg, {"lambda": given})
    assert cfg["lambda"] == taken


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"split": "top"}, r"settings: split='top': .* give it as bn\.cut\(…, at=…\)"),
        ({"model.name": "foo"}, r"settings: model\.name='foo': .* bn\.cut\(model, name=…"),
        ({"paths.checkpoints": "foo"}, r"give it as bn\.fit\(…, folder=…\)"),
        ({"training": {"epoch": 1}}, r"no such setting as training\.epoch; closest: epochs"),
        ({"training.epochs.x": 1}, r"no such setting as training\.epochs\.x; training\.epochs has none of its own"),
        ({3: 1}, "no such setting as 3"),
        ({"training.epochs": object()}, r"settings: training\.epochs=.*: expected numbers, texts"),
        ([1], "settings: expected Mapping, got list"),
    ],
)
def test_settings_that_cannot_be_are_named(cut: bn.CutNetwork, settings: Any, message: str) -> None:
    with pytest.raises(bn.UsageError, match=message):
        bn.fit(cut, IMAGES, settings=settings)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"model": Tiny}, "model: expected Module, got the class Tiny"),
        ({"model": "resnet50"}, "model='resnet50': expected Module"),
        ({"at": 3}, "at=3: expected str"),
        ({"example": None}, r"example: expected a tensor \(N, C, H, W\) of torch.float32, got NoneType"),
        ({"example": IMAGES[:0]}, r"example: expected a tensor \(N, C, H, W\) of torch.float32, got \(0, 3, 32, 32\)"),
    ],
)
def test_what_cannot_be_cut_is_named(given: dict[str, Any], message: str) -> None:
    with pytest.raises(bn.UsageError, match=message):
        bn.cut(**{"model": Tiny(), "at": "body", "example": IMAGES[:2], **given})


def test_other_kinds_of_arguments_are_named(cut: bn.CutNetwork, tmp_path: Path) -> None:
    (file := tmp_path / "file").write_text("")
    net: Any = Tiny()
    with pytest.raises(bn.UsageError, match=r"network: expected CutNetwork, got Tiny; bn\.cut"):
        bn.fit(net, IMAGES)
    with pytest.raises(bn.UsageError, match="net: expected BottleneckNetwork, got Tiny"):
        bn.evaluate(net, IMAGES)
    for folder in (file, file / "rates"):
        with pytest.raises(bn.UsageError, match=r"folder=.*file is a file, expected a folder"):
            bn.fit(cut, IMAGES, folder=folder)
    with pytest.raises(bn.UsageError, match="folder=3: expected str or Path"):
        bn.load(3)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def ladder(cut: bn.CutNetwork) -> bn.Ladder:
    return bn.fit(cut, IMAGES, lmbdas=[0.1, 1.0], settings=FAST)


@pytest.fixture(scope="module")
def ranged(cut: bn.CutNetwork) -> bn.Ladder:
    return bn.fit(cut, IMAGES, lmbdas=[0.1, 1.0], settings={**FAST, "unit.range": True})


@pytest.fixture(params=["ladder", "ranged"])
def net(request: pytest.FixtureRequest, cut: bn.CutNetwork) -> bn.BottleneckNetwork:
    return bn.BottleneckNetwork(cut.network, request.getfixturevalue(request.param), cut.backbone.network)


@pytest.mark.parametrize("given", [np.float32(0.1), np.float64(0.1), torch.tensor(0.1), np.array(0.1)])
def test_lambda_is_a_number_of_any_library(net: bn.BottleneckNetwork, given: Any) -> None:
    net.lmbda = given
    assert net.lmbda == 0.1 and type(net.lmbda) is float
    net.lmbda = 1
    assert net.lmbda == 1.0 and type(net.lmbda) is float and 1 in net.ladder and given in net.ladder


@pytest.mark.parametrize("given", ["0.1", None, True, [0.1], torch.tensor([0.1, 1.0])])
def test_lambda_is_one_number(net: bn.BottleneckNetwork, given: Any) -> None:
    with pytest.raises(bn.UsageError, match=r"lambda=.*: expected one number; there are rates of 0\.1"):
        net.lmbda = given
    assert given not in net.ladder


def test_a_ladder_is_a_mapping(net: bn.BottleneckNetwork) -> None:
    assert net.ladder.get(5.0) is None and 5.0 not in net.ladder and float("nan") not in net.ladder
    with pytest.raises(KeyError, match=r"^lambda=5\.0: no such rate; there are 0\.1"):
        net.ladder[5.0]


def test_a_network_has_no_other_attributes(net: bn.BottleneckNetwork) -> None:
    with pytest.raises(AttributeError, match="lmbdas"):
        net.lmbdas = 0.1  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("images", "found"),
    [
        ((IMAGES[:2] * 255).byte(), r"\(2, 3, 32, 32\) of torch\.uint8"),
        (IMAGES[:2].double(), r"\(2, 3, 32, 32\) of torch\.float64"),
        (IMAGES[:2].half(), r"\(2, 3, 32, 32\) of torch\.float16"),
        (IMAGES[:2].numpy(), "ndarray"),
        ([IMAGES[0]], "list"),
        (IMAGES[0], r"\(3, 32, 32\) of"),
        (IMAGES[None], r"\(1, 120, 3, 32, 32\) of"),
        (IMAGES[:2, :1], r"\(2, 1, 32, 32\) of"),
        (IMAGES[:2, :, :0, :0], r"\(2, 3, 0, 0\) of"),
    ],
)
def test_what_is_no_batch_of_images_is_named(net: bn.BottleneckNetwork, images: Any, found: str) -> None:
    with pytest.raises(bn.UsageError, match=rf"images: expected a tensor \(N, 3, H, W\) of torch.float32, got {found}"):
        net.encode(images)
    with pytest.raises(bn.UsageError, match=rf"image: expected a tensor \(N, 3, H, W\) of torch.float32, got {found}"):
        net.encode_within(images, 400)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_images_that_are_not_finite_are_named(net: bn.BottleneckNetwork, value: float) -> None:
    images = IMAGES[:4].clone()
    images[1, 2, 3, 4] = images[3, 0, 0, 0] = value
    with pytest.raises(bn.UsageError, match=r"images: .* not finite numbers in images \[1, 3\] of the batch"):
        net.encode(images)


def test_a_budget_is_of_one_image(net: bn.BottleneckNetwork) -> None:
    for count in (0, 2):
        with pytest.raises(bn.UsageError, match=f"image: there are {count}, expected one"):
            net.encode_within(IMAGES[:count], 400)
    assert net.encode(IMAGES[:0]) == []
    with pytest.raises(bn.UsageError, match="budget_bytes='400': expected int or float, got str"):
        net.encode_within(IMAGES[:1], "400")  # type: ignore[arg-type]
    assert net.encode_within(IMAGES[:1], np.int64(400)) == net.encode_within(IMAGES[:1], 400)  # type: ignore[arg-type]


def test_bytes_of_any_kind_decode(net: bn.BottleneckNetwork) -> None:
    stream, *_ = streams = net.encode(IMAGES[:2])
    expected = net.decode(streams)
    for kind in (bytearray, memoryview):
        assert torch.equal(net.decode([*map(kind, streams)]), expected)
    assert torch.equal(net.decode(iter(streams)), expected)
    with pytest.raises(bn.UsageError, match=r"streams: expected several byte strings, got one; give it as \[stream\]"):
        net.decode(stream)  # type: ignore[arg-type]
    for other in ("abc", [stream, "abc"], np.zeros((1, 9)), torch.zeros(1, 9), 3, None):
        with pytest.raises(bn.UsageError, match=r"streams(\[\d\])?.*: expected .*; give what encode gave"):
            net.decode(other)  # type: ignore[arg-type]


def test_a_curve_is_of_the_rates(cut: bn.CutNetwork, ladder: bn.Ladder, tmp_path: Path) -> None:
    net = bn.BottleneckNetwork(cut.network, ladder, cut.backbone.network)
    curve = bn.evaluate(net, IMAGES[:8], codecs="unit", settings={"timed_images": 1})
    larger = [{**point, "state_bytes": point["state_bytes"] + 1} for point in curve.points]
    others: list[tuple[Any, str]] = [
        (replace(curve, split="top"), "curve: of tiny at top, the rates are of tiny at body"),
        (replace(curve, points=curve.points[:1]), r"curve: of lambda=\[0\.1\], the rates are of \[0\.1, 1\.0\]"),
        (replace(curve, points=larger), r"curve: its lambda=0\.1 holds .* bytes, that of the rates"),
        ("curve.json", "curve='curve.json': expected Curve, got str; .*read"),
    ]
    for other, message in others:
        with pytest.raises(bn.UsageError, match=message):
            bn.export(net, tmp_path / "bundle", other)
    with pytest.raises(bn.UsageError, match="preprocessing: nothing says"):
        bn.export(net, tmp_path / "bundle", curve)
