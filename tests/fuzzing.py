"""Streams as damage and malice leave them."""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Callable, Iterator, Sequence
from random import Random

from bottlenecks.coding.bitstream import pack


def mutate(streams: Sequence[bytes], random: Random) -> bytes:
    """Make a stream from good ones: flipped, cut, spliced, emptied, blown up, mislabelled or forged."""
    return random.choice(MUTATIONS)(random.choice(streams), random.choice(streams), random)


def each_flip(stream: bytes) -> Iterator[bytes]:
    """Yield a stream with each of its bits flipped in turn."""
    for bit in range(8 * len(stream)):
        damaged = bytearray(stream)
        damaged[bit // 8] ^= 1 << bit % 8
        yield bytes(damaged)


def flip(one: bytes, other: bytes, random: Random) -> bytes:
    """Flip up to eight bits."""
    data = bytearray(one)
    for _ in range(random.randint(1, 8)):
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)
    return bytes(data)


def cut(one: bytes, other: bytes, random: Random) -> bytes:
    """Lose the end, or all."""
    return one[: random.randrange(len(one))]


def splice(one: bytes, other: bytes, random: Random) -> bytes:
    """Join the front of one and the back of another."""
    return one[: random.randrange(len(one))] + other[random.randrange(len(other)) :]


def blow_up(one: bytes, other: bytes, random: Random) -> bytes:
    """Append up to 100 kB."""
    return one + random.randbytes(random.choice((1, 10, 1000, 100_000)))


def noise(one: bytes, other: bytes, random: Random) -> bytes:
    """Make up all bytes but perhaps the first."""
    return one[: random.randrange(4)] + random.randbytes(random.randrange(60))


def relabel(one: bytes, other: bytes, random: Random) -> bytes:
    """Put another version, flags or fingerprint in front, checksum recomputed."""
    head = bytes([random.randrange(256)]) + (other[1:3] if random.random() < 0.5 else random.randbytes(2))
    return reseal(head + one[3:4], one[6:])


def forge(one: bytes, other: bytes, random: Random) -> bytes:
    """Write any payload and perhaps any shape, checksum right."""
    payload = random.choice((random.randbytes(random.randrange(300)), one[6:], bytes(random.randrange(300))))
    shape = random.choice((None, None, (1, 1), (8, 8), tuple(random.randint(1, 2**20) for _ in range(2))))
    return pack(payload, one[1:3], shape, multiplier=one[3] - 128 if one[0] & 2 else None)


def forge_claims(one: bytes, other: bytes, random: Random) -> bytes:
    """Claim a huge length or shape, checksum right."""
    varint = b"\xff\xff\xff\xff\x0f"
    if random.random() < 0.5:
        return reseal(one[:3] + varint, one[6:])
    return reseal(b"\x11" + one[1:3] + bytes([random.randrange(6)]) + varint * random.randrange(5) + b"\0", b"")


def reseal(head: bytes, payload: bytes) -> bytes:
    """Put the right checksum between head and payload."""
    return head + crc_hqx(payload, crc_hqx(head, 0xFFFF)).to_bytes(2, "big") + payload


MUTATIONS: tuple[Callable[[bytes, bytes, Random], bytes], ...] = (
    flip,
    cut,
    splice,
    blow_up,
    noise,
    relabel,
    forge,
    forge_claims,
)
