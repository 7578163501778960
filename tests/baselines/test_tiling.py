"""Channels in one image, and back."""

from __future__ import annotations

import numpy as np
import pytest

from bottlenecks.baselines.tiling import grid, tile, untile


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 5, 3), (7, 4, 4), (24, 4, 6), (112, 14, 14), (1024, 4, 4)])
def test_there_and_back(shape: tuple[int, int, int]) -> None:
    channels = np.random.default_rng(0).integers(0, 1024, shape).astype(np.uint16)
    mosaic = tile(channels)
    assert np.array_equal(untile(mosaic, shape), channels) and mosaic.dtype == channels.dtype
    larger = np.pad(mosaic, ((0, 3), (0, 2)))
    assert np.array_equal(untile(larger, shape), channels)


def test_mosaics_are_near_square_and_full_where_they_can_be() -> None:
    assert grid((1024, 4, 4)) == (32, 32)
    assert grid((112, 14, 14)) == (8, 14)
    assert grid((13, 4, 4)) in ((3, 5), (5, 3))


def test_channels_stand_row_by_row() -> None:
    mosaic = tile(np.arange(4, dtype=np.uint8)[:, None, None] * np.ones((4, 2, 2), np.uint8))
    assert mosaic.tolist() == [[0, 0, 1, 1]] * 2 + [[2, 2, 3, 3]] * 2
