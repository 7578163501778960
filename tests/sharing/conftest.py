"""A ladder that went through a folder, and the network that its owner has."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import bottlenecks as bn
from bottlenecks.push import main as push
from bottlenecks.tensor_files import read_safetensors
from tests.networks import Tiny


@pytest.fixture(scope="session")
def pushed(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trained ladder with its curve, pushed."""
    folder = tmp_path_factory.mktemp("pushed") / "tiny"
    push([str(trained / "checkpoints/tiny/body/digits"), str(folder), "--license", "apache-2.0"])
    return folder


@pytest.fixture(scope="session")
def owned(trained: Path) -> bn.CutNetwork:
    """The network of the ladder, as its owner hands it over."""
    model = Tiny()
    model.load_state_dict(read_safetensors(trained / "checkpoints/tiny/backbone/digits.safetensors")[0])
    return bn.cut(model, at="body", example=torch.zeros(1, 3, 32, 32))
