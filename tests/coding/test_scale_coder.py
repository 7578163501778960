"""The coder of scale tables against the decoder printed in docs/bitstream.md, hostile payloads, and a cut prefix."""

from __future__ import annotations

import copy
import math
import pickle
import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bottlenecks.coding.coder import TOTAL, Coder, ideal_bits
from bottlenecks.coding.escapes import INT32
from bottlenecks.coding.scale_coder import Order, ScaleCoder
from bottlenecks.coding.scale_tables import ScaleTables
from tests.coding.test_coder import documented, documented_tables
from tests.coding.test_scale_tables import laplacians

QUICK = settings(derandomize=True, max_examples=60, deadline=None)
SHAPES = st.lists(st.sampled_from([(1,), (2, 3), (3, 1, 2), (2, 2, 2)]), min_size=1, max_size=3)
FAMILY = laplacians([0, 1, 1, 2, 4, 9, 20, 60])

Arrays = list[np.ndarray]


@st.composite
def any_case(draw: st.DrawFn) -> tuple[ScaleTables, Arrays, Arrays, int]:
    """Tables, scales, symbols and a multiplier."""
    first, shapes = draw(st.integers(1, 4)), draw(SHAPES)
    tables = laplacians(draw(st.lists(st.sampled_from([0, 1, 2, 5]), min_size=1, max_size=4)), first)
    values = st.integers(-7, 7) | st.sampled_from([INT32.min, INT32.max]) | st.integers(INT32.min, INT32.max)

    def arrays(elements: st.SearchStrategy[int], dtype: type) -> Arrays:
        sizes = [math.prod(shape) for shape in shapes]
        drawn = [draw(st.lists(elements, min_size=size, max_size=size)) for size in sizes]
        return [np.array(one, dtype=dtype).reshape(shape) for one, shape in zip(drawn, shapes, strict=True)]

    return tables, arrays(st.integers(-20, 80), np.int16), arrays(values, np.int32), draw(st.integers(-30, 30))


def coded_alone(symbols: Arrays, scales: Arrays, tables: ScaleTables, multiplier: int) -> Arrays:
    """What is left of symbols at a decoder: zero where nothing is coded."""
    pairs = zip(symbols, scales, strict=True)
    return [np.where(tables.indices(one, multiplier) > 0, own, 0) for own, one in pairs]


def documented_decode(payload: bytes, tables: ScaleTables, scales: Arrays, multiplier: int) -> list[int]:
    counts = [own for _, own in documented_tables(tables.tables)]
    flat = np.concatenate([one.ravel() for one in scales]).tolist()
    return documented["decode_scaled"](payload, counts, tables.first, flat, multiplier)


def drawn(scales: np.ndarray, tables: ScaleTables, rng: np.random.Generator) -> np.ndarray:
    """Symbols that follow their tables, without escapes."""
    symbols, rows = np.zeros(scales.shape, dtype=np.int32), tables.indices(scales).astype(int) - tables.first
    for row, (offset, counts) in enumerate(documented_tables(tables.tables)):
        listed = np.array(counts[:-1]) / sum(counts[:-1])
        symbols[rows == row] = offset + rng.choice(len(listed), size=(rows == row).sum(), p=listed)
    return symbols


@QUICK
@given(any_case())
def test_round_trip_here_and_in_the_documented_decoder(case: tuple[ScaleTables, Arrays, Arrays, int]) -> None:
    tables, scales, symbols, multiplier = case
    coder = ScaleCoder(tables)
    order = coder.order(scales, multiplier)
    payload = coder.encode(symbols, order)
    decoded, expected = coder.decode(payload, order), coded_alone(symbols, scales, tables, multiplier)
    assert all(one.dtype == np.int32 for one in decoded)
    assert [one.tolist() for one in decoded] == [one.tolist() for one in expected]
    flat = [value for one in expected for value in one.ravel().tolist()]
    assert documented_decode(payload, tables, scales, multiplier) == flat


@QUICK
@given(any_case())
def test_bits_are_those_of_a_table_a_channel(case: tuple[ScaleTables, Arrays, Arrays, int]) -> None:
    tables, scales, symbols, multiplier = case
    coder, expected = ScaleCoder(tables), 0.0
    order = coder.order(scales, multiplier)
    indices = np.concatenate([tables.indices(one, multiplier).ravel() for one in scales]).astype(int)
    flat = np.concatenate([one.ravel() for one in symbols])
    for row in range(tables.tables.num_channels):
        own = flat[indices == tables.first + row]
        rows = np.zeros((tables.tables.num_channels, own.size), dtype=np.int32)
        rows[row] = own
        if own.size:
            zeros = rows.copy()
            zeros[row] = 0
            centre = tables.tables.frequencies[row, -tables.tables.offsets[row]]
            zero_bits = -own.size * math.log2(centre / TOTAL)
            expected += ideal_bits(rows, tables.tables) - ideal_bits(zeros, tables.tables) + zero_bits
    assert coder.ideal_bits(symbols, order) == pytest.approx(expected)
    assert len(coder.encode(symbols, order)) < expected / 8 + 2


