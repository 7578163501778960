"""The coder against an exact interval, the decoder printed in docs/bitstream.md, and bytes written down."""

import copy
import math
import pickle
import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from constriction import stream
from hypothesis import given, settings
from hypothesis import strategies as st

from bottlenecks.coding.coder import TOTAL, Coder, SymbolTables, ideal_bits
from tests.conftest import REPOSITORY

INT32 = np.iinfo(np.int32)
QUICK = settings(derandomize=True, max_examples=50, deadline=None)
SHAPES = st.sampled_from([(), (1,), (5,), (3, 4), (2, 1, 3)])

DOCUMENT = (REPOSITORY / "docs" / "bitstream.md").read_text()
documented: dict = {}
exec(re.search(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)[1], documented)


def make_tables(*rows: tuple[int, list[int]]) -> SymbolTables:
    """Tables of (offset, weights) a channel; weights become counts, the last one that of the escape."""
    frequencies = np.zeros((len(rows), max(len(weights) for _, weights in rows)), dtype=np.int32)
    for row, (_, weights) in zip(frequencies, rows, strict=True):
        counts = np.array(weights) * (TOTAL - len(weights)) // sum(weights) + 1
        counts[counts.argmax()] += TOTAL - counts.sum()
        row[: len(counts)] = counts
    lengths = np.array([len(weights) for _, weights in rows])
    return SymbolTables(frequencies, lengths, np.array([offset for offset, _ in rows]))


def documented_tables(tables: SymbolTables) -> list[tuple[int, list[int]]]:
    """The same tables as the decoder in the document takes them."""
    rows = zip(tables.offsets.tolist(), tables.lengths.tolist(), tables.frequencies.tolist(), strict=True)
    return [(offset, counts[:length]) for offset, length, counts in rows]


def laplacian_tables(num_channels: int, scale: float) -> SymbolTables:
    weights = np.exp(-np.abs(np.arange(-8, 9)) / scale) * 1e6
    return make_tables(*[(-8, [*weights.astype(int).tolist(), 0])] * num_channels)


