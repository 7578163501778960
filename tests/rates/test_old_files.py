"""Files that earlier programs wrote keep their meaning: found, decoded, evaluated and kept as then."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from bottlenecks.deploy.bundle import Bundle
from bottlenecks.deploy.device import Device
from bottlenecks.deploy.receiver import Receiver
from bottlenecks.errors import UsageError
from bottlenecks.evaluation.curve import Curve
from bottlenecks.network import BottleneckNetwork
from bottlenecks.rates.ladder import Ladder
from bottlenecks.rates.places import CheckpointError, find_rates, place_of, rate_folder, rate_path, rates_of, unit_of
from bottlenecks.rates.rate import load_rate, read_info
from bottlenecks.run import main as run_images
from bottlenecks.splitting.features import Features
from bottlenecks.training.old_values import OLD_VALUES
from bottlenecks.training.resume import differences
from bottlenecks.units import UNITS
from evaluate import evaluate
from export import export
from tests.conftest import REPOSITORY, TINY, TINY_SEGMENTER, configure, quiet
from train import train

FILES = REPOSITORY / "tests/files/2fd99c5"  # the commit whose program wrote them
EXPECTED = json.loads((FILES / "expected.json").read_text())
DIGITS = "tiny/body/digits"
OLD = [0.01, 0.1]  # lambdas of the factorized rates in the plain folder
FEW = ("logger=none", "data.limit_test=50", "timed_images=2")
SHORT = ("logger=none", "training.epochs=1", "data.limit_train=192", "data.limit_val=64")
SCENES = (
    *TINY_SEGMENTER,
    "data=digit_masks",
    "split=top",
    "several=true",
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A copy of the old files that a test may add to."""
    for name in ("checkpoints", "results"):
        shutil.copytree(FILES / name, tmp_path / name)
    return tmp_path


@pytest.fixture
def plain(root: Path) -> Path:
    """The plain folder, with the rates of the default unit of that time."""
    return root / "checkpoints" / DIGITS


OTHERS = sorted({*UNITS} - {"transform", "factorized"})


@pytest.fixture(params=["transform", *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)])
def default(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, plain: Path) -> str:
    """Another default unit than at that time, without rates so far."""
    monkeypatch.setattr("bottlenecks.rates.places.DEFAULT_UNIT", request.param)
    shutil.rmtree(plain / "unit=spic")
    return str(request.param)


def image(size: int) -> Tensor:
    """The image whose streams were kept."""
    return ((torch.arange(3 * size * size) * 7919 % 256).reshape(1, 3, size, size) / 128 - 1).round(decimals=3)


def digest(features: Features) -> list[list[float]]:
    """Some values of each tensor of features."""
    return [one.flatten()[::97][:40].tolist() for one in features]


@pytest.mark.parametrize("folder", EXPECTED)
def test_streams_of_then_are_decoded_and_written_as_then(folder: str) -> None:
    unit = "spic" if folder.endswith("spic") else "factorized"
    network = BottleneckNetwork.load(FILES / "checkpoints" / folder, unit=unit)
    assert [*network.ladder] == [one["lambda"] for one in EXPECTED[folder]["rates"]]
    for one in EXPECTED[folder]["rates"]:
        rate, stream = network.rate_of(bytes.fromhex(one["stream"])), bytes.fromhex(one["stream"])
        assert rate.info.lmbda == one["lambda"]
        symbols, size = rate.unit.framing.read(stream)[:2]
        assert rate.unit.framing.write(symbols, size) == stream
        for found, then in zip(digest(rate.unit.decompress([stream])), one["features"], strict=True):
            assert found == pytest.approx(then, abs=1e-4)
        output = network.decode([stream])
        logits = output["out"] if isinstance(output, dict) else output
        step = 1 if logits.dim() == 2 else 997
        assert logits.flatten()[::step][:40].tolist() == pytest.approx(one["logits"], abs=1e-3)
        assert logits.argmax(1).flatten()[::997].tolist() == one["decision"]
        network.lmbda = one["lambda"]
        assert network.encode(image(EXPECTED[folder]["size"])) == [stream]


