"""What the data's defaults come to: views of few images, and enough of them held back."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import DictConfig

from bottlenecks.rates.rate import read_info
from bottlenecks.runs.experiment import Experiment, prepare, settings_of
from bottlenecks.settings.experiment import ExperimentPlan
from bottlenecks.settings.training import TrainingPlan
from tests.conftest import TINY, configure, quiet
from train import train

SHORT = ("training.epochs=1", "logger=none", "data.limit_val=40")


def options(*overrides: str) -> list[str]:
    return quiet([*TINY, *SHORT, *overrides])


@pytest.fixture(scope="module", autouse=True)
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with a tiny backbone for digits."""
    root = tmp_path_factory.mktemp("backbone")
    train(configure("train", root, *quiet([*TINY, "stage=backbone", "backbone.epochs=1"])))
    return next((root / "checkpoints").rglob("digits.safetensors"))


def prepared(cfg: DictConfig) -> Experiment:
    return prepare(ExperimentPlan.of(cfg), "fit", TrainingPlan.of(cfg).augment_few)


@pytest.mark.parametrize(
    ("given", "augment", "views"),
    [
        (["data.limit_train=1199"], True, 4),
        ([], True, 4),
        (["data.limit_train=100", "data.views=2"], True, 2),
        (["data.limit_train=100", "data.augment=false"], False, None),
        (["data.augment=true"], True, None),
        (["data.limit_train=100", "training.epochs=0"], False, None),
        (["data.limit_train=100", "unit=factorized"], False, None),
    ],
)
def test_few_images_are_augmented_for_transform_units(
    given: list[str],
    augment: bool,
    views: int | None,
    backbone: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cfg = configure("train", tmp_path, *options(f"model.weights={backbone}", *given))
    experiment = prepared(cfg)
    found = settings_of(experiment)["data"]
    assert (found["augment"], found["views"]) == (augment, views)
    assert (experiment.datamodule.augment, experiment.datamodule.num_views) == (augment, views if augment else 1)
    by_itself = augment and "data.augment=true" not in given
    assert ("data.augment=false for none" in " ".join(capsys.readouterr().out.split())) == by_itself


@pytest.mark.parametrize(("count", "augment"), [(99, True), (100, False)])
def test_many_images_are_not_augmented(
    count: int, augment: bool, backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datamodules.base.FEW_IMAGES", 100)
    cfg = configure("train", tmp_path, *options(f"model.weights={backbone}", f"data.limit_train={count}"))
    assert settings_of(prepared(cfg))["data"]["augment"] is augment


def test_views_of_few_images_train_a_unit_and_are_written_down(
    backbone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = options(f"model.weights={backbone}", "data.limit_train=64")
    (path,) = train(configure("train", tmp_path, *given))
    said = " ".join(capsys.readouterr().out.split())
    assert "training takes 4 random views of each" in said and "Caching features in memory: 296 rows" in said
    assert {"augment": True, "views": 4, "held_back": 200}.items() <= read_info(path).training["data"].items()
    assert train(configure("train", tmp_path, *given)) == {}  # finished with these very settings
    assert train(configure("train", tmp_path, *given, "data.augment=true", "data.views=4")) == {}


def test_training_a_backbone_is_not_augmented_unasked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(configure("train", tmp_path, *options("stage=backbone", "backbone.epochs=1", "data.limit_train=64")))
    assert "random views" not in capsys.readouterr().out
