"""The wire format: one frame an image, checked before it is used; docs/bitstream.md specifies it."""

import math
from binascii import crc_hqx
from collections.abc import Sequence
from dataclasses import dataclass

from bottlenecks.shapes import Shape

VERSION = 1
MAX_DIMS = 4  # of an explicit shape, unless several tensors state theirs
FINGERPRINT_BYTES = 2
WITH_SIZES = 2  # in the place of a version: sizes come first, then the frame
MAX_SIZES, MAX_SIZE = 8, 2**14
MULTIPLIERS = range(-128, 128)  # one byte

_SHAPE_FOLLOWS = 0b0001
_MULTIPLIER_FOLLOWS = 0b0010
_MAY_BE_CUT = 0b0100
_CRC_BYTES = 2
_CRC_START = 0xFFFF
_VARINT_BITS = 32


class BitstreamError(ValueError):
    """Bytes that are no frame of this format, or none that this receiver can or will decode."""


@dataclass(frozen=True)
class Limits:
    """What a receiver is ready to decode, whatever a sender claims.

    Attributes:
        max_payload_bytes: longest payload.
        max_positions: greatest number of positions of an explicit shape: the sum over its heights times widths.
        max_dims: most dimensions of an explicit shape.
        ranged: the unit takes any rate, and each of its frames says which; otherwise none does.
        cuts: the unit's payloads are worth something without their end, where their frame says that they may lack it.
    """

    max_payload_bytes: int = 2**20
    max_positions: int = 2**16
    max_dims: int = MAX_DIMS
    ranged: bool = False
    cuts: bool = False


@dataclass(frozen=True)
class Frame:
    """A frame whose checksum and claims hold; its payload is not decoded yet.

    Attributes:
        fingerprint: names the unit that coded the payload.
        shape: size (H, W) of the features that were coded, of several tensors one after the other, or None for the
            unit's default.
        payload: what the unit's coder decodes.
        multiplier: of the unit's steps, in eighths of a table step, or None for a unit of one rate.
        missing: bytes that the end of the payload lacks, of a frame that may be cut.
    """

    fingerprint: bytes
    shape: Shape | None
    payload: bytes
    multiplier: int | None = None
    missing: int = 0


def pack(
    payload: bytes,
    fingerprint: bytes,
    shape: Shape | None = None,
    max_dims: int = MAX_DIMS,
    multiplier: int | None = None,
    cuttable: bool = False,
) -> bytes:
    """Put a payload on the wire.

    Args:
        payload: what the unit's coder returned.
        fingerprint: that of the unit, 2 bytes.
        shape: size (H, W) of the features that were coded, of several tensors one after the other; None where it is
            the unit's default.
        max_dims: most dimensions of a shape that receivers take.
        multiplier: -128 to 127, of a unit that takes any rate; None for a unit of one rate.
        cuttable: let receivers take the frame without its end; its checksum is of the header alone then.

    Returns:
        The frame: 6 bytes longer than the payload where that is below 128 bytes, the shape the default and the unit
        of one rate.

    Raises:
        ValueError: if the fingerprint, the shape or the multiplier does not fit the format.
    """
    if len(fingerprint) != FINGERPRINT_BYTES:
        raise ValueError(f"fingerprint must be {FINGERPRINT_BYTES} bytes, got {len(fingerprint)}")
    flags = (
        (shape is not None) * _SHAPE_FOLLOWS | (multiplier is not None) * _MULTIPLIER_FOLLOWS | cuttable * _MAY_BE_CUT
    )
    head = bytes([VERSION << 4 | flags]) + fingerprint
    if multiplier is not None:
        if multiplier not in MULTIPLIERS:
            raise ValueError(f"multiplier must lie in -128..127, got {multiplier}")
        head += bytes([multiplier - MULTIPLIERS.start])
    if shape is not None:
        if len(shape) > max_dims or min(shape, default=1) < 1:
            raise ValueError(f"shape must have at most {max_dims} dimensions, each 1 or more, got {shape}")
        head += b"".join(map(to_varint, (len(shape), *shape)))
    head += to_varint(len(payload))
    return head + _checksum(head, b"" if cuttable else payload) + payload