def test_one_table_for_all_elements_gives_the_bytes_of_a_table_a_channel() -> None:
    tables, rng = laplacians([3]), np.random.default_rng(0)
    symbols = rng.laplace(0, 3, (1, 9, 9)).astype(np.int32)
    coder = ScaleCoder(tables)
    assert coder.encode([symbols], coder.order([np.full((1, 9, 9), 8)])) == Coder(tables.tables).encode(symbols)


def test_elements_come_by_falling_table_then_by_place() -> None:
    coder = ScaleCoder(laplacians([0, 1, 2]))
    order = coder.order([np.array([[8, 25], [0, 16]]), np.array([17, 7, 200])])
    assert order.places.tolist() == [1, 6, 3, 4, 0]
    assert order.runs == ((2, 0, 2), (1, 2, 4), (0, 4, 5))
    assert order.shapes == ((2, 2), (3,)) and order.num_elements == 7


@pytest.mark.parametrize("share_of_escapes", [0, 0.02])
def test_the_start_of_a_payload_holds_the_widest_tables(share_of_escapes: float) -> None:
    coder, rng = ScaleCoder(FAMILY), np.random.default_rng(0)
    scales = rng.integers(0, 72, (16, 9, 9))
    symbols = drawn(scales, FAMILY, rng)
    symbols[rng.random(symbols.shape) < share_of_escapes] = 1000
    order = coder.order([scales])
    payload = coder.encode([symbols], order)
    assert order.rows.tolist() == [7, 6, 5, 4, 3, 2, 1, 0]
    for num_tables in range(1, 9):
        rows, counts = order.rows[:num_tables], order.counts[:num_tables]
        of_each = (own[: counts.sum()] for own in (order.offsets, order.escapes))
        widest = Order(order.shapes, order.places[: counts.sum()], rows, counts, *of_each)
        cut = payload[: math.ceil(coder.ideal_bits([symbols], widest) / 8) + 8]  # a decoder looks 8 bytes ahead
        expected = np.where(FAMILY.indices(scales) > 8 - num_tables, symbols, 0)
        assert np.array_equal(coder.decode(cut, widest)[0], expected)
        assert num_tables > 4 or len(cut) < len(payload) - 20


def test_where_no_table_is_in_use_the_payload_is_empty() -> None:
    coder = ScaleCoder(FAMILY)
    order = coder.order([np.full((2, 3), 7), np.full(4, -100)])
    assert coder.encode([np.full((2, 3), 5), np.arange(4)], order) == b""
    assert coder.ideal_bits([np.full((2, 3), 5), np.arange(4)], order) == 0
    for payload in (b"", b"\xff" * 9):
        assert [one.any() for one in coder.decode(payload, order)] == [False, False]


def test_latents_of_escapes_alone_round_trip() -> None:
    coder, rng = ScaleCoder(FAMILY), np.random.default_rng(0)
    order = coder.order([rng.integers(8, 72, (64, 14, 14))])
    symbols = rng.integers(INT32.min, INT32.max, (64, 14, 14), endpoint=True)
    assert np.array_equal(coder.decode(coder.encode([symbols], order), order)[0], symbols)


def test_overhead_is_below_two_bytes() -> None:
    coder, rng = ScaleCoder(FAMILY), np.random.default_rng(0)
    for _ in range(200):
        scales = rng.integers(-40, 72, (6, 2, 2))
        symbols, order = drawn(scales, FAMILY, rng), coder.order([scales])
        assert len(coder.encode([symbols], order)) < coder.ideal_bits([symbols], order) / 8 + 2


def test_layout_and_dtype_of_arrays_do_not_matter() -> None:
    coder, rng = ScaleCoder(FAMILY), np.random.default_rng(0)
    scales, symbols = rng.integers(0, 72, (4, 5, 6)), rng.integers(-9, 9, (4, 5, 6))
    payload = coder.encode([symbols], coder.order([scales]))
    order = coder.order([np.asfortranarray(scales)])
    for same in (symbols.astype(np.int8), np.asfortranarray(symbols), np.repeat(symbols, 2, axis=2)[..., ::2]):
        assert coder.encode([same], order) == payload


