"""Frames of units with scale tables: bytes written down, every size and multiplier, and what is refused."""

from __future__ import annotations

import copy
import math
import random
import subprocess
import sys
import tracemalloc
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bottlenecks.coding import scale_framing
from bottlenecks.coding.bitstream import BitstreamError, pack, peek_fingerprint
from bottlenecks.coding.coder import SymbolTables
from bottlenecks.coding.escapes import INT32
from bottlenecks.coding.scale_coder import ScaleCoder
from bottlenecks.coding.scale_framing import OrderCache, ScaleFraming
from bottlenecks.coding.scale_tables import ScaleTables
from bottlenecks.shapes import Sizes
from tests.coding.test_scale_tables import laplacians
from tests.conftest import REPOSITORY
from tests.fuzzing import mutate

DOCUMENT = (REPOSITORY / "docs" / "bitstream.md").read_text()
EXAMPLE = ScaleTables(
    SymbolTables(
        np.array([[2000, 61000, 2000, 536, 0, 0], [3000, 9000, 40000, 9000, 3000, 1536]]),
        np.array([4, 6]),
        np.array([-1, -2]),
    )
)
FINGERPRINT = bytes.fromhex("c0de")
SIZE = ((4, 6),)
FAMILY = laplacians([0, 1, 1, 2, 4, 9, 20, 60])
OWN = np.array([[[16, 3]], [[9, 23]]])


def scales_of_one(sizes: Sizes) -> list[np.ndarray]:
    """Four channels of falling scale; only even heights."""
    (size,) = sizes
    if size[0] % 2:
        raise ValueError(f"height must be even, got {size[0]}")
    return [np.arange(60, -20, -20)[:, None, None] + np.arange(math.prod(size)).reshape(size) % 9]


def scales_of_two(size: Sizes) -> list[np.ndarray]:
    (first, second) = size
    return [np.full((1, *first), 9), np.full((1, *second), 16)]


def one_tensor(**settings: Any) -> ScaleFraming:
    """A framing of features of (4, 6)."""
    return ScaleFraming(ScaleCoder(FAMILY), SIZE, scales_of_one, b"ab", **{"max_scale": 3, **settings})


SMALL = ScaleFraming(ScaleCoder(EXAMPLE), ((1, 2),), lambda _: [OWN], FINGERPRINT)
RANGED = ScaleFraming(ScaleCoder(EXAMPLE), ((1, 2),), lambda _: [OWN], FINGERPRINT, ranged=True)
TWO = ScaleFraming(ScaleCoder(EXAMPLE), ((1, 2), (1, 1)), scales_of_two, FINGERPRINT, max_scale=2)
GOLDEN: dict[str, tuple[ScaleFraming, list[Any], Sizes, int]] = {
    "10 c0 de 02 e5 6a eb da": (SMALL, [[[[1, 0]], [[-1, 2]]]], ((1, 2),), 0),
    "10 c0 de 03 9c ac fe fd 54": (SMALL, [[[[-300, 0]], [[0, 1]]]], ((1, 2),), 0),
    "12 c0 de 85 02 cc 6d f7 4e": (RANGED, [[[[2, 1]], [[-1, 0]]]], ((1, 2),), 5),
    "11 c0 de 04 02 02 01 01 03 e6 67 f9 74 76": (TWO, [[[[0, 1], [7, 0]]], [[[2]]]], ((2, 2), (1, 1)), 0),
}


@pytest.mark.parametrize("frame", GOLDEN)
def test_golden_vectors(frame: str) -> None:
    framing, symbols, size, multiplier = GOLDEN[frame]
    assert framing.write([*map(np.array, symbols)], size, multiplier).hex(" ") == frame
    decoded = framing.read(bytes.fromhex(frame))
    assert ([one.tolist() for one in decoded.symbols], decoded.size, decoded.multiplier) == (symbols, size, multiplier)
    assert peek_fingerprint(bytes.fromhex(frame)) == FINGERPRINT
    assert f"    frame           {frame}\n" in DOCUMENT
    for name, value in (("scales", OWN), ("indices", EXAMPLE.indices(OWN)), ("indices", EXAMPLE.indices(OWN, 5))):
        assert f"    {name:16}{str(value.tolist())[1:-1]}" in DOCUMENT


@pytest.mark.parametrize("frame", GOLDEN)
def test_every_flipped_bit_every_cut_and_every_addition_is_refused(frame: str) -> None:
    framing, data = GOLDEN[frame][0], bytes.fromhex(frame)
    whole = int.from_bytes(data, "big")
    flipped = [(whole ^ 1 << bit).to_bytes(len(data), "big") for bit in range(8 * len(data))]
    for damaged in [*flipped, *(data[:end] for end in range(len(data))), data + b"\0", data + data, b"\x10" + data]:
        with pytest.raises(BitstreamError):
            framing.read(damaged)