def peek_fingerprint(data: bytes) -> bytes:
    """Return which unit is to take a frame apart, before anything else is read.

    Raises:
        BitstreamError: if the bytes are too few, of another version, or have unknown flags.
    """
    reader = Reader(data)
    _read_flags(reader)
    return reader.take(FINGERPRINT_BYTES)


def peek_multiplier(data: bytes) -> int:
    """Return at which multiplier of its unit's steps a frame is, 0 of a unit of one rate; nothing is checked yet.

    Raises:
        BitstreamError: if the bytes are too few, of another version, or have unknown flags.
    """
    reader = Reader(data)
    flags = _read_flags(reader)
    reader.take(FINGERPRINT_BYTES)
    return reader.take(1)[0] + MULTIPLIERS.start if flags & _MULTIPLIER_FOLLOWS else 0


def is_ranged(data: bytes) -> bool:
    """Return whether a frame says that its unit takes any rate; nothing is checked yet.

    Raises:
        BitstreamError: if the bytes are too few, of another version, or have unknown flags.
    """
    return bool(_read_flags(Reader(data)) & _MULTIPLIER_FOLLOWS)


def may_be_cut(data: bytes) -> bool:
    """Return whether a frame says that it may lack its end; nothing is checked yet.

    Raises:
        BitstreamError: if the bytes are too few, of another version, or have unknown flags.
    """
    return bool(_read_flags(Reader(data)) & _MAY_BE_CUT)


def unpack(data: bytes, limits: Limits) -> Frame:
    """Take a frame apart; every claim is checked before anything is allocated for it.

    Args:
        data: exactly one frame.
        limits: the receiver's own.

    Raises:
        BitstreamError: if the bytes are damaged, of another version, or claim more than the limits; the
            message names the reason.
    """
    reader = Reader(data)
    flags = _read_flags(reader)
    fingerprint = reader.take(FINGERPRINT_BYTES)
    multiplier = _read_multiplier(reader, flags, limits)
    shape = _read_shape(reader, limits) if flags & _SHAPE_FOLLOWS else None
    num_bytes = reader.varint()
    if num_bytes > limits.max_payload_bytes:
        raise BitstreamError(f"a payload of {num_bytes} bytes, {limits.max_payload_bytes} are allowed")
    head = data[: reader.position]
    checksum = reader.take(_CRC_BYTES)
    cuttable = bool(flags & _MAY_BE_CUT)
    missing = max(0, num_bytes - (len(data) - reader.position)) if cuttable else 0
    payload = reader.take(num_bytes - missing)
    if reader.position != len(data):
        raise BitstreamError(f"the frame is {len(data) - reader.position} bytes longer than it says")
    if checksum != _checksum(head, b"" if cuttable else payload):
        raise BitstreamError("the checksum does not match: the frame was damaged")
    if cuttable and not limits.cuts:
        raise BitstreamError("the frame may lack its end, but payloads of this unit are worth nothing without theirs")
    return Frame(fingerprint, shape, payload, multiplier, missing)


def enclose(frame: bytes, sizes: Sequence[int]) -> bytes:
    """Put sizes that the network's tail needs, such as the image's height and width, before a frame; () adds nothing.

    Raises:
        ValueError: one is not a whole number that the format holds.
    """
    if not sizes:
        return frame
    if len(sizes) > MAX_SIZES or min(sizes) < 1:
        raise ValueError(f"sizes must be at most {MAX_SIZES}, each 1 or more, got {tuple(sizes)}")
    head = bytes([WITH_SIZES << 4 | len(sizes)]) + b"".join(map(to_varint, sizes))
    return head + _checksum(head, b"") + frame


def disclose(data: bytes, limit: int = MAX_SIZE) -> tuple[bytes, Shape]:
    """Take a frame, and the sizes before it, out of what `enclose` made.

    Args:
        data: from the wire.
        limit: greatest size that is taken.

    Raises:
        BitstreamError: the sizes are damaged or above the limit; the frame itself is not looked at.
    """
    if not data or data[0] >> 4 != WITH_SIZES:
        return data, ()
    reader = Reader(data)
    count = reader.take(1)[0] & 0x0F
    sizes = tuple(reader.varint() for _ in range(count))
    head = data[: reader.position]
    if not 0 < count <= MAX_SIZES or reader.take(_CRC_BYTES) != _checksum(head, b""):
        raise BitstreamError("the sizes before the frame are damaged")
    if not all(0 < size <= limit for size in sizes):
        raise BitstreamError(f"sizes of {sizes}, {limit} is allowed")
    return data[reader.position :], sizes


