"""What is odd at a cut ends right, or in one clear error: trained, written, read again and evaluated."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from bottlenecks.errors import UsageError
from bottlenecks.rates.rate import Rate, load_rate
from bottlenecks.splitting.features import Features
from evaluate import evaluate
from tests.conftest import configure, quiet
from tests.networks import Edge
from train import train

FEW = (
    "logger=none",
    "data.limit_train=48",
    "data.limit_val=16",
    "data.augment=false",
    "training.epochs=1",
    "unit.restorer=8",
)
EVALUATED = ("logger=none", "data.limit_test=24", "timed_images=1", "workers=0")


def network_options(root: Path, odd: str = "", num_classes: int = 10) -> list[str]:
    """Keep an odd network with random weights, and name it."""
    torch.manual_seed(0)
    torch.save(Edge(num_classes, odd).eval().state_dict(), root / "edge.pt")
    weights, target = f"model.weights={root / 'edge.pt'}", "model.factory._target_=tests.networks.Edge"
    return ["model=custom", "model.name=edge", target, f"+model.factory.odd='{odd}'", weights, "split=body"]


def run(root: Path, network: list[str], *overrides: str) -> Rate:
    """Train one rate and read it."""
    (path,) = train(configure("train", root, *quiet([*network, *FEW, *overrides])))
    return load_rate(path)


def figures_of(root: Path, network: list[str], *overrides: str) -> tuple[float, float]:
    """Evaluate the one rate; give its bytes and its agreement."""
    evaluate(configure("evaluate", root, *network, *EVALUATED, *overrides))
    curve = json.loads(next((root / "results").rglob("curve.json")).read_text())
    ((num_bytes, agreement),) = [(point["payload_bytes"], point["agreement"]) for point in curve["points"]]
    return num_bytes, agreement


def crossing(root: Path, odd: str = "", size: tuple[int, int] = (32, 32)) -> tuple[Tensor, Tensor]:
    """Return what the odd network makes of some images: what crosses, and what is aside of it."""
    network = Edge(odd=odd).eval()
    network.load_state_dict(torch.load(root / "edge.pt", weights_only=True))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        return network.features(
            2 * torch.randn(6, 3, 1, 1, generator=generator) + torch.randn(6, 3, *size, generator=generator)
        )


def send(rate: Rate, *features: Tensor) -> tuple[Features, list[bytes]]:
    """Send features through real frames; give what arrives, and the frames."""
    frames = rate.unit.compress(features)
    return rate.unit.decompress(frames), frames


@pytest.mark.parametrize("count", [pytest.param(1, marks=pytest.mark.slow), 2, 30])
def test_a_handful_of_images_is_enough_to_begin(count: int, tmp_path: Path) -> None:
    network = network_options(tmp_path)
    rate = run(tmp_path, network, f"data.limit_train={count}", "lambda=1.0")
    assert rate.info.metrics["val/loss"] < np.inf
    if count == 1:
        num_bytes, agreement = figures_of(tmp_path, network)
        assert num_bytes >= 6 and 0 <= agreement <= 1


def test_one_image_in_a_folder_cannot_be_divided(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    Image.new("RGB", (32, 32)).save(tmp_path / "images/only.png")
    with pytest.raises(UsageError, match=r"data.test_part=0.2: takes 0 of 1 images; both the part and the rest"):
        run(tmp_path, network_options(tmp_path), "data=pictures", f"data.root={tmp_path / 'images'}")


@pytest.mark.slow
@pytest.mark.parametrize("odd", ["dead", "constant"])
@pytest.mark.parametrize("structure", ["separable", "joint"])
def test_channels_that_never_change_are_restored(odd: str, structure: str, tmp_path: Path) -> None:
    options = ("training.epochs=0", "lambda=1e4", f"unit.structure={structure}")
    rate = run(tmp_path, network_options(tmp_path, odd), *options)
    features, _ = crossing(tmp_path, odd)
    (hat,), frames = send(rate, features)
    torch.testing.assert_close(hat[:, 5:], features[:, 5:], rtol=1e-5, atol=1e-6)
    if odd == "dead":  # behind a constant of 1,000 the tail hardly listens to anything else
        assert not torch.equal(hat[0, :5], hat[1, :5]) and min(map(len, frames)) > 6


@pytest.mark.slow
def test_constant_channels_do_no_harm_in_training(tmp_path: Path) -> None:
    network = network_options(tmp_path, "constant")
    rate = run(tmp_path, network, "lambda=10.0", "training.epochs=3")
    features, _ = crossing(tmp_path, "constant")
    (hat,), _ = send(rate, features)
    assert float((hat - features)[:, 5:].abs().max()) < 1
    assert figures_of(tmp_path, network)[1] > 0.5


def test_a_tail_that_does_not_listen_is_sent_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network = network_options(tmp_path, "deaf")
    run(tmp_path, network, "lambda=10.0")
    said = " ".join(capsys.readouterr().out.split())
    assert said.count("lambda=10.0: sends next to nothing") == 2  # before training and after
    assert figures_of(tmp_path, network) == (6, 1)


@pytest.mark.parametrize("structure", ["separable", "joint"])
def test_nothing_is_sent_of_a_tensor_that_the_tail_ignores(structure: str, tmp_path: Path) -> None:
    options = ("several=true", "lambda=10.0", f"unit.structure={structure}")
    rate = run(tmp_path, network_options(tmp_path, "aside"), *options)
    used = {part.feature_shape: bool((part.numbers() > 0).any()) for part in rate.unit.parts}  # type: ignore[attr-defined]
    assert used == {(8, 4, 4): True, (4, 4, 4): False}
    tensors = dict(zip([(8, 4, 4), (4, 4, 4)], crossing(tmp_path, "aside"), strict=True))
    hats, _ = send(rate, *(tensors[part.feature_shape] for part in rate.unit.parts))
    assert all(hat.isfinite().all() for hat in hats)


@pytest.mark.parametrize("size", [(1, 1), (3, 5)])
@pytest.mark.parametrize("structure", ["separable", "joint"])
def test_tiny_and_odd_maps(size: tuple[int, int], structure: str, tmp_path: Path) -> None:
    height, width = 8 * size[0], 8 * size[1]
    options = (f"data.image_size=[{height},{width}]", "lambda=10.0", f"unit.structure={structure}")
    rate = run(tmp_path, network_options(tmp_path), *options)
    features, _ = crossing(tmp_path, size=(height, width))
    (hat,), frames = send(rate, features)
    assert hat.shape == features.shape == (6, 8, *size) and min(map(len, frames)) > 6


def test_a_cut_behind_which_nothing_is_learned(tmp_path: Path) -> None:
    network = network_options(tmp_path, "linear")
    run(tmp_path, network, "lambda=10.0")
    num_bytes, agreement = figures_of(tmp_path, network)
    assert num_bytes > 6 and agreement > 0.5


@pytest.mark.parametrize("structure", ["separable", pytest.param("joint", marks=pytest.mark.slow)])
def test_the_range_of_values_makes_no_difference(structure: str, tmp_path: Path) -> None:
    found = {}
    for odd in ("", "small", "large"):
        root = tmp_path / f"odd{odd}"
        root.mkdir()
        rate = run(root, network_options(root, odd), "training.epochs=0", "lambda=30.0", f"unit.structure={structure}")
        features, _ = crossing(root, odd)
        (hat,), frames = send(rate, features)
        found[odd] = np.mean([*map(len, frames)]), float((hat - features).norm() / features.norm())
    for odd in ("small", "large"):
        assert found[odd] == pytest.approx(found[""], rel=0.03)
    assert found[""][0] > 7


@pytest.mark.parametrize("options", [(), ("training.cache_features=false",), ("loss.kd=0", "loss.mse=1")])
def test_features_that_are_not_finite_are_named(options: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"split=body: the features there are not finite; are the weights sound"):
        run(tmp_path, network_options(tmp_path, "broken"), *options)


@pytest.mark.parametrize("precision", ["bf16-mixed", pytest.param("64-true", marks=pytest.mark.slow)])
def test_other_precisions_write_the_same_kind_of_unit(precision: str, tmp_path: Path) -> None:
    network = network_options(tmp_path)
    rate = run(tmp_path, network, f"trainer.precision={precision}", "lambda=10.0")
    assert {tensor.dtype for tensor in rate.unit.state_dict().values()} == {torch.float32}
    assert figures_of(tmp_path, network)[1] > 0.5


def test_one_class_alone(tmp_path: Path) -> None:
    (tmp_path / "images/cat").mkdir(parents=True)
    for index in range(20):
        pixels = np.random.default_rng(index).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"images/cat/{index}.png")
    data = ("data=image_folder", f"data.root={tmp_path / 'images'}", "data.image_size=32", "data.num_workers=0")
    network = network_options(tmp_path, num_classes=1)
    run(tmp_path, network, *data)
    assert figures_of(tmp_path, network, *data) == (6, 1)
