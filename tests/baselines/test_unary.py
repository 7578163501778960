"""The coders of indices: round trips, rates against the entropy, bytes written down, and a bin at a time."""

import pickle

import numpy as np
import pytest
from constriction import stream
from hypothesis import given, settings
from hypothesis import strategies as st

from bottlenecks.baselines.lightweight.unary import AdaptiveUnary, IndexCoder, StaticTable
from bottlenecks.coding.coder import TOTAL, seal

QUICK = settings(derandomize=True, max_examples=50, deadline=None)


def draw_indices(num_levels: int, count: int, seed: int = 0) -> np.ndarray:
    return np.minimum(np.random.default_rng(seed).geometric(0.6, count) - 1, num_levels - 1)


def entropy(indices: np.ndarray) -> float:
    """Bits an element, of the shares that the indices have."""
    shares = np.unique(indices, return_counts=True)[1] / len(indices)
    return float(-(shares * np.log2(shares)).sum())


def bits_an_element(coder: IndexCoder, indices: np.ndarray) -> float:
    return 8 * len(coder.encode(indices)) / len(indices)


def bit_by_bit(indices: list[int], num_levels: int) -> bytes:
    """The adaptive coder again, written out: one bin a call, blocks and counts by their definition."""
    encoder, start, size = stream.queue.RangeEncoder(), 0, 16
    zeros, ones = [0] * num_levels, [0] * num_levels
    while start < len(indices):
        block = indices[start : start + size]
        for position in range(num_levels - 1):
            bins = [int(index > position) for index in block if index >= position]
            probability = (ones[position] + 0.5) / (zeros[position] + ones[position] + 1)
            for one in bins:
                encoder.encode(one, stream.model.Bernoulli(probability, perfect=False))
            ones[position] += sum(bins)
            zeros[position] += len(bins) - sum(bins)
            if zeros[position] + ones[position] > 2**14:
                zeros[position], ones[position] = zeros[position] // 2, ones[position] // 2
        start += size
        size = min(start, 1024)
    return seal(encoder)


@st.composite
def any_case(draw: st.DrawFn) -> tuple[int, np.ndarray]:
    num_levels = draw(st.integers(2, 9) | st.just(256))
    few = st.lists(st.integers(0, num_levels - 1), max_size=80)
    runs = st.tuples(st.integers(0, num_levels - 1), st.integers(0, 1500)).map(lambda run: [run[0]] * run[1])
    return num_levels, np.array(draw(few) + draw(runs) + draw(few), dtype=np.int64)


@QUICK
@given(any_case())
def test_adaptive_round_trip(case):
    num_levels, indices = case
    coder = AdaptiveUnary(num_levels)
    decoded = coder.decode(coder.encode(indices), len(indices))
    assert np.array_equal(decoded, indices)
    assert decoded.dtype == np.int32


@QUICK
@given(any_case(), st.integers(0, 2**32 - 1))
def test_static_round_trip(case, seed):
    num_levels, indices = case
    counts = np.random.default_rng(seed).integers(0, 10 ** np.arange(num_levels).clip(max=9), endpoint=True)
    counts[0] = 1
    coder = StaticTable(counts)
    assert np.array_equal(coder.decode(coder.encode(indices), len(indices)), indices)


@pytest.mark.parametrize("num_levels", [2, 3, 5, 8])
@pytest.mark.parametrize("count", [0, 1, 16, 17, 100, 3000, 40000])
def test_adaptive_bytes_are_those_of_the_definition(num_levels, count):
    indices = draw_indices(num_levels, count, seed=count)
    assert AdaptiveUnary(num_levels).encode(indices) == bit_by_bit(indices.tolist(), num_levels)


def test_golden_bytes():
    indices = np.array([0, 3, 1, 0, 2, 0, 0, 1, 3, 0, 1, 0, 2, 0, 0, 0, 1, 1, 0, 0])
    assert AdaptiveUnary(4).encode(indices).hex() == "69a8ab5a"
    assert StaticTable(np.array([10, 6, 3, 1])).encode(indices).hex() == "7d99a4f677"


