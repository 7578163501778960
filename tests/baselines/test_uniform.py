"""The quantiser of the first day."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

from bottlenecks.baselines.features import TensorCalibration
from bottlenecks.baselines.uniform import Uniform, from_levels, to_levels, uniform
from bottlenecks.coding.bitstream import BitstreamError, pack
from tests.baselines.conftest import receive, send


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("shape", [(3, 5, 7), (2, 4, 4)])
def test_inside_the_range_the_error_is_half_a_step(bits: int, shape: tuple[int, int, int]) -> None:
    features = np.random.default_rng(0).uniform(-1, 3, shape).astype(np.float32)
    codec = Uniform(shape, (-1.0, 3.0), bits)
    assert np.abs(receive(codec, send(codec, features)) - features).max() <= 4 / (2**bits - 1) / 2 + 1e-6


def test_levels_end_at_the_ends() -> None:
    ends = (0.0, 2.0)
    levels = to_levels(np.array([-1, 0, 0.99, 2, 9], np.float32), ends, 4)
    assert levels.tolist() == [0, 0, 7, 15, 15]
    assert from_levels(levels, ends, 4)[[0, -1]].tolist() == [0, 2]


def test_the_range_is_the_best_of_the_candidates(alone: TensorCalibration) -> None:
    four, eight = uniform(alone)
    assert four.ends[1] <= eight.ends[1] <= alone.features.max()


@pytest.mark.parametrize("payload", [b"", b"x", zlib.compress(bytes(47)), zlib.compress(bytes(48)) + b"x"])
def test_other_lengths_are_refused(payload: bytes) -> None:
    codec = Uniform((3, 4, 4), (0.0, 1.0), 8)
    with pytest.raises(BitstreamError, match="uniform"):
        receive(codec, pack(payload, codec.fingerprint))
