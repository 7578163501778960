"""Small folders of images, and datamodules as the shipped configurations make them."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image

from bottlenecks.images.preprocessing import Preprocessing
from datamodules.base import ImageDataModule

CONFIGS = Path(__file__).parents[2] / "configs" / "data"


def write_images(folder: Path, count: int, suffix: str = ".png", side: int = 12) -> None:
    """Write images of noise, each different, named 0, 1, 2, ..."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        pixels = np.random.default_rng([crc32(str(folder).encode()), index]).integers(0, 256, (side, side + 4, 3))
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{index}{suffix}")


@pytest.fixture
def tree(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that makes folders of images from `{"train/cat": 5, ...}`."""

    def make(counts: Mapping[str, int], **options: Any) -> Path:
        for name, count in counts.items():
            write_images(tmp_path / name, count, **options)
        return tmp_path

    return make


@pytest.fixture
def load() -> Callable[..., ImageDataModule]:
    """Return a function that builds a datamodule from its shipped configuration, with small images."""

    def build(name: str, **overrides: Any) -> ImageDataModule:
        config = OmegaConf.create({"seed": 0, "data": OmegaConf.load(CONFIGS / f"{name}.yaml")})
        OmegaConf.set_struct(config, True)
        quick = {"num_workers": 0, "batch_size": 4} if name != "digits" else {}
        for key, value in {**quick, **overrides}.items():
            OmegaConf.update(config, f"data.{key}", value, force_add=False)
        datamodule = instantiate(config.data)
        datamodule.preprocessing = Preprocessing((8, 8), None, (0.5,) * 3, (0.5,) * 3)
        return datamodule

    return build


def write_mask(path: Path, labels: Any) -> None:
    """Write a mask of class numbers, grey."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(labels, dtype=np.uint8)).save(path)


def write_xml(path: Path, *objects: tuple[str, Any, Any, Any, Any], difficult: object = 0) -> None:
    """Write an annotation as Pascal VOC has it; `difficult` marks the last object."""
    path.parent.mkdir(parents=True, exist_ok=True)
    entries = [
        f"<object><name>{name}</name><difficult>{difficult if index == len(objects) - 1 else 0}</difficult><bndbox>"
        f"<xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
        for index, (name, x1, y1, x2, y2) in enumerate(objects)
    ]
    path.write_text(f"<annotation>{''.join(entries)}</annotation>")


def write_coco(root: Path, part: str, entries: list[dict[str, Any]], count: int = 4, **changes: Any) -> None:
    """Write images of 16x12 and a file of COCO's kind with `entries`, given ids, for them."""
    write_images(root / part, count, ".jpg")
    content = {
        "images": [{"id": 10 + n, "file_name": f"{n}.jpg", "width": 16, "height": 12} for n in range(count)],
        "categories": [{"id": 1, "name": "person"}, {"id": 13, "name": "stop sign"}, {"id": 90, "name": "toothbrush"}],
        "annotations": [{"id": index, "iscrowd": 0, **entry} for index, entry in enumerate(entries)],
        **changes,
    }
    (root / "annotations").mkdir(exist_ok=True)
    (root / "annotations" / f"instances_{part}.json").write_text(json.dumps(content))
