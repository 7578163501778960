"""Scale tables: which are refused, which table an element gets, and what their JSON says."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from bottlenecks.coding.coder import TOTAL, SymbolTables
from bottlenecks.coding.scale_tables import ScaleTables, from_json, to_json


def laplacians(widths: list[int], first: int = 1) -> ScaleTables:
    """Scale tables of the symbols -n to n for each n."""
    frequencies = np.zeros((len(widths), 2 * max(widths) + 2), dtype=np.int64)
    for row, n in zip(frequencies, widths, strict=True):
        row[: 2 * n + 1] = 1 + 40000 * np.exp(-np.abs(np.arange(-n, n + 1)) / (n + 0.3)) // (2 * n + 1)
        row[2 * n + 1] = 64
        row[n] += TOTAL - row.sum()
    lengths = 2 * np.array(widths) + 2
    return ScaleTables(SymbolTables(frequencies, lengths, -np.array(widths)), first)


def test_indices_follow_the_rule_in_whole_numbers() -> None:
    tables = laplacians([0, 1, 2], first=3)
    scales = np.array([[-900, 0, 23, 24, 31], [32, 39, 40, 47, 9000]], dtype=np.int16)
    assert tables.indices(scales).tolist() == [[0, 0, 0, 3, 3], [4, 4, 5, 5, 5]]
    assert tables.indices(scales, 1).tolist() == [[0, 0, 3, 3, 4], [4, 5, 5, 5, 5]]
    assert tables.indices(scales, -17).tolist() == [[0, 0, 0, 0, 0], [0, 0, 0, 3, 5]]
    assert tables.indices(np.array([32767], dtype=np.int16), 127).tolist() == [5]
    with pytest.raises(ValueError, match="scales must be integers, got float64"):
        tables.indices(np.zeros(3))


def test_tables_left_out_at_both_ends_change_no_index_in_use() -> None:
    whole, part = laplacians([0, 1, 2, 3, 5, 9]), laplacians([2, 3, 5], first=3)
    scales = np.concatenate([np.arange(-80, 8), np.arange(24, 48)])
    assert np.array_equal(whole.indices(scales), part.indices(scales))


@pytest.mark.parametrize(
    ("rows", "lengths", "offsets", "first", "message"),
    [
        ([[TOTAL - 1, 1]], [2], [0], 0, r"within 1..255, got 0..0"),
        ([[TOTAL - 1, 1]] * 2, [2, 2], [0, 0], 255, r"within 1..255, got 255..256"),
        ([[TOTAL - 1, 1]], [2], [1], 1, "symmetric about 0, with an escape behind; row 0 is not"),
        ([[1, TOTAL - 2, 1]], [3], [-1], 1, "symmetric about 0, with an escape behind; row 0 is not"),
        ([[TOTAL - 1, 1, 0, 0], [5, TOTAL - 12, 6, 1]], [2, 4], [0, -1], 1, "row 1 is not"),
    ],
)
def test_tables_that_break_a_rule_are_refused(rows: Any, lengths: Any, offsets: Any, first: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ScaleTables(SymbolTables(np.array(rows), np.array(lengths), np.array(offsets)), first)


def test_digests_tell_tables_apart() -> None:
    digests = {laplacians(widths, first).digest for widths in ([1, 2], [1, 3], [1]) for first in (1, 2)}
    assert len(digests) == 6
    assert laplacians([1, 2]).digest == laplacians([1, 2]).digest


def test_json_comes_back() -> None:
    tables, rng = laplacians([0, 1, 4, 30], first=7), np.random.default_rng(0)
    scales = [rng.integers(-(2**15), 2**15, (3, 5, 2)), rng.integers(0, 9, (2, 1, 1), dtype=np.uint8)]
    read, latents = from_json(to_json(tables, scales))
    assert read.digest == tables.digest and read.first == 7
    assert [one.shape for one in latents] == [(3, 5, 2), (2, 1, 1)]
    assert all(np.array_equal(*pair) and pair[0].dtype == np.int16 for pair in zip(latents, scales, strict=True))


def test_json_of_a_regular_latent_is_small() -> None:
    scales = np.repeat(np.arange(512), 196).reshape(512, 14, 14)
    assert len(to_json(laplacians([1]), [scales])) < scales.size // 25


@pytest.mark.parametrize("scales", [np.array([2**15]), np.array([-(2**15) - 1]), np.zeros(2), np.zeros(0, np.int16)])
def test_scales_that_16_bits_do_not_hold_are_not_written(scales: Any) -> None:
    with pytest.raises(ValueError, match="whole numbers of 16 bits"):
        to_json(laplacians([1]), [scales])


GOOD = json.loads(to_json(laplacians([1, 2]), [np.zeros((2, 3), dtype=np.int16)]))
SCALES = GOOD["latents"][0]["scales"]


@pytest.mark.parametrize(
    "damage",
    [
        *[{name: value} for name in GOOD for value in (None, 3.5, True, "x", [], [[]], [{}], {}, [None], [["x"]])],
        {"first": 0},
        {"first": 255},
        {"first": [1]},
        {"counts": [[TOTAL - 1], []]},
        {"counts": [[TOTAL]]},
        {"counts": [[-5, 5]]},
        {"counts": [[10, 2**40]]},
        {"counts": [[1] * (TOTAL // 2 + 1)]},
        {"more": 1},
        *[
            {"latents": [latent]}
            for latent in (
                {"shape": [2, 3]},
                {"shape": [2, 3], "scales": SCALES, "more": 1},
                {"shape": [2, 4], "scales": SCALES},
                {"shape": [2, 2], "scales": SCALES},
                {"shape": [], "scales": SCALES},
                {"shape": [2, 0], "scales": SCALES},
                {"shape": [-2, -3], "scales": SCALES},
                {"shape": [2, True], "scales": SCALES},
                {"shape": [2**20, 2**20], "scales": SCALES},
                {"shape": [2, 3], "scales": SCALES[:-4]},
                {"shape": [2, 3], "scales": "ä" + SCALES},
                {"shape": [2, 3], "scales": SCALES + "AAAA"},
                {"shape": [2, 3], "scales": "AAAA"},
            )
        ],
    ],
)
def test_damaged_json_is_refused(damage: dict[str, Any]) -> None:
    from_json(json.dumps(GOOD))
    with pytest.raises(ValueError):
        from_json(json.dumps(GOOD | damage))


@pytest.mark.parametrize("text", ["", "[]", "3", "{", "null"])
def test_what_is_no_such_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        from_json(text)
