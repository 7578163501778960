"""Small folders of pictures, and datamodules as the shipped configurations make them."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image

from bottlenecks.preprocessing import Preprocessing
from datamodules.base import PictureDataModule

CONFIGS = Path(__file__).parents[2] / "configs" / "data"


def write_pictures(folder: Path, count: int, suffix: str = ".png", side: int = 12) -> None:
    """Write pictures of noise, each different, named 0, 1, 2, ..."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        pixels = np.random.default_rng([crc32(str(folder).encode()), index]).integers(0, 256, (side, side + 4, 3))
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{index}{suffix}")


@pytest.fixture
def tree(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that makes folders of pictures from `{"train/cat": 5, ...}`."""

    def make(counts: Mapping[str, int], **options: Any) -> Path:
        for name, count in counts.items():
            write_pictures(tmp_path / name, count, **options)
        return tmp_path

    return make


@pytest.fixture
def load() -> Callable[..., PictureDataModule]:
    """Return a function that builds a datamodule from its shipped configuration, with small pictures."""

    def build(name: str, **overrides: Any) -> PictureDataModule:
        config = OmegaConf.create({"seed": 0, "data": OmegaConf.load(CONFIGS / f"{name}.yaml")})
        OmegaConf.set_struct(config, True)
        quick = {"num_workers": 0, "batch_size": 4} if name != "digits" else {}
        for key, value in {**quick, **overrides}.items():
            OmegaConf.update(config, f"data.{key}", value, force_add=False)
        datamodule = instantiate(config.data)
        datamodule.preprocessing = Preprocessing((8, 8), None, (0.5,) * 3, (0.5,) * 3)
        return datamodule

    return build
