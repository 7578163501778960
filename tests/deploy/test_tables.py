"""What a bundle's `tables.json` holds comes back as it was, for every kind of tables; and damage is refused."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from bottlenecks.coding.coder import Coder
from bottlenecks.coding.framing import Framing, FramingBase, JointFraming
from bottlenecks.coding.scale_coder import ScaleCoder
from bottlenecks.coding.scale_framing import ScaleFraming
from bottlenecks.deploy.tables import framing_from_json, framing_to_json
from tests.coding.test_scale_tables import laplacians

FEATURES = [(16, 8, 8), (32, 4, 4)]
SCALES = [np.arange(-8, 24).reshape(2, 4, 4), np.full((3, 2, 2), 16)]
LATENTS = [one.shape for one in SCALES]


def with_channels(index: int) -> Framing:
    """One table a channel, for one of the tensors."""
    (channels, *size), (_, *sides) = LATENTS[index], FEATURES[index]
    return Framing(Coder(laplacians(range(1, channels + 1)).tables), tuple(sides), lambda _: tuple(size))


def with_scales(count: int) -> ScaleFraming:
    sizes = tuple((height, width) for _, height, width in FEATURES[:count])
    size = sizes if count > 1 else sizes[0]
    return ScaleFraming(ScaleCoder(laplacians([0, 2], first=2)), size, lambda _: SCALES[:count], b"ab")


KINDS: dict[str, tuple[FramingBase[Any], int]] = {
    "a table a channel": (with_channels(0), 1),
    "the same of two tensors": (JointFraming([with_channels(0), with_channels(1)]), 2),
    "scales": (with_scales(1), 1),
    "scales of two tensors": (with_scales(2), 2),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_framing_comes_back(kind: str) -> None:
    framing, count = KINDS[kind]
    assert framing.latent_shapes == tuple(LATENTS[:count])
    read = framing_from_json(framing_to_json(framing), FEATURES[:count], LATENTS[:count], framing.fingerprint)
    assert (read.fingerprint, read.size) == (framing.fingerprint, framing.size)
    assert read.latent_shapes == framing.latent_shapes
    rng = np.random.default_rng(0)
    symbols = tuple(rng.integers(-40, 40, shape) * (shape[0] == 3) for shape in LATENTS[:count])
    stream = framing.write(symbols if count > 1 else symbols[0], framing.size)
    assert read.write(symbols if count > 1 else symbols[0], read.size) == stream
    decoded = read.read(stream).symbols
    assert all(map(np.array_equal, decoded if count > 1 else [decoded], symbols))


@pytest.mark.parametrize("kind", KINDS)
def test_another_number_of_tensors_is_refused(kind: str) -> None:
    framing, count = KINDS[kind]
    with pytest.raises(ValueError, match=r"shorter|longer|2 tensors cross|1 tensors cross"):
        framing_from_json(framing_to_json(framing), FEATURES[: 3 - count], LATENTS[: 3 - count], b"ab")


@pytest.mark.parametrize("text", ["", "[]", "3", "{}", '{"kind": "new"}', '{"counts": [[1]]}', '{"offsets": [0]}'])
def test_what_holds_no_tables_is_refused(text: str) -> None:
    with pytest.raises((ValueError, TypeError, KeyError)):
        framing_from_json(text, FEATURES[:1], LATENTS[:1], b"ab")


def test_a_file_says_its_kind() -> None:
    assert json.loads(framing_to_json(with_scales(1)))["kind"] == "scales"
    assert set(json.loads(framing_to_json(with_channels(0)))) == {"offsets", "counts"}
