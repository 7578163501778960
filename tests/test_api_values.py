"""What programs hand to the library's functions: their own Hydra, folders of any name, numbers of any library."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
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
        ({"example": None}, r"example: expected a tensor \(N, C, H, W\), got NoneType"),
        ({"example": IMAGES[:0]}, r"example: expected a tensor \(N, C, H, W\), got \(0, 3, 32, 32\)"),
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
