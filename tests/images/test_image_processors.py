"""What image processors of transformers do, done by our preprocessing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_image

from bottlenecks.errors import UsageError
from bottlenecks.images.image_processors import from_processor
from bottlenecks.images.preprocessing import Preprocessing

SQUARE = {"height": 48, "width": 48}


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    return Image.fromarray(load_sample_image("china.jpg")).crop((10, 5, 410, 330))


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        ("ViTImageProcessor", {"size": {"height": 40, "width": 56}}),
        ("ViTImageProcessor", {"size": SQUARE, "rescale_factor": 1 / 127.5, "do_normalize": False}),
        ("ViTImageProcessor", {"size": SQUARE, "do_rescale": False, "resample": 3}),
        ("CLIPImageProcessor", {"size": {"shortest_edge": 50}, "crop_size": {"height": 47, "width": 37}}),
        ("BitImageProcessor", {"size": {"shortest_edge": 40}, "crop_size": {"height": 50, "width": 45}}),
        ("BitImageProcessor", {"do_resize": False, "crop_size": {"height": 64, "width": 64}}),
        ("ConvNextImageProcessor", {"size": {"shortest_edge": 56}}),
        ("ConvNextImageProcessor", {"size": {"shortest_edge": 384}}),
    ],
)
def test_is_within_a_255th_of_the_librarys_own(
    kind: str, given: dict[str, Any], photo: Image.Image, tmp_path: Path
) -> None:
    transformers = pytest.importorskip("transformers")
    processor = getattr(transformers, kind)(**given)
    processor.save_pretrained(tmp_path)
    values, _ = transformers.ImageProcessingMixin.get_image_processor_dict(tmp_path)
    ours, theirs = from_processor(values, "here"), processor(photo, return_tensors="np")["pixel_values"][0]
    pixels = (ours.to_array(photo) - theirs) * np.array(ours.std)[:, None, None] * 255
    assert np.abs(pixels).max() < 2.01 and np.abs(pixels).mean() < 0.02
    assert Preprocessing.from_dict(ours.to_dict()) == ours


def test_old_files_say_less() -> None:
    old = from_processor({"size": 224, "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "do_resize": True}, "here")
    assert (old.resize, old.crop, old.interpolation) == ((224, 224), None, "bilinear")
    short = from_processor({"size": 224, "default_to_square": False, "do_center_crop": True, "crop_size": 200}, "here")
    assert (short.resize, short.crop, short.mean, short.std) == (224, (200, 200), (0, 0, 0), (1, 1, 1))


@pytest.mark.parametrize(
    "given",
    [
        {"do_pad": True},
        {"do_flip_channel_order": True},
        {"max_num_patches": 256},
        {"size": {"shortest_edge": 800, "longest_edge": 1333}},
        {"size": None},
        {"image_processor_type": "LevitImageProcessor"},
    ],
)
def test_what_has_no_equal_is_refused_by_name(given: dict[str, Any]) -> None:
    ((name, _),) = given.items()
    with pytest.raises(UsageError, match=rf"^here: its image processor has {name}=.*data\.preprocessing"):
        from_processor({"size": 224, **given}, "here")
