"""Names of files and classes that are no UTF-8 go through every command."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bottlenecks.run import main as run_images
from bottlenecks.training.cache import MANIFEST
from evaluate import evaluate
from export import export
from tests.conftest import QUICK, TINY, configure, quiet
from train import train

CLASSES = (b"caf\xe9", "犬".encode())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images of two classes, all with names that no encoding has."""
    for number, name in enumerate(CLASSES):
        place = os.path.join(os.fsencode(tmp_path), b"data", name)
        os.makedirs(place)
        for index in range(16):
            pixels = np.random.default_rng([number, index]).integers(0, 256, (12, 16, 3)).astype(np.uint8)
            with open(os.path.join(place, b"%d\xff.png" % index), "wb") as file:
                Image.fromarray(pixels).save(file, "PNG")
    return tmp_path / "data"


@pytest.mark.slow
@pytest.mark.usefixtures("empty_graphs")
def test_every_command_takes_them(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = ["data=image_folder", f"data.root={folder}", "data.image_size=32", "data.num_workers=0", "data.held_back=8"]
    given = [*TINY, *data, "logger=none"]
    cached = ["training.cache_features=true", "training.cache_memory_gib=0", f"paths.cache={tmp_path / 'cache'}"]
    train(configure("train", tmp_path, *quiet([*given, *QUICK, "stage=backbone"])))
    (rate,) = train(configure("train", tmp_path, *quiet([*given, *QUICK, *cached, "lambda=0.01"])))
    assert len(list((tmp_path / "cache").rglob(MANIFEST))) == 2
    few = ["codecs=[unit,uniform]", "workers=0", "calibration_images=4"]
    curve = evaluate(configure("evaluate", tmp_path, *given, *few))
    assert curve.num_images == 6
    image = next((folder / os.fsdecode(CLASSES[0])).iterdir())
    capsys.readouterr()
    run_images([str(rate.parent), str(image), "--draw", str(tmp_path / "drawn")])
    assert r"caf\xe9" in capsys.readouterr().out
    export(configure("export", tmp_path, *given, f"out={tmp_path / 'dist'}"))
    (manifest,) = (tmp_path / "dist").rglob("manifest.json")
    assert json.loads(manifest.read_text())["class_names"] == [r"caf\xe9", "犬"]
