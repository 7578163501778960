"""Curves made up with known properties, and records that belong to them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from bottlenecks.evaluation.curve import Curve
from bottlenecks.evaluation.record import Record

NUM_IMAGES = 500


def point(codec: str, num_bytes: float, accuracy: float, macs: int = 10**6, **others: object) -> dict:
    return {
        "codec": codec, "setting": f"{num_bytes:g}", "lambda": None, "payload_bytes": num_bytes,
        "bpp": num_bytes / 128, "bits_per_element": num_bytes / 64, "estimated_bpp": None, "accuracy": accuracy,
        "agreement": accuracy, "encode_ms": 1.0, "decode_ms": 1.0, "device_macs": macs, **others,
    }  # fmt: skip


@pytest.fixture
def make_curve() -> Callable[..., Curve]:
    """Make a curve of the contract's keys alone from (codec, bytes, accuracy) rows."""

    def make(*rows: tuple, split: str = "body", unsplit: float | None = 0.9, macs: int = 10**6) -> Curve:
        points = [point(*row, macs=macs) for row in rows]
        return Curve("tiny", split, "digits", NUM_IMAGES, [3, 32, 32], {split: [16, 8, 8]}, "accuracy", unsplit, points)

    return make


@pytest.fixture
def record_of() -> Callable[[Curve], Record]:
    """Make a record whose means are a curve's: the hardest images are lost first."""

    def make(curve: Curve) -> Record:
        difficulty = np.random.default_rng(0).permutation(NUM_IMAGES) / NUM_IMAGES
        noise = np.random.default_rng(1).normal(0, 0.1, NUM_IMAGES)
        sizes = np.array([point["payload_bytes"] * (1 + noise - noise.mean()) for point in curve.points])
        right = np.array([difficulty < point["accuracy"] for point in curve.points]).astype(float)
        labelled = np.ones_like(right)
        unsplit = np.stack([difficulty < curve.unsplit, np.ones(NUM_IMAGES)], 1).astype(float)
        names = [f"image-{index}" for index in range(NUM_IMAGES)]
        return Record(names, sizes, right, np.stack([right, labelled], 2), unsplit)

    return make


@pytest.fixture
def two(make_curve: Callable[..., Curve]) -> Curve:
    """Two codecs with the same accuracies, one at exactly half the bytes."""
    rates, values = (100, 200, 400, 800, 1600), (0.5, 0.7, 0.8, 0.86, 0.89)
    rows = [("full", rate, value) for rate, value in zip(rates, values, strict=True)]
    return make_curve(*rows, *(("half", rate / 2, value) for _, rate, value in rows))