def test_a_bundle_of_then_sends_and_answers_as_then() -> None:
    bundle = Bundle(FILES / "bundle")
    device, receiver = Device(bundle, 1), Receiver(bundle, 1)
    features = device._head((image(32).numpy(),))
    for one in EXPECTED[DIGITS]["rates"]:
        stream = device.encode(features, one["lambda"])
        assert stream == bytes.fromhex(one["stream"])
        (logits,) = receiver.infer([receiver.read(stream)])
        assert np.ravel(logits).tolist() == pytest.approx(one["logits"], abs=1e-3)


def test_the_figures_are_those_of_then(root: Path) -> None:
    then = Curve.read(root / "results" / DIGITS / "curve.json")
    now = evaluate(configure("evaluate", root, *TINY, *FEW, "unit=factorized"))
    assert [point["lambda"] for point in now.points] == OLD
    for key in ("payload_bytes", "accuracy", "agreement", "estimated_bpp"):
        assert [point[key] for point in now.points] == pytest.approx([point[key] for point in then.points], rel=1e-3)


def as_then(cfg: DictConfig, path: Path) -> DictConfig:
    """Give a configuration the settings that a rate was trained with, and new ones the value of then."""
    for name, value in {**read_info(path).training, **OLD_VALUES}.items():
        own = {f"{name}.{key}": part for key, part in value.items()} if isinstance(value, Mapping) else {name: value}
        for key, part in own.items():
            if OmegaConf.select(cfg, key, default=cfg) is not cfg and key not in ("split", "backbone"):
                OmegaConf.update(cfg, key, part)
    return cfg


