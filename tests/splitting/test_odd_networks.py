"""Networks that are odd to train work, or are one line before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bottlenecks.backbones.architecture import build_network
from bottlenecks.backbones.backbone import load_backbone
from bottlenecks.deploy.bundle import Bundle
from bottlenecks.deploy.device import Device
from bottlenecks.deploy.receiver import Receiver
from bottlenecks.errors import UsageError
from bottlenecks.network import BottleneckNetwork
from bottlenecks.settings.model import BackboneSpec
from bottlenecks.tensor_files import read_safetensors
from bottlenecks.training.epoch_lines import EpochLines
from evaluate import evaluate
from export import export
from tests.conftest import TINY, configure, quiet
from tests.odd import Tied
from train import train

FEW = (
    "data.limit_train=48",
    "data.limit_val=32",
    "data.augment=false",
    "data.batch_size=16",
    "backbone.epochs=1",
    "training.epochs=1",
    "training.fit_images=48",
    "unit.restorer=0",
    "unit.structure=separable",
    "lambda=0.03",
    "logger=none",
)


def odd(name: str) -> tuple[str, ...]:
    return ("model=custom", "model.name=odd", f"model.factory._target_=tests.odd.{name}", "split=body")


def slow(*network: str) -> Any:
    """Mark a network as slow."""
    return pytest.param(network, marks=pytest.mark.slow)


def run(root: Path, *overrides: str) -> None:
    train(configure("train", root, *quiet([*FEW, *overrides])))


@pytest.mark.parametrize(
    "network",
    [
        slow(*odd("Named"), "+model.factory.kind=dict"),
        slow(*odd("Named"), "+model.factory.kind=named"),
        (*odd("Named"), "+model.factory.kind=train-dict"),
        slow(*odd("Named"), "+model.factory.kind=train-tuple"),
        slow(*odd("Named"), "+model.factory.kind=train-named"),
        odd("Tied"),
        odd("Needy"),
        slow(*odd("Fixed")),
        odd("Pooled"),
        (*odd("Pooled"), "model.factory._target_=tests.networks.Tokens", "split=flat"),
        slow(*odd("Pooled"), "model.factory._target_=tests.networks.Tokens", "split=last"),
        pytest.param(
            ("model=torchvision", "model.name=googlenet", "split=inception3a", "data.image_size=64"),
            marks=[
                pytest.mark.slow,
                pytest.mark.filterwarnings("ignore:The default weight initialization of GoogleNet"),
            ],
        ),
    ],
    ids=lambda network: network[-1].rpartition(".")[2],
)
def test_it_trains(network: tuple[str, ...], tmp_path: Path) -> None:
    run(tmp_path, *network)
    assert len([*tmp_path.rglob("lambda=0.03.safetensors")]) == 1


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ((*odd("Named"), "+model.factory.kind=tuple"), r"model.name=odd: it gives a tuple in eval mode, .*wrap it"),
        (odd("Seven"), r"model.name=odd: it has 7 outputs, and the data 10 classes; give it a head of 10"),
        (odd("Frozen"), r"none of its parameters asks for a gradient, nothing could be trained; .*model.weights=FILE"),
        (odd("Silent"), r"no output of classification among what it gives in training mode"),
        (
            (*odd("Pooled"), "data.batch_size=1"),
            r"cannot be trained on batches of 1 image of 3x32x32 .*data.batch_size",
        ),
        ((*odd("Pooled"), "data.limit_train=1"), r"cannot be trained on batches of 1 image of 3x32x32 .*limit_train"),
        (
            ("model=torchvision", "model.name=inception_v3", "split=Mixed_5b", "data.image_size=96"),
            r"model.name=inception_v3: cannot be trained on batches of 2 images of 3x96x96 .*data.image_size",
        ),
    ],
    ids=lambda given: given[-1].rpartition(".")[2] if isinstance(given, tuple) else "",
)
@pytest.mark.filterwarnings("ignore:The default weight initialization of inception_v3")
def test_it_is_one_line_before_anything_is_trained(
    network: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EpochLines, "on_train_epoch_start", lambda *_: pytest.fail("training began"))
    for stage in ("unit", "backbone") if network == odd("Seven") else ("backbone",):
        with pytest.raises(UsageError, match=message):
            run(tmp_path, *network, f"stage={stage}")
    assert not [*tmp_path.rglob("*.safetensors")]


@pytest.mark.slow
def test_logits_in_a_dataclass_are_trained_evaluated_and_exported(tmp_path: Path) -> None:
    network = (*odd("Named"), "+model.factory.kind=dataclass")
    run(tmp_path, *network)
    given = (*network, "data.limit_test=20", "logger=none")
    curve = evaluate(configure("evaluate", tmp_path, *given, "workers=0", "codecs=[unit]"))
    assert curve.points[0]["agreement"] > 0.1
    export(configure("export", tmp_path, *given, f"out={tmp_path / 'bundle'}"))
    bundle = Bundle(tmp_path / "bundle")
    device, server = Device(bundle), Receiver(bundle)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3)).astype(np.uint8))
    stream = device.encode(device.features(image), 0.03)
    (answer,) = server.infer([server.read(stream)])
    network = BottleneckNetwork.load(tmp_path / "checkpoints/odd/body/digits")
    expected = network.decode([stream])
    assert np.allclose(answer, expected["logits"].numpy(), atol=1e-4)


def test_units_with_batches_of_one_are_told_what_to_set(tmp_path: Path) -> None:
    """Features of one position, which these units normalise over the batch."""
    small = (*TINY[:-1], "split=top", "data.image_size=8", "unit=factorized", "unit.stride=1")
    options = [one for one in FEW if not one.startswith("unit.")]
    train(configure("train", tmp_path, *quiet([*options, *small, "stage=backbone"])))
    with pytest.raises(UsageError, match=r"data.batch_size: batches of one image are too few to normalise over"):
        train(configure("train", tmp_path, *quiet([*options, *small, "data.batch_size=1"])))


def test_tied_weights_stay_tied(tmp_path: Path) -> None:
    run(tmp_path, *odd("Tied"), "stage=backbone")
    (path,) = tmp_path.rglob("digits.safetensors")
    tensors, _ = read_safetensors(path)
    assert tensors["first.weight"].equal(tensors["second.weight"])
    factory = {"_target_": "tests.odd.Tied"}
    network = load_backbone(BackboneSpec("odd", library="custom", factory=factory, weights=str(path)), 10).network
    assert isinstance(network, Tied) and network.first.weight is network.second.weight


def test_a_factory_that_needs_the_number_of_classes_is_listed() -> None:
    spec = BackboneSpec("odd", library="custom", factory={"_target_": "tests.odd.Needy"})
    assert build_network(spec).get_parameter("classifier.bias").shape == (1000,)
    assert build_network(spec, 3).get_parameter("classifier.bias").shape == (3,)