@pytest.mark.parametrize("ranged", [False, True])
@pytest.mark.parametrize("size", [(4, 6), (2, 1), (6, 4), (12, 18), (2, 108)])
def test_features_of_any_size_round_trip(size: tuple[int, int], ranged: bool) -> None:
    framing, rng = one_tensor(ranged=ranged), np.random.default_rng(0)
    extremes = np.array([INT32.min, INT32.max])
    for multiplier in (-128, -9, 0, 1, 127) if ranged else (0,):
        framing.check_size((size,))
        coded = FAMILY.indices(scales_of_one((size,))[0], multiplier) > 0
        symbols = np.where(coded, rng.laplace(0, 4, coded.shape).astype(np.int32), 0)
        symbols[coded & (rng.random(coded.shape) < 0.1)] = rng.choice(extremes)
        decoded = framing.read(framing.write([symbols], (size,), multiplier))
        assert np.array_equal(*decoded.symbols, symbols)
        assert (decoded.size, decoded.multiplier) == ((size,), multiplier)


def test_two_tensors_are_told_apart_and_sizes_are_bounded_each() -> None:
    symbols = (np.array([[[0, 1]]]), np.array([[[-2]]]))
    first, second = TWO.read(TWO.write(symbols, TWO.size)).symbols
    assert first.tolist() == [[[0, 1]]] and second.tolist() == [[[-2]]]
    TWO.check_size(((2, 4), (2, 2)))
    for size in (((3, 3), (1, 1)), ((1, 1), (5, 1))):
        with pytest.raises(ValueError, match="more than 2 times as large"):
            TWO.check_size(size)
        shape = (*size[0], *size[1])
        with pytest.raises(BitstreamError, match=r"not one this unit's encoder writes|positions are allowed"):
            TWO.read(pack(b"", FINGERPRINT, shape))


@pytest.mark.parametrize("size", [(12, 19), (217, 1), (3, 4)])
def test_sizes_that_are_not_taken_are_refused(size: tuple[int, int]) -> None:
    framing = one_tensor()
    symbols = np.zeros((4, *size), dtype=np.int32)
    for refuse in (framing.check_size, framing.order, lambda size: framing.write([symbols], size)):
        with pytest.raises(ValueError, match=r"more than 3 times as large as|height must be even"):
            refuse((size,))
    with pytest.raises(BitstreamError, match=r"positions are allowed|height must be even"):
        framing.read(pack(b"", b"ab", size))


@pytest.mark.parametrize("shape", [(), (4,), (4, 6), (2, 2, 2), (2, 2, 2, 2)])
def test_shapes_that_no_encoder_states_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(BitstreamError, match=r"not one this unit's encoder writes|dimensions, 2 are allowed"):
        one_tensor().read(pack(b"", b"ab", shape))


def test_a_unit_of_one_size_refuses_all_others() -> None:
    framing = one_tensor(max_scale=1)
    with pytest.raises(ValueError, match="more than 1 times"):
        framing.check_size(((2, 2),))
    with pytest.raises(BitstreamError, match=r"not one this unit's encoder writes"):
        framing.read(pack(b"", b"ab", (2, 2)))


def test_multipliers_belong_to_units_that_take_any_rate() -> None:
    plain, ranged, symbols = one_tensor(), one_tensor(ranged=True), [np.zeros((4, 4, 6), dtype=np.int32)]
    with pytest.raises(BitstreamError, match="the frame has a multiplier, but this unit has one rate"):
        plain.read(ranged.write(symbols, SIZE, 3))
    with pytest.raises(BitstreamError, match="the frame has no multiplier, but this unit takes any rate"):
        ranged.read(plain.write(symbols, SIZE))
    with pytest.raises(ValueError, match="multiplier must be 0 for a unit of one rate, got 3"):
        plain.write(symbols, SIZE, 3)
    for multiplier in (-129, 128):
        with pytest.raises(ValueError, match=rf"multiplier must lie in -128..127, got {multiplier}"):
            ranged.write(symbols, SIZE, multiplier)
    with pytest.raises(BitstreamError, match="this stream is for the unit 6162, not for this one"):
        RANGED.read(ranged.write(symbols, SIZE, 3))


