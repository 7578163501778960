"""The layer that makes an encoder nonlinear."""

from __future__ import annotations

from typing import Any

import torch

from bottlenecks.units import TransformUnit
from bottlenecks.units.hidden import HiddenLayer
from bottlenecks.units.transform_part import TransformPart

PART: dict[str, Any] = {
    "feature_shape": (8, 2, 2),
    "structure": "joint",
    "rank": 6,
    "block": (2, 2),
    "restorer": 0,
    "nonnegative": False,
    "rounding": 0.5,
}


def test_it_begins_as_nothing() -> None:
    y = torch.randn(3, 6, 1, 1)
    assert torch.allclose(HiddenLayer(6, 10)(y), y)


def test_a_part_says_that_it_has_one_and_others_say_nothing_of_it() -> None:
    assert TransformPart(**PART, hidden=10).config()["hidden"] == 10
    assert "hidden" not in TransformPart(**PART).config()


def test_it_learns_with_noise_and_is_evaluated_with_rounding() -> None:
    torch.manual_seed(0)
    part, features = TransformPart(**PART, hidden=10), 4 * torch.randn(5, 8, 2, 2)
    y = part.encode(features).detach()
    noisy, _ = part.train().quantise(y, torch.Generator().manual_seed(1))
    assert 0.01 < float((noisy - y).abs().amax()) <= 0.5 and not torch.equal(noisy, noisy.round())
    whole, _ = part.eval().quantise(y)
    assert torch.equal(whole, whole.round())


def test_its_symbols_come_back_from_bytes() -> None:
    torch.manual_seed(0)
    unit, features = TransformUnit([{**PART, "hidden": 10}]), (4 * torch.randn(5, 8, 2, 2),)
    torch.nn.init.normal_(unit.parts[0].hidden.narrow.weight)  # type: ignore[union-attr]
    unit.finalise()
    streams = unit.compress(features)
    with torch.no_grad():
        assert torch.allclose(unit.decompress(streams)[0], unit(features).features_hat[0], atol=1e-5)