@pytest.mark.parametrize("num_levels", [2, 4, 8])
def test_large_tensors_cost_their_entropy(num_levels):
    indices = draw_indices(num_levels, 100_000)
    static = StaticTable(np.bincount(indices))
    assert bits_an_element(AdaptiveUnary(num_levels), indices) == pytest.approx(entropy(indices), rel=2e-3)
    assert bits_an_element(static, indices) == pytest.approx(entropy(indices), rel=2e-4)


@pytest.mark.parametrize("num_levels", [2, 4, 8])
def test_small_tensors_lose_half_a_byte_a_context_or_so(num_levels):
    excess = []
    for seed in range(100):
        indices = draw_indices(num_levels, 512, seed)
        excess.append(len(AdaptiveUnary(num_levels).encode(indices)) - 512 * entropy(indices) / 8)
    assert 0 < np.mean(excess) < 2 + 0.75 * (num_levels - 1)


def test_contexts_follow_what_changes():
    indices = np.concatenate([np.zeros(50_000, dtype=int), np.full(50_000, 3)])
    assert entropy(indices) == 1
    assert bits_an_element(AdaptiveUnary(4), indices) < 0.4


def test_blocks_that_grow_beat_one_large_first_block():
    indices = np.zeros(1024, dtype=int)
    assert len(AdaptiveUnary(2).encode(indices)) < 16  # 128 with even odds for all of them


@pytest.mark.parametrize("counts", [[1, 0], [0, 0, 7], [10**12, 1, 3], list(range(256))])
def test_tables_are_whole_and_leave_no_index_out(counts):
    table = StaticTable(np.array(counts)).table
    assert table.sum() == TOTAL
    assert table.min() >= 1
    assert table / TOTAL == pytest.approx(np.array(counts) / sum(counts), abs=len(counts) / TOTAL)


def test_both_are_pickled():
    indices = draw_indices(4, 1000)
    for coder in (AdaptiveUnary(4), StaticTable(np.array([5, 3, 1, 1]))):
        payload = coder.encode(indices)
        assert np.array_equal(pickle.loads(pickle.dumps(coder)).decode(payload, 1000), indices)


@pytest.mark.parametrize("coder", [AdaptiveUnary(4), StaticTable(np.array([5, 3, 1, 1]))])
def test_what_no_encoder_writes(coder):
    with pytest.raises(ValueError, match="the payload is not valid for these indices"):
        coder.decode(b"\xff" * 8, 10)
    with pytest.raises(ValueError, match="ends in a zero byte"):
        coder.decode(coder.encode(draw_indices(4, 100)) + b"\0", 100)
    with pytest.raises(ValueError, match="count must be 0 or more, got -1"):
        coder.decode(b"", -1)


@QUICK
@given(st.binary(max_size=40), st.integers(0, 200))
def test_any_bytes_end_in_indices_or_a_value_error(payload, count):
    for coder in (AdaptiveUnary(5), StaticTable(np.array([50, 1, 0, 7, 3]))):
        try:
            indices = coder.decode(payload, count)
        except ValueError:
            continue
        assert indices.shape == (count,)
        assert ((indices >= 0) & (indices < 5)).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: AdaptiveUnary(1), "num_levels must lie in 2..256, got 1"),
        (lambda: AdaptiveUnary(257), "num_levels must lie in 2..256, got 257"),
        (lambda: AdaptiveUnary(4).encode(np.array([0, 4])), "indices must lie in 0..3, got 0..4"),
        (lambda: AdaptiveUnary(4).encode(np.array([-1, 3])), "indices must lie in 0..3, got -1..3"),
        (lambda: AdaptiveUnary(4).encode(np.array([0.0])), "indices must be integers in 1-D, got float64 in 1-D"),
        (lambda: AdaptiveUnary(4).encode(np.zeros((2, 2), int)), "integers in 1-D, got int64 in 2-D"),
        (lambda: StaticTable(np.array([3])), "num_levels must lie in 2..256, got 1"),
        (lambda: StaticTable(np.array([0, 0])), "integers of 0 or more in 1-D, one of them above 0"),
        (lambda: StaticTable(np.array([1, -1])), "integers of 0 or more in 1-D, one of them above 0"),
        (lambda: StaticTable(np.array([1.0, 2.0])), "integers of 0 or more in 1-D, one of them above 0"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