def attack(framing: ScaleFraming, count: int, seed: int) -> Counter[str]:
    """Decode mutated streams; count what became of them."""
    random_, rng, ends = random.Random(seed), np.random.default_rng(seed), Counter[str]()
    symbols = rng.laplace(0, 3, (20, 4, 4, 6)).astype(np.int32)
    ranged = framing.limits.ranged
    streams = [framing.write([one], SIZE, rng.integers(-20, 60) if ranged else 0) for one in symbols]
    for _ in range(count):
        try:
            decoded = framing.read(mutate(streams, random_))
        except BitstreamError as error:
            ends[str(error).split("(")[0].rstrip("0123456789, ")] += 1
            continue
        (latent,), (size,) = decoded.symbols, decoded.size
        assert latent.shape == (4, *size) and latent.dtype == np.int32
        assert math.prod(size) <= 9 * 24
        ends["decoded"] += 1
    return ends


@pytest.mark.parametrize("ranged", [False, True])
def test_mutated_streams_end_in_an_error_or_the_promised_shape(ranged: bool) -> None:
    framing = one_tensor(ranged=ranged)
    attack(framing, 200, seed=1)  # what is allocated once is there
    tracemalloc.start()
    ends = attack(framing, 4_000, seed=0)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 8 * 2**20
    assert ends["decoded"] > 150 and len(ends) > 12


def test_orders_are_kept_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Sizes] = []

    def scales(size: Sizes) -> list[np.ndarray]:
        made.append(size)
        return scales_of_one(size)

    monkeypatch.setattr(scale_framing, "MAX_PLACES", 200)
    framing = ScaleFraming(ScaleCoder(FAMILY), SIZE, scales, b"ab", max_scale=3)
    own = framing.order(SIZE)
    assert framing.order(SIZE) is own and made == [SIZE]
    framing.order(((12, 18),))  # more places than are kept at all
    assert framing.order(SIZE) is not own and made == [SIZE, ((12, 18),), SIZE]
    monkeypatch.setattr(scale_framing, "MAX_ORDERS", 2)
    cache, order = OrderCache(), framing.order(((2, 2),))
    for key in "abac":
        cache.get(key, lambda: order)
    fresh = framing.order(((2, 4),))
    assert cache.get("a", lambda: fresh) is order and cache.get("b", lambda: fresh) is fresh


def test_a_copy_writes_the_same_frames() -> None:
    framing, symbols = one_tensor(ranged=True), [np.ones((4, 4, 6), dtype=np.int32)]
    assert copy.deepcopy(framing).write(symbols, SIZE, 40) == framing.write(symbols, SIZE, 40)


def test_the_modules_import_no_torch() -> None:
    program = "import sys, bottlenecks.coding.scale_framing; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize("ranged", [False, True])
def test_a_frame_that_may_be_cut_is_read_without_its_end(ranged: bool) -> None:
    framing = one_tensor(ranged=ranged)
    symbols = [np.random.default_rng(0).integers(-9, 9, shape).astype(np.int32) for shape in framing.latent_shapes]
    (coded,) = framing.order(SIZE).coded
    whole = framing.write(symbols, SIZE, cuttable=True)
    header = len(whole) - len(framing.encode(symbols, SIZE))
    assert len(whole) == len(framing.write(symbols, SIZE)) and whole[0] & 0b0100
    assert np.array_equal(framing.read(whole).symbols[0], np.where(coded, symbols[0], 0))
    right = []
    for end in range(header, len(whole)):
        (found,) = framing.read(whole[:end]).symbols
        assert np.all((found == symbols[0]) | (found == 0))
        right.append(np.count_nonzero(found))
    assert right == sorted(right) and right[0] == 0 and right[-1] > 0.8 * np.count_nonzero(coded)


@pytest.mark.parametrize("place", range(6))
def test_damage_to_the_header_of_a_frame_that_may_be_cut_is_told(place: int) -> None:
    framing = one_tensor()
    whole = framing.write([np.ones(shape, np.int32) for shape in framing.latent_shapes], SIZE, cuttable=True)
    damaged = whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]
    for end in (place, len(whole) // 2, len(whole)):
        with pytest.raises(BitstreamError):
            framing.read(damaged[:end])


def test_other_frames_have_to_be_whole() -> None:
    frame = SMALL.write([np.array([[[1, 0]], [[-1, 2]]])], ((1, 2),))
    for end in range(len(frame)):
        with pytest.raises(BitstreamError):
            SMALL.read(frame[:end])


def test_units_whose_payloads_cannot_be_cut_neither_write_nor_read_such_frames() -> None:
    cuttable, framing = SMALL.write([np.array([[[1, 0]], [[-1, 2]]])], ((1, 2),), cuttable=True), copy.copy(SMALL)
    framing.limits = replace(SMALL.limits, cuts=False)
    with pytest.raises(ValueError, match="cuttable=True: payloads of this unit are worth nothing without their end"):
        framing.write([np.array([[[1, 0]], [[-1, 2]]])], ((1, 2),), cuttable=True)
    with pytest.raises(BitstreamError, match="payloads of this unit are worth nothing without theirs"):
        framing.read(cuttable)