def draw_latent(tables: SymbolTables, positions: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Symbols that follow their tables, without escapes."""
    rows = []
    for offset, counts in documented_tables(tables):
        listed = np.array(counts[:-1]) / sum(counts[:-1])
        rows.append(offset + rng.choice(len(listed), size=positions, p=listed))
    return np.array(rows, dtype=np.int32)


@st.composite
def any_tables(draw: st.DrawFn) -> SymbolTables:
    offsets = st.integers(-5, 5) | st.sampled_from([INT32.min, INT32.max - 4])
    weights = st.lists(st.sampled_from([0, 1, 30, 1000, 50000]), min_size=2, max_size=6)
    return make_tables(*draw(st.lists(st.tuples(offsets, weights.filter(any)), min_size=1, max_size=4)))


@st.composite
def any_latent(draw: st.DrawFn) -> tuple[SymbolTables, np.ndarray]:
    tables, positions = draw(any_tables()), draw(SHAPES)
    values = st.integers(-7, 7) | st.sampled_from([INT32.min, INT32.max]) | st.integers(INT32.min, INT32.max)
    size = tables.num_channels * math.prod(positions)
    symbols = np.array(draw(st.lists(values, min_size=size, max_size=size)), dtype=np.int32)
    return tables, symbols.reshape(tables.num_channels, *positions)


EXAMPLE = SymbolTables(
    np.array([[9000, 40000, 16000, 536], [60000, 5000, 536, 0]]), np.array([4, 3]), np.array([-1, 0])
)
GOLDEN = {
    "8260": [[[0, 0], [1, -1]], [[0, 0], [1, 0]]],
    "972f65ef82a3ce": [[[0, 0], [1, 7]], [[0, -70000], [1, 0]]],
    "": [[[-1]], [[0]]],
}


@pytest.mark.parametrize("payload", GOLDEN)
def test_golden_vectors(payload):
    symbols = np.array(GOLDEN[payload])
    assert Coder(EXAMPLE).encode(symbols).hex() == payload
    assert np.array_equal(Coder(EXAMPLE).decode(bytes.fromhex(payload), symbols.shape), symbols)
    assert bytes.fromhex(payload).hex(" ") in DOCUMENT


def test_golden_vector_of_many_symbols():
    tables = make_tables((-2, [5, 20, 50, 20, 5, 1]), (0, [90, 9, 0]), (-9, [1, 1, 1]))
    symbols = (np.arange(3 * 4 * 5) * 7919 % 11 - 5).reshape(3, 4, 5) // np.array([2, 4, 1]).reshape(3, 1, 1)
    assert Coder(tables).encode(symbols).hex() == (
        "fff91a5eed9d7f14ab5aa6d3ff70376c8fc7a0f3ff8081ffff59aa5e9bbb32b01d6bd5ba27c9995c"
        "d355ea3f57226c339cb03255a0a92fde5f47"
    )


def test_golden_digest():
    assert EXAMPLE.digest.hex() == "2894009a81b4b43ed629fa5bbb56cc67ac05b13c58e3a9a9a152772ee7c064ae"
    assert EXAMPLE.digest.hex() in DOCUMENT


@QUICK
@given(any_latent())
def test_round_trip(case):
    tables, symbols = case
    decoded = Coder(tables).decode(Coder(tables).encode(symbols), symbols.shape)
    assert decoded.dtype == np.int32
    assert np.array_equal(decoded, symbols)


@QUICK
@given(any_latent())
def test_documented_decoder_reads_what_the_coder_writes(case):
    tables, symbols = case
    payload = Coder(tables).encode(symbols)
    decoded = documented["decode"](payload, documented_tables(tables), symbols.shape[1:])
    assert decoded == symbols.reshape(tables.num_channels, -1).tolist()


@QUICK
@given(any_tables())
def test_models_are_the_documented_integers(tables):
    for model, (_, counts) in zip(Coder(tables)._models, documented_tables(tables), strict=True):
        starts = documented["categorical"](counts)
        for index in range(len(counts)):
            encoder = stream.queue.RangeEncoder()
            encoder.encode(index, model)
            scale = (2**64 - 1) >> 24
            expected = (scale * starts[index], scale * (starts[index + 1] - starts[index]))
            assert encoder.pos() == (0, expected)


def test_payload_is_the_shortest_in_the_exact_interval():
    rng = np.random.default_rng(0)
    for _ in range(200):
        tables = make_tables(*[(-2, rng.integers(0, 3000, 6).tolist()) for _ in range(3)])
        symbols = draw_latent(tables, (int(rng.integers(1, 40)),), rng)
        low, size, num_bits = exact_interval(symbols, tables)
        payload = Coder(tables).encode(symbols)
        for length in range(len(payload) + 1):
            unit = 1 << num_bits - 8 * length
            number = -(-low // unit)
            assert (number * unit < low + size) == (length == len(payload))
        assert payload == number.to_bytes(length, "big")


def exact_interval(symbols: np.ndarray, tables: SymbolTables) -> tuple[int, int, int]:
    """Lower end and size of the interval that the symbols lead to, in units of 2**-num_bits."""
    low, size, num_bits = 0, 2**64 - 1, 64
    for row, (offset, counts) in zip(symbols.tolist(), documented_tables(tables), strict=True):
        starts = documented["categorical"](counts)
        for value in row:
            scale = size >> 24
            low += scale * starts[value - offset]
            size = scale * (starts[value - offset + 1] - starts[value - offset])
            if size < 2**32:
                low, size, num_bits = low << 32, size << 32, num_bits + 32
    return low, size, num_bits


def test_overhead_is_below_a_byte_on_small_payloads():
    tables, rng = laplacian_tables(num_channels=32, scale=0.3), np.random.default_rng(0)
    latents = [draw_latent(tables, (2, 2), rng) for _ in range(400)]
    num_bytes = np.array([len(Coder(tables).encode(symbols)) for symbols in latents])
    overhead = num_bytes - np.array([ideal_bits(symbols, tables) / 8 for symbols in latents])
    assert 5 < num_bytes.mean() < 12
    assert overhead.mean() < 1
    assert overhead.max() < 2


@QUICK
@given(any_latent())
def test_escapes_cost_what_ideal_bits_says(case):
    tables, symbols = case
    expected, rows = 0.0, symbols.reshape(len(symbols), -1).astype(int)
    for row, (offset, counts) in zip(rows, documented_tables(tables), strict=True):
        for index in row - offset:
            listed = 0 <= index < len(counts) - 1
            expected -= math.log2(counts[index if listed else -1] / TOTAL)
            if not listed:
                code = -2 * index if index < 0 else 2 * (index - len(counts) + 1) + 1
                expected += math.log2(33) + math.floor(math.log2(code))
    assert ideal_bits(symbols, tables) == pytest.approx(expected)
    assert len(Coder(tables).encode(symbols)) < expected / 8 + 2


@pytest.mark.parametrize("value", [INT32.min, INT32.max, -1, 0, 1, 2, 65536, 65538])
@pytest.mark.parametrize("offset", [INT32.min, -1, INT32.max - 2])
def test_single_symbols_round_trip(value, offset):
    coder = Coder(make_tables((offset, [1, 5, 1, 1])))
    symbols = np.array([value])
    assert np.array_equal(coder.decode(coder.encode(symbols), (1,)), symbols)


def test_a_latent_of_escapes_alone_round_trips():
    coder = Coder(laplacian_tables(64, 0.5))
    symbols = np.random.default_rng(0).integers(INT32.min, INT32.max, (64, 14, 14), endpoint=True)
    assert np.array_equal(coder.decode(coder.encode(symbols), symbols.shape), symbols)


def test_layout_and_dtype_of_the_array_do_not_matter():
    coder = Coder(laplacian_tables(6, 1.0))
    symbols = draw_latent(coder.tables, (4, 5), np.random.default_rng(0))
    symbols[2, 1, 3] = 99
    payload = coder.encode(symbols)
    assert coder.encode(np.asfortranarray(symbols)) == payload
    assert coder.encode(np.repeat(symbols, 2, axis=2)[..., ::2]) == payload
    assert coder.encode(symbols.astype(np.int64)) == payload
    assert coder.encode(symbols.astype(np.int8)) == payload


def test_threads_share_a_coder():
    coder, rng = Coder(laplacian_tables(8, 1.0)), np.random.default_rng(0)
    latents = [draw_latent(coder.tables, (6, 6), rng) for _ in range(40)]
    with ThreadPoolExecutor(4) as pool:
        decoded = list(pool.map(lambda symbols: coder.decode(coder.encode(symbols), symbols.shape), latents))
    assert np.array_equal(decoded, latents)


def test_copies_code_alike():
    symbols = np.array(GOLDEN["8260"])
    for coder in (copy.deepcopy(Coder(EXAMPLE)), pickle.loads(pickle.dumps(Coder(EXAMPLE)))):
        assert coder.encode(symbols).hex() == "8260"
        assert coder.tables.digest == EXAMPLE.digest


@QUICK
@given(any_tables(), SHAPES, st.binary(max_size=40))
def test_garbage_ends_in_an_error_or_the_promised_shape(tables, positions, payload):
    decoded = assert_decodes_or_refuses(Coder(tables), payload, (tables.num_channels, *positions))
    if decoded is None:
        with pytest.raises(ValueError, match="no encoder writes this"):
            documented["decode"](payload, documented_tables(tables), positions)
    else:
        expected = documented["decode"](payload, documented_tables(tables), positions)
        assert decoded.reshape(tables.num_channels, -1).tolist() == expected


@QUICK
@given(any_latent(), st.data())
def test_damage_ends_in_an_error_or_the_promised_shape(case, data):
    tables, symbols = case
    payload = Coder(tables).encode(symbols)
    cut = data.draw(st.integers(0, len(payload)))
    head, tail, byte = payload[:cut], payload[cut:], data.draw(st.binary(min_size=1, max_size=1))
    for damaged in (head, tail, tail + head, head + byte + tail, head + byte + tail[1:]):
        assert_decodes_or_refuses(Coder(tables), damaged, symbols.shape)


def assert_decodes_or_refuses(coder: Coder, payload: bytes, shape: tuple[int, ...]) -> np.ndarray | None:
    try:
        decoded = coder.decode(payload, shape)
    except ValueError as error:
        assert re.search("not valid for these tables|escaped value outside of int32|ends in a zero byte", str(error))
        return None
    assert decoded.shape == shape
    assert decoded.dtype == np.int32
    return decoded


@QUICK
@given(any_latent(), st.integers(1, 9))
def test_zero_bytes_at_the_end_are_refused(case, num_zeros):
    tables, symbols = case
    coder = Coder(tables)
    with pytest.raises(ValueError, match="ends in a zero byte"):
        coder.decode(coder.encode(symbols) + bytes(num_zeros), symbols.shape)


def test_data_that_no_encoder_writes_is_refused():
    with pytest.raises(ValueError, match="the payload is not valid for these tables"):
        Coder(EXAMPLE).decode(b"\xff" * 12, (2, 2))


@pytest.mark.parametrize("lowest_bit", [0, 1])
def test_escaped_values_outside_of_int32_are_refused(lowest_bit):
    coder = Coder(make_tables((0, [1, 1, 1])))
    encoder = stream.queue.RangeEncoder()
    encoder.encode(2, coder._models[0])
    encoder.encode(32, stream.model.Uniform(33))
    encoder.encode(0xFFFE + lowest_bit, stream.model.Uniform(2**16))
    encoder.encode(0xFFFF, stream.model.Uniform(2**16))
    payload = encoder.get_compressed().astype(">u4").tobytes()
    with pytest.raises(ValueError, match="the payload holds an escaped value outside of int32"):
        coder.decode(payload, (1,))


@pytest.mark.parametrize(
    ("symbols", "message"),
    [
        (np.zeros((2, 3)), "symbols must be integers, got float64"),
        (np.zeros((3, 3), int), r"must have shape \(2, ...\), none of it 0, got \(3, 3\)"),
        (np.zeros((2, 0), int), r"none of it 0, got \(2, 0\)"),
        (np.zeros((), int), r"must have shape \(2, ...\).*got \(\)"),
        (np.full((2, 1), 2**31), r"within int32, got 2147483648..2147483648"),
    ],
)
def test_symbols_that_do_not_fit_are_refused(symbols, message):
    with pytest.raises(ValueError, match=message):
        Coder(EXAMPLE).encode(symbols)
    with pytest.raises(ValueError, match=message):
        ideal_bits(symbols, EXAMPLE)


@pytest.mark.parametrize("shape", [(), (3, 2), (2, 0), (2, -1)])
def test_shapes_that_do_not_fit_are_refused(shape):
    with pytest.raises(ValueError, match=r"symbols must have shape \(2, ...\), none of it 0"):
        Coder(EXAMPLE).decode(b"", shape)


ROW = [[TOTAL - 1, 1]]


@pytest.mark.parametrize(
    ("frequencies", "lengths", "offsets", "message"),
    [
        (np.array(ROW, float), [2], [0], "frequencies must hold integers in 2-D, got float64 in 2-D"),
        (ROW[0], [2], [0], "frequencies must hold integers in 2-D, got int64 in 1-D"),
        (np.zeros((0, 2), int), [], [], r"K >= 1 rows of 2 to 65536 entries, got \(0, 2\)"),
        ([[TOTAL]], [1], [0], r"rows of 2 to 65536 entries, got \(1, 1\)"),
        (np.ones((1, TOTAL + 1), int), [2], [0], r"rows of 2 to 65536 entries, got \(1, 65537\)"),
        (ROW, np.array([2.0]), [0], "lengths must hold integers in 1-D, got float64 in 1-D"),
        (ROW, [2], [[0]], "offsets must hold integers in 1-D, got int64 in 2-D"),
        (ROW, [2, 2], [0], "lengths must have one entry for each row: 1, got 2"),
        (ROW * 2, [2, 2], [0], "offsets must have one entry for each row: 2, got 1"),
        (ROW * 2, [2, 1], [0, 0], r"lengths must lie in 2..2; row 1 breaks this"),
        (ROW, [3], [0], r"lengths must lie in 2..2; row 0 breaks this"),
        ([[TOTAL, 0]], [2], [0], r"used counts must lie in 1..65536; row 0"),
        ([[TOTAL + 2, -2]], [2], [0], r"used counts must lie in 1..65536; row 0"),
        ([[TOTAL - 2, 1, 1]], [2], [0], "the padding must be zero; row 0 breaks this"),
        ([[TOTAL - 1, 1], [5, 5]], [2, 2], [0, 0], "counts of a row must sum to 65536; row 1"),
        (ROW, [2], [2**31], "the symbols of a row must be int32; row 0"),
        (ROW, [2], [-(2**31) - 1], "the symbols of a row must be int32; row 0"),
        ([[TOTAL - 2, 1, 1]], [3], [2**31 - 1], "the symbols of a row must be int32; row 0"),
    ],
)
def test_tables_that_break_a_rule_are_refused(frequencies, lengths, offsets, message):
    arrays = [np.array(part) if len(part) else np.zeros(0, int) for part in (frequencies, lengths, offsets)]
    with pytest.raises(ValueError, match=message):
        SymbolTables(*(arrays if len(frequencies) else (frequencies, *arrays[1:])))


def test_tables_are_read_only_copies():
    offsets = np.array([-1, 0])
    tables = SymbolTables(EXAMPLE.frequencies, EXAMPLE.lengths, offsets)
    offsets[0] = 5
    assert tables.offsets.tolist() == [-1, 0]
    with pytest.raises(ValueError, match="read-only"):
        tables.frequencies[0, 0] = 1


def test_digest_depends_on_all_but_the_padding():
    frequencies, lengths, offsets = EXAMPLE.frequencies, EXAMPLE.lengths, EXAMPLE.offsets
    wider = SymbolTables(np.pad(frequencies, ((0, 0), (0, 5))), lengths, offsets)
    assert wider.digest == EXAMPLE.digest
    assert EXAMPLE.fingerprint == EXAMPLE.digest[:2]
    others = [
        SymbolTables(frequencies, lengths, offsets + 1),
        SymbolTables(frequencies[:1], lengths[:1], offsets[:1]),
        SymbolTables(np.roll(frequencies, 1, axis=0), np.roll(lengths, 1), offsets),
    ]
    assert len({tables.digest for tables in [EXAMPLE, *others]}) == 4


def test_from_cdfs_reads_the_layout_of_compressai():
    quantized_cdf = np.array([[0, 9000, 49000, 65000, TOTAL], [0, 60000, 65000, TOTAL, 0]], dtype=np.int32)
    tables = SymbolTables.from_cdfs(quantized_cdf, np.array([5, 4]), np.array([-1, 0]))
    assert tables.digest == EXAMPLE.digest
    with pytest.raises(ValueError, match="quantized_cdf must hold integers in 2-D, got int32 in 1-D"):
        SymbolTables.from_cdfs(quantized_cdf[0], np.array([5]), np.array([-1]))
    with pytest.raises(ValueError, match="lengths must have one entry for each row: 2, got 1"):
        SymbolTables.from_cdfs(quantized_cdf, np.array([5]), np.array([-1, 0]))
    with pytest.raises(ValueError, match=r"lengths must lie in 2..4; row 1 breaks this"):
        SymbolTables.from_cdfs(quantized_cdf, np.array([5, 9]), np.array([-1, 0]))
