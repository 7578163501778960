"""Messages name what is wrong, and a way out that works."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from torch import nn

import train
from bottlenecks.backbones.architecture import build_network
from bottlenecks.errors import UsageError, quoted
from bottlenecks.settings.model import BackboneSpec
from bottlenecks.splitting.cut import cut
from tests.conftest import TINY, quiet
from tests.networks import Tiny

ODD = ("a=b", "a(1)", "a[1]", "it's", 'say "a"', "a{b}", "ä/ü", "a b", "~/a", "a&b;c", r"a\b", "a,b", "a#b", "a${b}")


@pytest.mark.parametrize("value", ODD)
def test_what_is_quoted_is_read_as_it_is(value: str) -> None:
    (argument,) = shlex.split(quoted("data.root", value))
    read = OverridesParser.create().parse_override(argument).value()
    assert OmegaConf.create({"root": read}).root == value


@pytest.mark.parametrize("name", ["a=b", "a(1)", "a[1]", "it's", "a{b}", "ü"])
def test_a_path_that_cannot_be_read_comes_with_one_that_can(
    name: str, command: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    folder = tmp_path / name
    folder.mkdir()
    arguments = [*quiet(TINY), "data=pictures", "logger=none", f"paths.logs={tmp_path / 'logs'}"]
    status, error = command(train.main, *arguments, f"data.root={folder}")
    assert status == 2 and error.startswith(f"error: data.root={folder}: cannot be read") and error.count("\n") == 1
    (better,) = shlex.split(error.partition("quote it: ")[2])
    status, error = command(train.main, *arguments, better, "model.weights=/nowhere.pt")
    assert "model.weights=/nowhere.pt: no such file" in error


def test_weights_with_other_objects_inside_say_how_to_save_them_anew(
    command: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    torch.save(Tiny(), tmp_path / "whole.pt")
    arguments = [*quiet(TINY), f"model.weights={tmp_path / 'whole.pt'}", f"paths.logs={tmp_path}", "logger=none"]
    status, error = command(train.main, *arguments)
    assert status == 2 and "torch.save(network.state_dict(), FILE)" in error and error.count("\n") == 1


def halved() -> nn.Module:
    return Tiny().half()


def quantised() -> nn.Module:
    class Quantised(Tiny):
        def __init__(self) -> None:
            super().__init__()
            self.classifier = torch.ao.nn.quantized.Linear(32, 10)

    return Quantised()


def grey() -> nn.Module:
    network = Tiny()
    network.stem[0] = nn.Conv2d(1, 8, 3, stride=2, padding=1)
    return network


@pytest.mark.filterwarnings("ignore:.*(quantiz|deprecated|TypedStorage)")
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (halved, r"has weights of torch.float16, images are torch.float32; convert it with .float\(\)"),
        (quantised, "is quantised; give the network that it was made of"),
        (grey, "takes 1 channels, images have 3; give a network for these"),
        (lambda: torch.jit.script(Tiny()), "is scripted; give the network itself"),
        (lambda: torch.compile(Tiny()), "is compiled; give the network itself"),
    ],
    ids=["half", "quantised", "channels", "scripted", "compiled"],
)
def test_networks_that_cannot_be_cut_do_not_blame_the_size_of_images(
    make: Callable[[], nn.Module], message: str
) -> None:
    with pytest.raises(UsageError, match=message) as error:
        cut(make(), "body", torch.zeros(1, 3, 32, 32))
    assert "image_size" not in str(error.value)


def test_tagged_names_of_timm_are_known() -> None:
    pytest.importorskip("timm")
    assert build_network(BackboneSpec("resnet18.a1_in1k", library="timm"), 10)
    with pytest.raises(UsageError, match=re.escape("model.name=resnet18.a9_in1k: no such network in timm")):
        build_network(BackboneSpec("resnet18.a9_in1k", library="timm"))


def test_names_of_the_hub_say_where_they_belong_and_that_they_need_it(
    command: Callable[..., tuple[int, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("timm")
    arguments = [
        "model=timm",
        "split=layer2",
        "logger=none",
        *(f"paths.{one}={tmp_path}" for one in ("checkpoints", "logs")),
    ]
    status, error = command(train.main, *arguments, "model.name=hf-hub:timm/resnet18")
    assert status == 2 and "goes into model.architecture" in error
    arguments += ["model.name=r18", "model.architecture='hf-hub:timm/nothing-like-it'"]
    with monkeypatch.context() as odd:
        odd.setenv("ALL_PROXY", "ftp://x:1")
        status, error = command(train.main, *arguments)
        assert status == 2 and "cannot be fetched from the hub" in error and error.count("\n") == 1
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    status, error = command(train.main, *arguments)
    assert status == 2 and "cannot be fetched from the hub" in error and error.count("\n") == 1
