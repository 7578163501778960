"""The frame: bytes written down, and every way in which one can be refused."""

import itertools
import subprocess
import sys
import tracemalloc
from binascii import crc_hqx
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bottlenecks.coding.bitstream import (
    BitstreamError,
    Frame,
    Limits,
    disclose,
    divide,
    enclose,
    join,
    pack,
    peek_fingerprint,
    unpack,
)
from bottlenecks.coding.coder import Coder, SymbolTables
from tests.conftest import REPOSITORY

QUICK = settings(derandomize=True, max_examples=80, deadline=None)
LIMITS = Limits(max_payload_bytes=2**17, max_positions=2**12)
DOCUMENT = (REPOSITORY / "docs" / "bitstream.md").read_text()

CODER = Coder(
    SymbolTables(np.array([[9000, 40000, 16000, 536], [60000, 5000, 536, 0]]), np.array([4, 3]), np.array([-1, 0]))
)
DEFAULT_SHAPE = (2, 2)  # of a unit without a stride: its features and latents have one size
GOLDEN = {
    "10 28 94 02 6d 5f 82 60": [[[0, 0], [1, -1]], [[0, 0], [1, 0]]],
    "10 28 94 07 7f 18 97 2f 65 ef 82 a3 ce": [[[0, 0], [1, 7]], [[0, -70000], [1, 0]]],
    "11 28 94 02 01 01 00 00 7b": [[[-1]], [[0]]],
}


def forge(head: str, payload: bytes = b"") -> bytes:
    """A frame with any head, in hex, and the right checksum."""
    checked = bytes.fromhex(head)
    return checked + crc_hqx(payload, crc_hqx(checked, 0xFFFF)).to_bytes(2, "big") + payload


@pytest.mark.parametrize("frame", GOLDEN)
def test_golden_vectors(frame):
    symbols, data = np.array(GOLDEN[frame]), bytes.fromhex(frame)
    shape = None if symbols.shape[1:] == DEFAULT_SHAPE else symbols.shape[1:]
    payload, fingerprint = CODER.encode(symbols), CODER.tables.fingerprint
    assert pack(payload, fingerprint, shape) == data
    assert unpack(data, LIMITS) == Frame(fingerprint, shape, payload)
    assert peek_fingerprint(data) == fingerprint
    assert frame in DOCUMENT


def test_checksum_is_the_documented_one():
    assert f"{crc_hqx(b'123456789', 0xFFFF):04X}" == "29B1"
    assert "gives 29B1" in DOCUMENT.replace("\n", " ")


@QUICK
@given(
    st.binary(max_size=300),
    st.binary(min_size=2, max_size=2),
    st.none() | st.lists(st.integers(1, 8), max_size=4).map(tuple),
)
def test_what_is_packed_is_unpacked(payload, fingerprint, shape):
    assert unpack(pack(payload, fingerprint, shape), LIMITS) == Frame(fingerprint, shape, payload)


@QUICK
@given(st.binary(max_size=9), st.none() | st.just((3, 5)), st.integers(-128, 127))
def test_a_multiplier_takes_one_byte_behind_the_fingerprint(payload, shape, multiplier):
    data, without = pack(payload, b"ab", shape, multiplier=multiplier), pack(payload, b"ab", shape)
    assert unpack(data, replace(LIMITS, ranged=True)) == Frame(b"ab", shape, payload, multiplier)
    assert data[:4] == bytes([without[0] | 2]) + b"ab" + bytes([multiplier + 128])
    assert peek_fingerprint(data) == b"ab" and len(data) == len(without) + 1
    with pytest.raises(BitstreamError, match="the frame has no multiplier, but this unit takes any rate"):
        unpack(without, replace(LIMITS, ranged=True))


@pytest.mark.parametrize(("num_bytes", "header"), [(0, 6), (127, 6), (128, 7), (16383, 7), (16384, 8)])
def test_size_of_the_header(num_bytes, header):
    frame = pack(bytes(num_bytes), b"ab")
    assert len(frame) == num_bytes + header
    assert unpack(frame, LIMITS).payload == bytes(num_bytes)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the frame is empty"),
        (forge("00 2894 00"), "the frame has version 0, this decoder knows 1"),
        (forge("20 2894 00"), "the frame has version 2, this decoder knows 1"),
        (forge("18 2894 00"), "the frame has unknown flags 1000"),
        (forge("14 2894 00"), "payloads of this unit are worth nothing without theirs"),
        (forge("19 2894 00"), "the frame has unknown flags 1001"),
        (b"\x10", "the frame ends 2 bytes too early"),
        (b"\x10\x28\x94", "the frame ends 1 bytes too early"),
        (forge("10 2894 05", b"1234"), "the frame ends 1 bytes too early"),
        (forge("10 2894 03", b"1234"), "the frame is 1 bytes longer than it says"),
        (forge("10 2894 8000"), "a varint is longer than it need be"),
        (forge("10 2894 84808000", b"1234"), "a varint is longer than it need be"),
        (forge("10 2894 8080808010"), "a varint exceeds 32 bits"),
        (forge("10 2894 808080808001"), "a varint exceeds 32 bits"),
        (forge("10 2894 ffffffff0f"), "a payload of 4294967295 bytes, 131072 are allowed"),
        (forge("10 2894 818008"), "a payload of 131073 bytes, 131072 are allowed"),
        (forge("11 2894 05 0101010101 00"), "a shape of 5 dimensions, 4 are allowed"),
        (forge("11 2894 02 0100 00"), r"a shape of \(1, 0\), no dimension may be 0"),
        (forge("11 2894 02 4041 00"), r"a shape of \(64, 65\), 4096 positions are allowed"),
        (forge("11 2894 04" + "ffffffff0f" * 4 + "00"), "a shape of .*, 4096 positions are allowed"),
        (b"\x10\x28\x94\x01\x00\x00\x41", "the checksum does not match"),
        (forge("12 2894 80 00"), "the frame has a multiplier, but this unit has one rate"),
    ],
)
def test_bad_frames_are_refused_by_name(data, message):
    with pytest.raises(BitstreamError, match=message):
        unpack(data, LIMITS)