def join(payloads: Sequence[bytes]) -> bytes:
    """Make one payload of several: each but the last behind its length, a varint.

    Raises:
        ValueError: one is too long for the format.
    """
    return b"".join(to_varint(len(payload)) + payload for payload in payloads[:-1]) + payloads[-1]


def divide(payload: bytes, count: int) -> list[bytes]:
    """Take apart what `join` made of so many payloads.

    Raises:
        BitstreamError: it is too short for them.
    """
    reader = Reader(payload)
    parts = [reader.take(reader.varint()) for _ in range(count - 1)]
    return [*parts, payload[reader.position :]]


class Reader:
    """Takes bytes off the front, and refuses to take more than there are."""

    def __init__(self, data: bytes):
        self.data = data
        self.position = 0

    def take(self, num_bytes: int) -> bytes:
        """Take so many bytes."""
        missing = self.position + num_bytes - len(self.data)
        if missing > 0:
            raise BitstreamError(f"the frame ends {missing} bytes too early")
        self.position += num_bytes
        return self.data[self.position - num_bytes : self.position]

    def varint(self) -> int:
        """Take a varint."""
        value = 0
        for shift in range(0, _VARINT_BITS, 7):
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
        if byte >= 0x80 or value >> _VARINT_BITS:
            raise BitstreamError(f"a varint exceeds {_VARINT_BITS} bits")
        if byte == 0 and shift > 0:
            raise BitstreamError("a varint is longer than it need be")
        return value


def _read_flags(reader: Reader) -> int:
    if not reader.data:
        raise BitstreamError("the frame is empty")
    version, flags = divmod(reader.take(1)[0], 16)
    if version != VERSION:
        raise BitstreamError(f"the frame has version {version}, this decoder knows {VERSION}")
    if flags & ~(_SHAPE_FOLLOWS | _MULTIPLIER_FOLLOWS | _MAY_BE_CUT):
        raise BitstreamError(f"the frame has unknown flags {flags:04b}")
    return flags


def _read_multiplier(reader: Reader, flags: int, limits: Limits) -> int | None:
    follows = bool(flags & _MULTIPLIER_FOLLOWS)
    if follows and not limits.ranged:
        raise BitstreamError("the frame has a multiplier, but this unit has one rate")
    if limits.ranged and not follows:
        raise BitstreamError("the frame has no multiplier, but this unit takes any rate")
    return MULTIPLIERS[reader.take(1)[0]] if follows else None


def _read_shape(reader: Reader, limits: Limits) -> Shape:
    num_dims = reader.varint()
    if num_dims > limits.max_dims:
        raise BitstreamError(f"a shape of {num_dims} dimensions, {limits.max_dims} are allowed")
    shape = tuple(reader.varint() for _ in range(num_dims))
    if 0 in shape:
        raise BitstreamError(f"a shape of {shape}, no dimension may be 0")
    if sum(math.prod(shape[start : start + 2]) for start in range(0, num_dims, 2)) > limits.max_positions:
        raise BitstreamError(f"a shape of {shape}, {limits.max_positions} positions are allowed")
    return shape


def to_varint(value: int) -> bytes:
    """Return a number below 2^32 in as few bytes as it takes, 7 bits each, the lowest first."""
    if value >> _VARINT_BITS:
        raise ValueError(f"{value} exceeds {_VARINT_BITS} bits")
    groups = [value & 0x7F]
    while value := value >> 7:
        groups[-1] |= 0x80
        groups.append(value & 0x7F)
    return bytes(groups)


def _checksum(head: bytes, payload: bytes) -> bytes:
    return crc_hqx(payload, crc_hqx(head, _CRC_START)).to_bytes(_CRC_BYTES, "big")
