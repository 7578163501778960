"""Frames of a session say little, come back as they were, and damage is noticed as often as promised."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from bottlenecks.coding.bitstream import BitstreamError, enclose, pack
from bottlenecks.coding.session import (
    RateName,
    SessionReader,
    SessionWriter,
    Terms,
    accept,
    check_accepted,
)

PRINTS = [bytes([number, 0xDE]) for number in range(5)]
FIVE = Terms(tuple(map(RateName, PRINTS)), window=4)
ANY_RATE = Terms(tuple(RateName(PRINTS[0], multiplier) for multiplier in (-9, 0, 7)), header_bytes=2)
FRAMES = [
    pack(b"", PRINTS[0]),
    pack(b"\x82\x60", PRINTS[4]),
    pack(bytes(range(1, 200)), PRINTS[2]),
    pack(b"ab", PRINTS[1], (3, 4)),
    enclose(pack(b"ab", PRINTS[1]), (224, 320)),
    pack(b"other", b"\xff\xff"),
    pack(b"ranged", PRINTS[0], multiplier=7),
]


def messages_of(terms: Terms, frames: list[bytes]) -> list[bytes]:
    writer = SessionWriter(terms)
    return [message for frame in frames for message in writer.write(frame)]


@pytest.mark.parametrize("terms", [FIVE, ANY_RATE, Terms((RateName(PRINTS[2]),)), Terms(FIVE.rates, 2, 255)])
def test_frames_come_back_as_they_were(terms: Terms) -> None:
    reader = SessionReader(terms)
    read = [reader.read(message) for message in messages_of(terms, FRAMES)]
    assert [frame for frame in read if frame is not None] == FRAMES
    assert (reader.refused, reader.lost, reader.doubtful) == (0, 0, 0)


def test_a_frame_has_one_byte_beside_its_payload_or_two() -> None:
    assert [len(one) for one in SessionWriter(FIVE).write(FRAMES[1])] == [3]
    assert [len(one) for one in SessionWriter(ANY_RATE).write(FRAMES[6])] == [2 + len(b"ranged")]
    assert (FIVE.check_bits, ANY_RATE.check_bits) == (5, 13)


def test_the_messages_of_the_documentation() -> None:
    terms = Terms((RateName(bytes.fromhex("2894")), RateName(bytes.fromhex("c0de"), 5)), window=3)
    frames = [bytes.fromhex(one) for one in ("102894026d5f8260", "11289402010100007b", "12c0de8502cc6df74e")]
    assert [terms.offer().hex(), accept(terms.offer()).hex()] == OFFERED
    assert [message.hex() for message in messages_of(terms, frames)] == SENT


OFFERED = ["30030200289401c0de85dec0", "38dec0"]
SENT = ["008260", "8111289402010100007b", "70f74e", "d9034adf"]


def test_an_offer_is_read_and_accepted() -> None:
    for terms in (FIVE, ANY_RATE):
        assert Terms.of(terms.offer()) == terms
        check_accepted(terms.offer(), accept(terms.offer()))
        with pytest.raises(BitstreamError, match="not accepted"):
            check_accepted(terms.offer(), accept(FIVE.offer() + b"x"))


def test_frames_that_are_lost_are_told_and_survived() -> None:
    messages = messages_of(FIVE, [FRAMES[1]] * 12)
    reader = SessionReader(FIVE)
    for place, message in enumerate(messages):
        if place not in (1, 6, 7):
            reader.read(message)
    assert (reader.refused, reader.lost, reader.doubtful) == (0, 3, 0)


def test_a_running_check_that_is_lost_leaves_doubt_and_no_more() -> None:
    messages = messages_of(FIVE, [FRAMES[1]] * 12)
    reader = SessionReader(FIVE)
    for message in messages[:4] + messages[5:]:
        reader.read(message)
    assert (reader.refused, reader.lost, reader.doubtful) == (0, 0, 8)


@pytest.mark.parametrize("terms", [FIVE, Terms(FIVE.rates, 2, 4)])
def test_damage_goes_unnoticed_as_seldom_as_promised(terms: Terms) -> None:
    draw, count, missed = random.Random(0), 20_000, 0
    (message, *_) = SessionWriter(terms).write(FRAMES[2])
    for _ in range(count):
        damaged = bytearray(message)
        for _ in range(draw.randint(1, 8)):
            damaged[draw.randrange(len(damaged))] ^= draw.randint(1, 255)
        try:
            read = SessionReader(terms).read(bytes(damaged))
        except BitstreamError:
            continue
        missed += bytes(damaged) != message and read is not None
    assert missed <= 1.2 * count / 2**terms.check_bits + 3


def test_what_a_short_check_misses_a_running_one_finds() -> None:
    messages = messages_of(FIVE, [FRAMES[2]] * 4)
    reader, found = SessionReader(FIVE), False
    for value in range(256):
        damaged = messages[1][:9] + bytes([value]) + messages[1][10:-1] + bytes([value])
        if damaged == messages[1]:
            continue
        reader = SessionReader(FIVE)
        try:
            reader.read(damaged)
        except BitstreamError:
            continue
        found = True
        break
    assert found
    for place in (0, 2, 3, 4):
        reader.read(messages[place])
    assert (reader.refused, reader.lost, reader.doubtful) == (0, 0, 4)


@pytest.mark.slow
@pytest.mark.parametrize("terms", [FIVE, ANY_RATE])
def test_any_bytes_are_read_or_refused(terms: Terms) -> None:
    fuzz(500_000, messages_of(terms, FRAMES), SessionReader(terms).read)


@pytest.mark.slow
def test_any_offer_is_read_or_refused() -> None:
    fuzz(100_000, [FIVE.offer(), ANY_RATE.offer()], Terms.of)


def fuzz(count: int, seeds: list[bytes], read: Callable[[bytes], object]) -> None:
    """Mutate: flip, cut, append, insert or replace by noise."""
    draw = random.Random(1)
    for _ in range(count):
        data = bytearray(draw.choice(seeds))
        for _ in range(draw.randint(0, 4)):
            at = draw.randint(0, len(data))
            match draw.randrange(5):
                case 0 if at < len(data):
                    data[at] ^= 1 << draw.randrange(8)
                case 1:
                    del data[at:]
                case 2:
                    data += draw.randbytes(draw.randint(1, 9))
                case 3:
                    data[at:at] = draw.randbytes(1)
                case _:
                    data = bytearray(draw.randbytes(draw.randint(0, 40)))
        try:
            read(bytes(data))
        except BitstreamError:
            pass


@pytest.mark.parametrize(
    ("rates", "options", "message"),
    [
        ((), {}, "rates must be 1 to 14, each once, got 0"),
        ((RateName(PRINTS[0]),) * 2, {}, "each once"),
        (tuple(RateName(bytes([number, 0])) for number in range(15)), {}, "rates must be 1 to 14"),
        ((RateName(PRINTS[0]),), {"header_bytes": 3}, "header_bytes must be 1 or 2, got 3"),
        ((RateName(PRINTS[0]),), {"window": 0}, "window must be 1 to 255 frames, got 0"),
    ],
)
def test_terms_that_are_none(rates: tuple[RateName, ...], options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Terms(rates, **options)


@pytest.mark.parametrize(
    ("offer", "message"),
    [
        (b"", "ends 1 bytes too early"),
        (b"\x10" + FIVE.offer()[1:], "no offer of a session: it begins with 10"),
        (FIVE.offer()[:-1] + b"\x00", "was damaged"),
        (FIVE.offer() + b"\x00", "was damaged"),
        (FIVE.offer()[:3] + b"\x05" + FIVE.offer()[4:], "unknown kind 5"),
    ],
)
def test_offers_that_are_none(offer: bytes, message: str) -> None:
    with pytest.raises(BitstreamError, match=message):
        Terms.of(offer)