@pytest.mark.parametrize("frame", GOLDEN)
def test_every_flipped_bit_every_cut_and_every_addition_is_refused(frame):
    data = bytes.fromhex(frame)
    flipped = [
        bytes(byte ^ (i == at) << bit for i, byte in enumerate(data)) for at in range(len(data)) for bit in range(8)
    ]
    cut = [data[:length] for length in range(len(data))] + [data[start:] for start in range(1, len(data))]
    added = [data + b"\0", data + b"\xff", data + data, b"\x10" + data]
    for damaged in flipped + cut + added:
        with pytest.raises(BitstreamError):
            unpack(damaged, LIMITS)


def test_spliced_frames_are_refused():
    frames = [bytes.fromhex(frame) for frame in GOLDEN]
    for left, right in itertools.permutations(frames, 2):
        spliced = {left[:at] + right[at:] for at in range(1, len(left))}
        for damaged in spliced - set(frames):
            with pytest.raises(BitstreamError):
                unpack(damaged, LIMITS)


@QUICK
@given(st.binary(max_size=40), st.none() | st.lists(st.integers(1, 9), max_size=4).map(tuple))
def test_forged_frames_end_in_an_error_or_the_promised_shape(payload, shape):
    expected = (2, *(DEFAULT_SHAPE if shape is None else shape))
    try:
        symbols = CODER.decode(unpack(pack(payload, b"ab", shape), LIMITS).payload, expected)
    except ValueError:
        return
    assert symbols.shape == expected
    assert symbols.dtype == np.int32


@QUICK
@given(st.binary(max_size=40))
def test_arbitrary_bytes_end_in_an_error_or_a_frame(data):
    for bytes_in in (data, b"\x10" + data, b"\x11" + data, b"\x11\x28\x94\x02" + data):
        try:
            frame = unpack(bytes_in, LIMITS)
        except BitstreamError:
            continue
        assert pack(frame.payload, frame.fingerprint, frame.shape) == bytes_in


def test_large_claims_allocate_nothing():
    frames = [forge("10 2894 ffffffff0f"), forge("11 2894 04" + "ffffffff0f" * 4 + "00")]
    tracemalloc.start()
    for data in frames:
        with pytest.raises(BitstreamError):
            unpack(data, LIMITS)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 100_000


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the frame is empty"),
        (b"\x10\x28", "the frame ends 1 bytes too early"),
        (b"\x20\x28\x94", "the frame has version 2, this decoder knows 1"),
        (b"\x1c\x28\x94", "the frame has unknown flags 1100"),
    ],
)
def test_the_fingerprint_is_not_read_from_anything_else(data, message):
    with pytest.raises(BitstreamError, match=message):
        peek_fingerprint(data)


@pytest.mark.parametrize(
    ("fingerprint", "shape", "message"),
    [
        (b"abc", None, "fingerprint must be 2 bytes, got 3"),
        (b"ab", (1, 2, 3, 4, 5), "shape must have at most 4 dimensions, each 1 or more"),
        (b"ab", (3, 0), r"each 1 or more, got \(3, 0\)"),
        (b"ab", (2**32,), "4294967296 exceeds 32 bits"),
    ],
)
def test_what_the_format_cannot_hold_is_not_packed(fingerprint, shape, message):
    with pytest.raises(ValueError, match=message):
        pack(b"", fingerprint, shape)


def test_coder_and_bitstream_import_no_torch():
    program = "import sys, bottlenecks.coding.bitstream, bottlenecks.coding.coder; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_sizes_travel_before_a_frame_and_damage_to_them_is_told() -> None:
    frame = pack(b"payload", b"\x28\x94")
    assert enclose(frame, ()) == frame and disclose(frame) == (frame, ())
    data = enclose(frame, (360, 481))
    assert disclose(data) == (frame, (360, 481)) and len(data) == len(frame) + 7
    for place in range(4, 8 * (len(data) - len(frame))):  # the first bits tell sizes from a frame
        damaged = bytearray(data)
        damaged[place // 8] ^= 0x80 >> place % 8
        with pytest.raises(BitstreamError):
            disclose(bytes(damaged))
    for end in range(1, 7):
        with pytest.raises(BitstreamError):
            disclose(data[:end])
    with pytest.raises(BitstreamError, match=r"sizes of \(360, 481\), 480 is allowed"):
        disclose(data, 480)
    with pytest.raises(ValueError, match="at most 8"):
        enclose(frame, [1] * 9)


@QUICK
@given(st.lists(st.binary(max_size=300), min_size=1, max_size=4))
def test_joined_payloads_come_apart(payloads: list[bytes]) -> None:
    assert divide(join(payloads), len(payloads)) == payloads


def test_what_is_too_short_to_come_apart_is_told() -> None:
    with pytest.raises(BitstreamError, match="too early"):
        divide(join([b"1234", b"5"])[:3], 2)