@pytest.mark.parametrize(
    ("options", "place"),
    [
        ((*TINY, "unit=factorized", f"lambda={OLD}"), f"{DIGITS}/lambda=0.01.safetensors"),
        ((*TINY, "unit=spic", "lambda=0.1"), f"{DIGITS}/unit=spic/lambda=0.1.safetensors"),
        ((*SCENES, "unit=factorized", "lambda=0.1"), "tiny_segmenter/top/digit_masks/lambda=0.1.safetensors"),
    ],
    ids=["factorized", "spic", "several tensors"],
)
def test_a_rate_of_then_is_kept(
    root: Path, options: tuple[str, ...], place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = root / "checkpoints" / place
    cfg = as_then(configure("train", root, *quiet([*options, "logger=none"])), path)
    assert train(cfg) == {}
    assert f"Kept {path}: finished with these very settings" in capsys.readouterr().out
    cfg.training.lr = 1.5
    with pytest.raises(UsageError, match=r"was trained otherwise \(training.lr 0.\d+ -> 1.5\)"):
        train(cfg)


@pytest.mark.slow
def test_rates_of_another_default_unit_are_written_beside_those_of_then(
    root: Path, plain: Path, default: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in find_rates(plain, "factorized")}
    chosen = [*TINY, f"unit={default}"]
    quick = ["unit.structure=separable", "unit.block=4", "unit.restorer=8"] if default == "transform" else []
    cfg = configure("train", root, *quiet([*chosen, *quick, *SHORT, "lambda=[0.01,0.03]"]))
    beside, usual = plain / f"unit={default}" / "lambda=0.01.safetensors", plain / "lambda=0.03.safetensors"
    assert set(train(cfg)) == {beside, usual}
    said = (
        f"{plain / 'lambda=0.01.safetensors'} holds the unit factorized and stays; that of {default} goes to {beside}"
    )
    assert capsys.readouterr().out.splitlines().count(said) == 1
    assert train(cfg) == {}
    said = capsys.readouterr().out
    assert f"Kept {beside}" in said and f"Kept {usual}" in said and "goes to" not in said
    assert {path: path.read_bytes() for path in before} == before

    assert [*Ladder.load(plain, default)] == [0.01, 0.03] and [*Ladder.load(plain, "factorized")] == OLD
    assert [*Ladder.load(plain)] == [0.01, 0.03] == [*Ladder.load(plain / f"unit={default}")]
    network = BottleneckNetwork.load(plain)  # its first rate names the backbone from one folder further in
    assert (
        network.ladder.info.unit_name == default and [*BottleneckNetwork.load(plain, None, "factorized").ladder] == OLD
    )
    found = evaluate(configure("evaluate", root, *chosen, *FEW, "codecs=[unit,factorized]"))
    assert [(point["codec"], point["lambda"]) for point in found.points] == [
        ("unit", 0.01), ("unit", 0.03), ("factorized", 0.01), ("factorized", 0.1),
    ]  # fmt: skip
    both = {0.01: load_rate(beside), 0.1: load_rate(plain / "lambda=0.1.safetensors")}
    with pytest.raises(CheckpointError, match=rf"lambda=0.1 is a unit of architecture factorized, .* of {default}"):
        Ladder(both)


def test_the_former_default_goes_on_in_a_folder_of_its_own(root: Path, plain: Path, default: str) -> None:
    chosen = [*TINY, *SHORT, "unit=factorized", "unit.latent_channels=4"]
    (new,) = train(configure("train", root, *quiet([*chosen, "lambda=0.03"])))
    assert new == plain / "unit=factorized/lambda=0.03.safetensors"
    assert [*Ladder.load(plain, "factorized")] == [0.01, 0.03, 0.1] == [*Ladder.load(new.parent)]
    again = configure("train", root, *quiet([*chosen, "lambda=0.1"]))
    with pytest.raises(UsageError, match=r"digits/lambda=0.1.safetensors is finished and was trained otherwise"):
        train(again)
    again.overwrite = True
    assert [*train(again)] == [plain / "lambda=0.1.safetensors"]
    with pytest.raises(
        CheckpointError, match=rf"no rate checkpoints of {default}; there are some of factorized: choose"
    ):
        evaluate(configure("evaluate", root, *TINY, *FEW, f"unit={default}"))


@pytest.mark.slow
def test_the_former_default_is_exported_by_its_name(root: Path, default: str) -> None:
    folder = export(configure("export", root, *TINY, *FEW, "unit=factorized", f"out={root / 'dist'}"))
    then, now = Bundle(FILES / "bundle").manifest, Bundle(folder).manifest
    assert [rate.fingerprint for rate in now.rates] == [rate.fingerprint for rate in then.rates]
    assert (folder / "lambda=0.1/tables.json").read_text() == (FILES / "bundle/lambda=0.1/tables.json").read_text()


def test_run_takes_the_unit_that_it_is_told(plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    streams = {}
    for folder, unit in ((DIGITS, "factorized"), (f"{DIGITS}/unit=spic", "spic")):
        streams[unit] = tmp_path / f"{unit}.bneck"
        streams[unit].write_bytes(bytes.fromhex(EXPECTED[folder]["rates"][-1]["stream"]))
        run_images([str(plain), "--unit", unit, str(streams[unit])])
        assert "0.1" in capsys.readouterr().out
    with pytest.raises(UsageError, match="which is none of this ladder's"):
        run_images([str(plain), "--unit", "spic", str(streams["factorized"])])
    with pytest.raises(CheckpointError, match="no rate checkpoints of wide; there are some of factorized, spic"):
        run_images([str(plain), "--unit", "wide", str(streams["spic"])])


def test_a_folder_is_loaded_without_a_name_where_one_unit_lies_there(plain: Path, default: str) -> None:
    assert Ladder.load(plain).info.unit_name == "factorized"
    shutil.copy(FILES / "checkpoints" / DIGITS / "unit=spic/lambda=0.1.safetensors", plain / "lambda=0.1.safetensors")
    if default == "spic":
        assert [*Ladder.load(plain)] == [0.1]
    else:
        with pytest.raises(
            CheckpointError, match=r"no rate checkpoints of the default unit; .* factorized, spic: choose"
        ):
            Ladder.load(plain)
    assert [*Ladder.load(plain, "factorized")] == [0.01] and [*Ladder.load(plain, "spic")] == [0.1]


def test_a_folder_made_by_hand_goes_by_its_own_name(plain: Path) -> None:
    shutil.copytree(plain / "unit=spic", plain / "unit=old")
    assert [*Ladder.load(plain, "old")] == [0.1] == [*Ladder.load(plain / "unit=old")]
    shutil.copytree(plain / "unit=spic", plain / "unit=factorized")
    assert [*Ladder.load(plain, "factorized")] == OLD and Ladder.load(
        plain, "factorized"
    ).info.unit_name == "factorized"


def test_the_same_rate_in_two_places_is_refused(plain: Path) -> None:
    (plain / "unit=factorized").mkdir()
    shutil.copy(plain / "lambda=0.1.safetensors", plain / "unit=factorized")
    with pytest.raises(CheckpointError, match=r"is the same rate of the same unit; move one of them away"):
        Ladder.load(plain, "factorized")


def test_rates_of_others_in_the_way_are_not_overwritten(plain: Path, default: str) -> None:
    (plain / f"unit={default}").mkdir()
    shutil.copy(plain / "lambda=0.1.safetensors", plain / f"unit={default}")
    with pytest.raises(UsageError, match=r"lambda=0.1.safetensors: holds the unit factorized; move it away, or give"):
        place_of(plain, default, 0.1)


def test_a_unit_of_any_rate_has_a_name_and_is_found(plain: Path, default: str) -> None:
    path = rate_path(plain, (0.003, 0.03))
    assert path.name == "lambda=0.003..0.03.safetensors" and rate_path(plain, [1e-5, 1]).name.startswith(
        "lambda=1e-05..1.0."
    )
    shutil.copy(plain / "lambda=0.1.safetensors", path)
    assert unit_of(path) == "factorized"
    assert path in find_rates(plain, "factorized") and rates_of(plain, default) == []
    assert place_of(plain, default, (0.003, 0.03)) == plain / f"unit={default}" / path.name
    assert place_of(plain / "unit=factorized", "factorized", (0.003, 0.03)) == path


def test_a_file_that_cannot_be_read_counts_as_its_folders(plain: Path, default: str) -> None:
    for folder, unit in ((plain, default), (plain / "unit=mine", "mine")):
        folder.mkdir(exist_ok=True)
        path = rate_path(folder, 0.5)
        path.write_bytes(b"damaged")
        assert unit_of(path) == unit and rate_folder(plain.parents[2], "tiny", "body", "digits", unit) == folder
        with pytest.raises(CheckpointError, match=r"lambda=0.5.safetensors: damaged"):
            Ladder.load(folder, unit)
    assert [*Ladder.load(plain, "factorized")] == OLD


def test_a_setting_that_an_old_file_does_not_know_counts_as_what_was_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bottlenecks.training.resume.OLD_VALUES", {"training.rounds": 1, "mode": "plain"})
    old = {"training": {"epochs": 2}, "seed": 0}
    same = {"training": {"epochs": 2, "rounds": 1}, "seed": 0, "mode": "plain", "target": {"bytes": None}}
    assert differences(old, same) == ""
    assert differences(old, {**same, "mode": "new", "target": {"bytes": 400}}) == (
        "mode plain -> new, target.bytes None -> 400"
    )
    assert differences(old, {**same, "training": {"epochs": 2, "rounds": 3}}) == "training.rounds 1 -> 3"
    assert differences({**old, "training": {"epochs": 2, "rounds": 3}}, same) == "training.rounds 3 -> 1"
