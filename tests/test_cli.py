"""Bad input on the real command lines: one line, status 2, nothing written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import evaluate
import export
import train
from bottlenecks.console.cli import entry_point, run
from bottlenecks.errors import UsageError, closest
from bottlenecks.rates.places import rate_path
from bottlenecks.run import main as run_images
from bottlenecks.settings.evaluation import check_device
from bottlenecks.settings.rates import parse_lambdas
from bottlenecks.settings.targets import check_target
from bottlenecks.split import main as list_split_points
from tests.conftest import TINY, configure, quiet
from tests.networks import Heads, Tiny

Command = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def folder_of_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of twelve images each."""
    root = tmp_path_factory.mktemp("images")
    for name in ("cat", "dog"):
        (root / name).mkdir()
        for index in range(12):
            pixels = np.random.default_rng(index).integers(0, 255, (40, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{index}.png")
    return root


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("model=torchvision", "model.name=resnet51", "split=layer3"), "model.name=resnet51: no such network"),
        (("data=digit",), "data=digit: no such data; there are bccd, camvid, cifar10"),
        (("stage=units",), "stage=units: expected unit or backbone"),
        (("lambda=0",), "lambda=0: expected a number above 0"),
        (
            ("unit.stride=2",),
            "rounding, restorer, hidden, max_bytes, max_macs, range; unit=factorized and unit=spic would take",
        ),
        (("training.epoch=2",), "training.epoch: no such setting here; there are epochs, lr"),
        (("target.bytes=3",), "target.bytes=3: expected a number of at least 7"),
        (("lambda=[0.01",), "no viable alternative at input '[0.01'"),
        (("data=pictures", "data.root=/nowhere"), "data.root=/nowhere: no such folder"),
        (("model=torchvision",), "model.name: missing; give it as model.name=…"),
        (("model=torchvision", "model.name=resnet34"), "split: missing; give it as split=…"),
        (("model.library=keras",), "model.library=keras: expected one of torchvision, timm, transformers"),
        (("model.weights=DEFAULT",), "model.weights=DEFAULT: those outputs are not the classes of data=digits"),
        (("data.image_size=-3",), "-3"),
        (("model.name=..",), "model.name=..: expected a name"),
        (("data.name=a/b",), "data.name=a/b: expected a name"),
        (("unit.name=../../x",), "unit.name=../../x: expected a name"),
        (("seed=-1",), "seed=-1: expected a whole number from 0 to 4294967295"),
        (("training.epochs=-1",), "training.epochs=-1: expected a whole number of at least 0"),
        (("training.lr=fast",), "training.lr=fast: expected a number of at least 0"),
        (("backbone.epochs=0",), "backbone.epochs=0: expected a whole number of at least 1"),
        (("split=layre3",), "split=layre3: no tensor of ResNet has this name; closest: layer3"),
        (("data.batch_size=0",), "data.batch_size=0"),
        (("data.batch_size=null",), "data.batch_size=None: expected a whole number"),
        (("data.limit_train=inf",), "data.limit_train=inf: must be a number of images"),
        (("data.held_back=nan",), "data.held_back=nan: must be a number of images"),
        (("data.image_size=true",), "data.image_size=True: must be a number of pixels"),
        (("data.preprocessing=3",), "preprocessing=3: expected resize, crop"),
        (("data=mask_folder", "data.classes=3"), "data.classes=3: expected a list of names"),
        (("data=coco_file", "data.learn=[boxes]"), "data.learn=['boxes']: expected boxes or masks"),
        (("model.weights=3",), "model.weights=3: expected auto, none"),
        (("model.weights=null",), "model.weights=None: expected auto, none"),
        (("+model.weight=none",), "model.weight: no such setting; there are name, task"),
        (
            ("model=custom", "model.name=x", "split=x", "model.factory=3"),
            "model.factory=3: expected model.factory._target_=",
        ),
        (("+backbone.epoch=3",), "backbone.epoch: no such setting; there are epochs, lr"),
        (("+training.epoch=3",), "training.epoch: no such setting; there are "),
        (("~unit.name",), "unit.name: missing; leave ~unit.name or ~unit out"),
        (("~data._target_",), "data._target_: missing; leave ~data._target_ or ~data out"),
        (
            ("unit.hidden=8", "unit.structure=joint", "training.epochs=0"),
            "unit.hidden=8: such an encoder is learnt by loss.kd alone, for a lambda, and before training",
        ),
        (("stage=backbone", "backbone.label_smoothing=2"), "label_smoothing=2: expected a number from 0 to 1"),
        (("training.warmup=5",), "training.warmup=5: expected a number from 0 to 1"),
        (("seed=99999999999",), "seed=99999999999: expected a whole number from 0 to 4294967295"),
        (("unit.architecture=[spic]",), "unit.architecture=['spic']: no such unit"),
        (("target=null",), "target=None: expected its settings one by one, as target.NAME=VALUE"),
        (("unit=null",), "take a name of theirs, as logger=none"),
    ],
)
def test_bad_arguments_are_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    """The command line around it is that of test_startup.py."""
    if not any(argument.startswith("lambda") for argument in arguments):
        arguments = (*arguments, "lambda=0.01")
    with pytest.raises(SystemExit) as stop:
        run(lambda: train.train(configure("train", tmp_path, "logger=none", *arguments)))
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert error.startswith("error: ") and error.count("\n") == 1
    assert message in error
    assert not list(tmp_path.rglob("*.safetensors"))


