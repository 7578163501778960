"""Block transforms of an axis: orthonormal at every length, and frequencies on one scale."""

from __future__ import annotations

import pytest
import torch
from scipy.fft import dct

from bottlenecks.units.blocks import axis_transform, block_lengths, cosine_matrix

AXES = [(length, block) for length in (1, 2, 3, 7, 8, 13, 14, 15, 28, 33) for block in (1, 2, 3, 4, 7, 8, 16)]


@pytest.mark.parametrize(("length", "block"), AXES)
def test_blocks_are_as_few_and_as_equal_as_can_be(length: int, block: int) -> None:
    lengths = block_lengths(length, block)
    assert sum(lengths) == length and len(lengths) == -(-length // block)
    assert 1 <= min(lengths) <= max(lengths) <= block and max(lengths) - min(lengths) <= 1


@pytest.mark.parametrize(("length", "block"), AXES)
def test_every_axis_has_an_orthonormal_transform_that_stays_within_its_blocks(length: int, block: int) -> None:
    matrix, _ = axis_transform(length, block)
    assert torch.allclose(matrix @ matrix.T, torch.eye(length), atol=1e-6)
    inside = torch.block_diag(*(torch.ones(own, own) for own in block_lengths(length, block)))
    assert not (matrix * (1 - inside)).any()


@pytest.mark.parametrize("length", [1, 2, 5, 8, 14])
def test_the_rows_are_those_of_the_cosine_transform(length: int) -> None:
    signal = torch.randn(length, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.allclose(cosine_matrix(length) @ signal, torch.from_numpy(dct(signal.numpy(), norm="ortho")))


@pytest.mark.parametrize(("length", "block"), AXES)
def test_frequencies_count_on_the_scale_of_a_full_block(length: int, block: int) -> None:
    _, frequencies = axis_transform(length, block)
    start = 0
    for own in block_lengths(length, block):
        found = frequencies[start : start + own].tolist()
        assert found[0] == 0 and found == sorted(found) and found[-1] < block
        assert all(abs(number / block - place / own) <= 0.5 / block + 1e-9 for place, number in enumerate(found))
        if own == block:
            assert found == list(range(block))
        start += own


def test_a_short_block_looks_up_frequencies_by_their_share_of_the_full_one() -> None:
    assert axis_transform(6, 8)[1].tolist() == [0, 1, 3, 4, 5, 7]
    assert axis_transform(10, 4)[1].tolist() == [0, 1, 2, 3, 0, 1, 3, 0, 1, 3]
