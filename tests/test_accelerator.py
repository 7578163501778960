"""Training, resuming, evaluation and exporting on an accelerator, against the processor's figures; `make test-gpu`.

`BOTTLENECKS_TEST_DEVICE=cpu` runs the same without one, to try the tests themselves.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from bottlenecks.errors import UsageError
from bottlenecks.files import read_metadata
from bottlenecks.network import BottleneckNetwork
from bottlenecks.rates.info import RateInfo
from bottlenecks.rates.rate import load_rate
from bottlenecks.training.module import LadderModule
from evaluate import evaluate
from export import export
from tests.conftest import QUICK, TINY, TINY_SEGMENTER, configure
from train import train

DEVICE = os.environ.get("BOTTLENECKS_TEST_DEVICE", "cuda")
FOLDER = Path("tiny/body/digits")
SEGMENTER = (
    *TINY_SEGMENTER,
    "data=digit_masks",
    "split=top",
    "several=true",
)
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(DEVICE == "cuda" and not torch.cuda.is_available(), reason="no accelerator here"),
]


def options(device: str, *overrides: str) -> list[str]:
    accelerator = "gpu" if device == "cuda" else device
    quick = [one for one in QUICK if "unit=" not in "".join(overrides) or not one.startswith("unit.")]
    return [*quick, f"trainer.accelerator={accelerator}", "trainer.enable_progress_bar=false", *overrides]


def run(root: Path, device: str, *overrides: str) -> dict[str, RateInfo]:
    """Train two rates, or what else is asked for; give what their files say."""
    paths = [f"paths.cache={root / 'cache'}", "lambda=[0.003,0.03]", "data.limit_train=512"]
    written = train(configure("train", root, *TINY, *options(device, *paths, *overrides)))
    return {path.name: load_rate(path).info for path in written}


@pytest.fixture
def root(trained: Path, tmp_path: Path) -> Path:
    """A folder that has the tiny backbone and nothing else."""
    shutil.copytree(trained / "checkpoints/tiny/backbone", tmp_path / "checkpoints/tiny/backbone")
    return tmp_path


@pytest.fixture(scope="module")
def expected(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, RateInfo]:
    """What the processor comes to."""
    root = tmp_path_factory.mktemp("expected")
    shutil.copytree(trained / "checkpoints/tiny/backbone", root / "checkpoints/tiny/backbone")
    return run(root, "cpu")


@pytest.mark.parametrize(
    "overrides",
    [
        pytest.param((), id="single precision"),
        pytest.param(("training.cache_features=false",), id="uncached"),
        pytest.param(("training.cache_features=true", "training.cache_memory_gib=0"), id="cached in files"),
        pytest.param(("training.channels_last=true", "training.rates_per_pass=1"), id="channels last, a rate a pass"),
        pytest.param(("data.batch_size=32", "+trainer.accumulate_grad_batches=2"), id="accumulated"),
        pytest.param(("trainer.precision=bf16-mixed",), id="bfloat16"),
        pytest.param(("trainer.precision=16-mixed",), id="half precision"),
    ],
)
def test_units_train_as_on_the_processor(overrides: tuple[str, ...], root: Path, expected: dict[str, RateInfo]) -> None:
    if DEVICE == "cpu" and "trainer.precision=16-mixed" in overrides:
        pytest.skip("a processor does not train in half precision")
    found = run(root, DEVICE, *overrides)
    assert found.keys() == expected.keys()
    for name, info in found.items():
        assert info.metrics["val/loss"] == pytest.approx(expected[name].metrics["val/loss"], rel=0.05)
        assert info.metrics["val/accuracy"] == pytest.approx(expected[name].metrics["val/accuracy"], abs=0.06)


@pytest.mark.parametrize("unit", ["factorized", "spic"])
def test_other_units_train_too(unit: str, root: Path) -> None:
    on_processor = run(root, "cpu", f"unit={unit}", "unit.name=processor")
    found = run(root, DEVICE, f"unit={unit}")
    for name, info in found.items():
        assert info.metrics["val/loss"] == pytest.approx(on_processor[name].metrics["val/loss"], rel=0.1)


def test_a_unit_of_any_rate_and_a_target(root: Path) -> None:
    ((name, info),) = run(root, DEVICE, "unit.range=true").items()
    assert name == "lambda=0.003..0.03.safetensors" and info.metrics["val/accuracy"] > 0.2
    ((_, info),) = run(root, DEVICE, "lambda=null", "target.bytes=12").items()
    assert info.metrics["target.bytes=12"] == pytest.approx(12, rel=0.1)


def test_an_interrupted_run_goes_on(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uninterrupted = run(root, DEVICE, "unit.name=whole")
    end = LadderModule.on_train_epoch_end

    def press_control_c(module: LadderModule) -> None:
        end(module)
        if module.current_epoch == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(UsageError, match="interrupted in epoch 2"):
        patch.setattr(LadderModule, "on_train_epoch_end", press_control_c)
        run(root, DEVICE)
    for name, info in run(root, DEVICE, "resume=true").items():
        assert info.metrics["val/loss"] == pytest.approx(uninterrupted[name].metrics["val/loss"], rel=0.01)


def test_a_network_trains_as_on_the_processor(tmp_path: Path) -> None:
    scores = []
    for device in ("cpu", DEVICE):
        root = tmp_path / device / str(len(scores))
        train(configure("train", root, *TINY, *options(device, "stage=backbone", "backbone.epochs=4")))
        scores.append(read_metadata(root / "checkpoints/tiny/backbone/digits.safetensors")["val/accuracy"])
    assert scores[1] == pytest.approx(scores[0], abs=0.08) and scores[0] > 0.5


def test_masks_and_several_tensors(tmp_path: Path) -> None:
    few = ("data.num_workers=0", "data.limit_train=16", "training.epochs=1", "lambda=0.03")
    losses = []
    for device in ("cpu", DEVICE):
        root = tmp_path / f"{len(losses)}"
        if losses:
            shutil.copytree(
                tmp_path / "0/checkpoints/tiny_segmenter/backbone", root / "checkpoints/tiny_segmenter/backbone"
            )
        (path,) = train(configure("train", root, *SEGMENTER, *options(device, *few, "backbone.epochs=1")))
        losses.append(load_rate(path).info.metrics["val/loss"])
    assert losses[1] == pytest.approx(losses[0], rel=0.05)


def test_evaluation_comes_to_the_processors_curve(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained / "checkpoints", tmp_path / "checkpoints")
    asked = ("logger=none", f"device={DEVICE}", "timed_images=2", "codecs=[unit,uniform,jpeg]", "calibration_images=16")
    evaluate(configure("evaluate", tmp_path, *TINY, *asked, "workers=0"))
    place = Path("results") / FOLDER / "curve.json"
    found, expected = (json.loads((root / place).read_text()) for root in (tmp_path, trained))
    assert found["unsplit"] == pytest.approx(expected["unsplit"], abs=0.01)
    units = [point for point in found["points"] if point["codec"] == "unit"]
    assert len(units) == len(expected["points"]) and len(found["points"]) > len(units)
    for own, right in zip(units, expected["points"], strict=True):
        assert own["payload_bytes"] == pytest.approx(right["payload_bytes"], rel=0.02)
        assert own["accuracy"] == pytest.approx(right["accuracy"], abs=0.02)


def test_what_was_trained_there_is_exported_and_used_here(root: Path) -> None:
    run(root, DEVICE)
    folder = export(configure("export", root, *TINY, "logger=none", f"out={root / 'dist'}", "data.limit_test=20"))
    assert (folder / "manifest.json").exists()
    network, images = BottleneckNetwork.load(root / "checkpoints" / FOLDER), torch.rand(4, 3, 32, 32)
    for lmbda in network.ladder:
        network.lmbda = lmbda
        assert network.decode(network.encode(images)).isfinite().all()