@pytest.mark.parametrize("out", ["''", ".", "..", "3", "[a]"])
def test_a_bundle_needs_a_folder_of_its_own(command: Command, out: str) -> None:
    status, error = command(export.main, *TINY, f"out={out}")
    assert status == 2 and "expected a folder by its name" in error and error.count("\n") == 1


def test_a_bundle_is_of_one_unit(command: Command) -> None:
    status, error = command(export.main, *TINY, "codecs=[jpeg]")
    assert status == 2 and error.startswith("error: codecs=['jpeg']: a bundle has the rates of one unit")


def test_a_program_may_name_what_it_holds_itself() -> None:
    check_target("model.factory._target_", "__main__.Net")


@pytest.mark.parametrize("device", ["cpu:", "cuda:x", "3"])
def test_devices_that_are_none_are_named(device: str) -> None:
    with pytest.raises(UsageError, match=f"device={device}: expected one of auto"):
        check_device(device)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (-0.1, "lambda=-0.1: expected a number above 0"),
        ("abc", "lambda=abc: expected a number above 0"),
        ([], r"lambda=\[\]: expected at least one number above 0"),
        ([0.01, 0.01], "0.01 is there twice"),
    ],
)
def test_lambdas_that_are_none_are_named(value: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_lambdas(value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("split=bdoy",), "split=bdoy: no tensor of Tiny has this name; closest: body"),
        (("split=classifier",), "this is the network's output"),
        (
            ("model.factory._target_=tests.networks.Heads", "model.weights={heads}", "split=heads"),
            "split=heads: the features there have shape (256, 2, 4); units take maps (C, H, W)",
        ),
        (("data.limit_val=0",), "data.limit_val=0"),
        (("model.factory._target_=tests.networks.Tinny",), "'tests.networks.Tinny': Error loading"),
    ],
)
def test_what_does_not_fit_the_network_is_named(
    command: Command, trained: Path, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    torch.save(Heads().state_dict(), tmp_path / "heads.pt")
    arguments = tuple(argument.format(heads=tmp_path / "heads.pt") for argument in arguments)
    paths = [f"paths.checkpoints={trained / 'checkpoints'}", f"paths.logs={tmp_path}"]
    status, error = command(train.main, *quiet(TINY), "logger=none", "lambda=0.5", *paths, *arguments)
    assert status == 2 and error.startswith("error: ") and error.count("\n") == 1
    assert message in error
    assert not (trained / "checkpoints/tiny/body/digits/lambda=0.5.safetensors").exists()


def test_a_folder_that_cannot_be_written_is_named(command: Command, trained: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    arguments = [
        *TINY,
        f"paths.checkpoints={trained / 'checkpoints'}",
        f"paths.logs={tmp_path / 'logs'}",
        "logger=none",
    ]
    status, error = command(evaluate.main, *arguments, f"paths.results={tmp_path / 'file'}")
    assert status == 2 and str(tmp_path / "file") in error and error.count("\n") == 1


def test_no_backbone_for_the_data_names_three_ways_out(command: Command, folder_of_images: Path) -> None:
    status, error = command(train.main, "model=resnet18", "data=image_folder", f"data.root={folder_of_images}")
    assert status == 2
    for way_out in ("stage=backbone", "model.weights=FILE", "ImageNet's labels"):
        assert way_out in error


def test_an_empty_folder_and_a_file_that_is_no_image_are_named(
    command: Command, tmp_path: Path, folder_of_images: Path
) -> None:
    status, error = command(train.main, "data=pictures", f"data.root={tmp_path}")
    assert status == 2 and f"data.root={tmp_path}" in error
    for index, path in enumerate(sorted(folder_of_images.rglob("*.png"))):
        (tmp_path / f"{index}.png").write_bytes(path.read_bytes())
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    weights = tmp_path.parent / "weights.pt"
    torch.save(Tiny().state_dict(), weights)
    arguments = (*quiet(TINY), "data=pictures", f"data.root={tmp_path}", "logger=none", f"model.weights={weights}")
    preprocessing = "{resize: 32, crop: 32, mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5]}"
    status, error = command(train.main, *arguments, f"data.preprocessing={preprocessing}")
    assert status == 2 and "broken.jpg" in error and "data.skip_damaged=true" in error


def test_a_damaged_checkpoint_is_named(command: Command, trained: Path, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints/tiny/body/digits"
    folder.mkdir(parents=True)
    rate_path(folder, 0.5).write_bytes(b"damaged")
    backbone = trained / "checkpoints/tiny/backbone/digits.safetensors"
    arguments = [*TINY, f"paths.checkpoints={tmp_path / 'checkpoints'}", f"model.weights={backbone}", "logger=none"]
    for main, extra in ((evaluate.main, ()), (train.main, ("lambda=0.5",))):
        status, error = command(main, *arguments, *extra)
        assert status == 2 and "lambda=0.5.safetensors: damaged" in error and error.count("\n") == 1
    assert rate_path(folder, 0.5).read_bytes() == b"damaged"


def test_an_image_becomes_bytes_and_a_label(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(trained / "checkpoints/tiny/body/digits")
    image = tmp_path / "seven.png"
    Image.fromarray(np.full((8, 8), 200, dtype=np.uint8)).save(image)
    run_images([folder, "--lambda", "0.003", str(image), "--out", str(tmp_path / "kept")])
    first = capsys.readouterr().out
    assert "0.003" in first and (tmp_path / "kept/seven.bneck").stat().st_size < 200
    run_images([folder, str(tmp_path / "kept/seven.bneck")])
    again = capsys.readouterr().out
    assert first.split("seven.png")[1].split()[:8] == again.split("seven.bneck")[1].split()[:8]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{folder}", "/nowhere.png"], "/nowhere.png: no such file"),
        (["{folder}", __file__], "not a readable image"),
        (["{folder}", "--lambda", "0.5", __file__], "lambda=0.5: no such rate; there are 0.003, 0.03"),
        (["{folder}", "{folder}/x.bneck"], "x.bneck: the frame is empty"),
        (["/nowhere", __file__], "/nowhere: no rate checkpoints"),
    ],
)
def test_bad_images_are_named(
    trained: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    folder = trained / "checkpoints/tiny/body/digits"
    (folder / "x.bneck").write_bytes(b"")
    given = [argument.format(folder=folder) for argument in arguments]
    with pytest.raises(SystemExit) as stop:
        run(lambda: run_images(given))
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_the_listing_shows_shapes_and_shares(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    main = entry_point("split")(list_split_points)
    assert command(main, "model=resnet18", "image_size=64") == (0, "")


def test_closest_falls_back_to_the_first() -> None:
    assert closest("layre3", ["layer1", "layer3"], 1) == "layer3"
    assert closest("zzz", ["a", "b", "c"], 2) == "a, b"
