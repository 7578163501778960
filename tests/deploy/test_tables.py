"""What a bundle's `tables.json` holds comes back as it was, for every kind of tables; and damage is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

from bottlenecks.coding.coder import Coder
from bottlenecks.coding.framing import Framing, FramingBase
from bottlenecks.coding.scale_coder import ScaleCoder
from bottlenecks.coding.scale_framing import ScaleFraming
from bottlenecks.deploy.tables import framing_from_json, framing_to_json
from bottlenecks.shapes import sizes_of
from tests.coding.test_scale_tables import laplacians

FEATURES = ((16, 8, 8), (32, 4, 4))
SCALES = [np.arange(-8, 24).reshape(2, 4, 4), np.full((3, 2, 2), 16)]
LATENTS = tuple(one.shape for one in SCALES)


def with_channels(count: int) -> Framing:
    """One table a channel."""
    coders = [Coder(laplacians(range(1, channels + 1)).tables) for channels, _, _ in LATENTS[:count]]
    return Framing(coders, sizes_of(FEATURES[:count]), lambda _: sizes_of(LATENTS[:count]))


def with_scales(count: int) -> ScaleFraming:
    coder = ScaleCoder(laplacians([0, 2], first=2))
    return ScaleFraming(coder, sizes_of(FEATURES[:count]), lambda _: SCALES[:count], b"ab")


KINDS: dict[str, tuple[FramingBase, int]] = {
    "a table a channel": (with_channels(1), 1),
    "the same of two tensors": (with_channels(2), 2),
    "scales": (with_scales(1), 1),
    "scales of two tensors": (with_scales(2), 2),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_framing_comes_back(kind: str) -> None:
    framing, count = KINDS[kind]
    assert framing.latent_shapes == LATENTS[:count]
    read = framing_from_json(framing_to_json(framing), FEATURES[:count], LATENTS[:count], framing.fingerprint)
    assert (read.fingerprint, read.size) == (framing.fingerprint, framing.size)
    assert read.latent_shapes == framing.latent_shapes
    rng = np.random.default_rng(0)
    symbols = tuple(rng.integers(-40, 40, shape) * (shape[0] == 3) for shape in LATENTS[:count])
    stream = framing.write(symbols, framing.size)
    assert read.write(symbols, read.size) == stream
    assert all(map(np.array_equal, read.read(stream).symbols, symbols))


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
    assert set(json.loads(framing_to_json(with_channels(1)))) == {"offsets", "counts"}