def test_threads_and_copies_code_alike() -> None:
    coder, rng = ScaleCoder(FAMILY), np.random.default_rng(0)
    scales = rng.integers(8, 72, (8, 6, 6))
    order = coder.order([scales])
    latents = [rng.integers(-30, 30, scales.shape) for _ in range(40)]
    with ThreadPoolExecutor(4) as pool:
        decoded = list(pool.map(lambda one: coder.decode(coder.encode([one], order), order)[0], latents))
    assert np.array_equal(decoded, latents)
    for copied in (copy.deepcopy(coder), pickle.loads(pickle.dumps(coder))):
        assert copied.encode([latents[0]], copied.order([scales])) == coder.encode([latents[0]], order)


@QUICK
@given(any_case(), st.integers(1, 9))
def test_zero_bytes_at_the_end_are_refused(case: tuple, num_zeros: int) -> None:
    tables, scales, symbols, multiplier = case
    coder = ScaleCoder(tables)
    order = coder.order(scales, multiplier)
    with pytest.raises(ValueError, match="ends in a zero byte"):
        coder.decode(coder.encode(symbols, order) + bytes(num_zeros), order)


@QUICK
@given(any_case(), st.binary(max_size=40))
def test_garbage_ends_in_an_error_or_the_promised_shapes(case: tuple, payload: bytes) -> None:
    tables, scales, _, multiplier = case
    coder = ScaleCoder(tables)
    try:
        decoded = coder.decode(payload, coder.order(scales, multiplier))
    except ValueError as error:
        assert re.search("not valid for these tables|escaped value outside of int32|ends in a zero byte", str(error))
        with pytest.raises(ValueError, match="no encoder writes this"):
            documented_decode(payload, tables, scales, multiplier)
    else:
        assert [one.shape for one in decoded] == [one.shape for one in scales]
        flat = [value for one in decoded for value in one.ravel().tolist()]
        assert documented_decode(payload, tables, scales, multiplier) == flat


@pytest.mark.parametrize(
    ("symbols", "message"),
    [
        ([np.zeros((2, 3))], "symbols must be integers, got float64"),
        ([np.zeros((3, 2), int)], r"symbols must have the shapes \(\(2, 3\),\), got \(\(3, 2\),\)"),
        ([np.zeros((2, 3), int)] * 2, r"symbols must have the shapes \(\(2, 3\),\), got"),
        ([np.full((2, 3), 2**31)], r"within int32, got 2147483648..2147483648"),
    ],
)
def test_symbols_that_do_not_fit_are_refused(symbols: Arrays, message: str) -> None:
    coder = ScaleCoder(FAMILY)
    order = coder.order([np.full((2, 3), 9)])
    with pytest.raises(ValueError, match=message):
        coder.encode(symbols, order)
    with pytest.raises(ValueError, match=message):
        coder.ideal_bits(symbols, order)


@QUICK
@given(any_case())
def test_a_payload_without_its_end_gives_what_is_certain_of_it(case: tuple[ScaleTables, Arrays, Arrays, int]) -> None:
    tables, scales, symbols, multiplier = case
    coder = ScaleCoder(tables)
    order = coder.order(scales, multiplier)
    payload = coder.encode(symbols, order)
    expected = np.concatenate([one.ravel() for one in coded_alone(symbols, scales, tables, multiplier)])[order.places]
    certain = 0
    for end in range(len(payload) + 1):
        decoded = coder.decode_cut(payload[:end], order)
        found = np.concatenate([one.ravel() for one in decoded])
        assert np.count_nonzero(found) == np.count_nonzero(found[order.places])
        wrong = (found[order.places] != expected) & (found[order.places] != 0)
        assert not wrong.any()
        (different,) = np.nonzero(found[order.places] != expected)
        so_far = different[0] if len(different) else len(expected)
        assert so_far >= certain
        certain = so_far


def test_most_of_a_payload_gives_most_of_its_symbols() -> None:
    rng = np.random.default_rng(0)
    scales = rng.integers(8, 63, (16, 8, 8)).astype(np.int16)
    symbols, coder = drawn(scales, FAMILY, rng), ScaleCoder(FAMILY)
    order = coder.order([scales])
    payload = coder.encode([symbols], order)
    kept = [coder.decode_cut(payload[: round(share * len(payload))], order)[0] for share in (0.25, 0.5, 0.75, 1)]
    errors = [np.square(one - symbols).sum() for one in kept]
    assert errors == sorted(errors, reverse=True) and errors[1] < 0.3 * np.square(symbols).sum()
    assert errors[3] <= 0.01 * errors[0]
