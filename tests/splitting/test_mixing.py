"""Networks that mix the images of a batch are refused: answers would depend on who else asks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torchvision import models

import evaluate
import export
import train
from bottlenecks.errors import UsageError
from bottlenecks.splitting.cut import cut
from bottlenecks.splitting.mixing import is_mixed
from tests.conftest import TINY, quiet
from tests.networks import Mixing

HOW = ("mean", "statistics", "first", "pairs", "size", "statistics_behind", "dropout")
MESSAGE = "model=Mixing: what it makes of an image depends on the other images of the batch"


@pytest.mark.parametrize("how", HOW)
def test_a_network_that_mixes_images_is_not_cut(how: str) -> None:
    with pytest.raises(UsageError, match=MESSAGE):
        cut(Mixing(how=how).eval(), "body", torch.zeros(1, 3, 32, 32))


def test_a_network_that_mixes_images_is_not_trained(command: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    arguments = [*quiet(TINY), "model.factory._target_=tests.networks.Mixing"]
    paths = [f"paths.{name}={tmp_path / name}" for name in ("checkpoints", "results", "logs")]
    status, error = command(train.main, *arguments, *paths, "logger=none")
    assert status == 2 and MESSAGE in error and error.count("\n") == 1
    assert not list(tmp_path.rglob("*.safetensors"))


@pytest.mark.slow
@pytest.mark.parametrize("main", [evaluate.main, export.main], ids=["evaluate", "export"])
def test_a_network_that_mixes_images_is_neither_evaluated_nor_exported(
    main: Callable[[], None], command: Callable[..., tuple[int, str]], trained: Path, tmp_path: Path
) -> None:
    arguments = [*TINY, "model.factory._target_=tests.networks.Mixing", f"paths.checkpoints={trained / 'checkpoints'}"]
    paths = [f"paths.{name}={tmp_path / name}" for name in ("results", "logs")]
    status, error = command(main, *arguments, *paths, "logger=none")
    assert status == 2 and MESSAGE in error and error.count("\n") == 1


@pytest.mark.slow
def test_a_graph_that_mixes_images_is_not_exported(
    command: Callable[..., tuple[int, str]], trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bottlenecks.splitting.cut.refuse_mixing", lambda *_: None)
    how = ["model.factory._target_=tests.networks.Mixing", "+model.factory.how=statistics_behind"]
    paths = [f"paths.checkpoints={trained / 'checkpoints'}", f"paths.results={tmp_path}", f"out={tmp_path / 'dist'}"]
    status, error = command(
        export.main, *TINY, *how, *paths, f"paths.logs={tmp_path}", "logger=none", "data.limit_test=20"
    )
    assert status == 2 and "model=tiny: tail.onnx: what it makes of an image" in error
    assert not (tmp_path / "dist").exists()


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("vit_b_16", "swin_t")]


@pytest.mark.parametrize("name", ["resnet18", "googlenet", *SLOW])
def test_usual_networks_do_not_mix(name: str) -> None:
    options = {"googlenet": {"init_weights": False, "aux_logits": False}, "vit_b_16": {"image_size": 64}}
    network = models.get_model(name, weights=None, **options.get(name, {})).eval()
    assert not is_mixed(network, torch.randn(5, 3, 64, 64))


def test_a_cut_takes_no_numbers_from_the_global_generator() -> None:
    before = torch.random.get_rng_state()
    with pytest.raises(ValueError, match="depends on the other images"):
        cut(Mixing(), "body", torch.zeros(1, 3, 32, 32))
    expected = torch.random.get_rng_state()
    torch.random.set_rng_state(before)
    Mixing()
    assert torch.equal(torch.random.get_rng_state(), expected)
