"""Frames of a session: what both sides have agreed on once is not said again; docs/bitstream.md specifies it.

    device: Terms.offer() -> server: Terms.of(offer) -> accept(offer)
    device: SessionWriter.write(frame) -> messages -> server: SessionReader.read(message) -> the frame again

A message is a frame's payload behind one byte, or two, that hold the number of its rate and a short check. Frames that
say more than their rate, such as a size of their own, go as they are behind the same byte. After every `window` frames
a running check tells what the short ones missed, and whether frames were lost.
"""

from __future__ import annotations

from binascii import crc_hqx
from dataclasses import dataclass

from bottlenecks.coding.bitstream import (
    FINGERPRINT_BYTES,
    MULTIPLIERS,
    VERSION,
    BitstreamError,
    Frame,
    Limits,
    Reader,
    is_ranged,
    may_be_cut,
    pack,
    peek_fingerprint,
    peek_multiplier,
    unpack,
)

SESSION = 3  # in the place of a version: an offer, or its acceptance
MAX_RATES = (14, 254)  # of a session with one byte a frame, and with two
MAX_WINDOW = 255
LONG, ACCEPTED = 0b0001, 0b1000

_CRC_BYTES, _CRC_START = 2, 0xFFFF
_RATE, _RANGED_RATE = 0, 1  # what follows in an offer: a fingerprint, or one and a multiplier
_ANY = 2**32 - 1
_REST = 2  # numbers beside those of the rates: a whole frame, a running check


@dataclass(frozen=True)
class RateName:
    """What a frame says of the unit that coded it.

    Attributes:
        fingerprint: of the unit, 2 bytes.
        multiplier: of the steps of a unit of any rate; None for a unit of one rate.
    """

    fingerprint: bytes
    multiplier: int | None = None

    @classmethod
    def of(cls, frame: bytes) -> RateName:
        """Read it from a frame; nothing else of it is looked at.

        Raises:
            BitstreamError: if the bytes are too few, of another version, or have unknown flags.
        """
        return cls(peek_fingerprint(frame), peek_multiplier(frame) if is_ranged(frame) else None)


@dataclass(frozen=True)
class Terms:
    """What both sides of a session have agreed on.

    Attributes:
        rates: that frames may be of, in the order of their numbers.
        header_bytes: of a frame, 1 or 2.
        window: frames after which there is a running check, 1 to 255.
    """

    rates: tuple[RateName, ...]
    header_bytes: int = 1
    window: int = 64

    def __post_init__(self) -> None:
        if self.header_bytes not in (1, 2):
            raise ValueError(f"header_bytes must be 1 or 2, got {self.header_bytes}")
        most = MAX_RATES[self.header_bytes - 1]
        if not 0 < len(self.rates) <= most or len(set(self.rates)) < len(self.rates):
            raise ValueError(f"rates must be 1 to {most}, each once, got {len(self.rates)}")
        if not 0 < self.window <= MAX_WINDOW:
            raise ValueError(f"window must be 1 to {MAX_WINDOW} frames, got {self.window}")

    @property
    def check_bits(self) -> int:
        """Bits of a frame's check: what its number leaves of the header."""
        return 8 * self.header_bytes - (len(self.rates) + _REST - 1).bit_length()

    @property
    def whole(self) -> int:
        """The number of a frame that goes as it is."""
        return len(self.rates)

    @property
    def running(self) -> int:
        """The number of a running check."""
        return len(self.rates) + 1

    def sent_beside(self, num_frames: int) -> int:
        """Count the bytes that a device sends beside the messages of so many frames: the offer and running checks."""
        return len(self.offer()) + num_frames // self.window * (self.header_bytes + 1 + _CRC_BYTES)

    def offer(self) -> bytes:
        """Return what a device begins a session with."""
        head = bytes([SESSION << 4 | LONG * (self.header_bytes == 2), self.window, len(self.rates)])
        for rate in self.rates:
            ranged = rate.multiplier is not None
            head += bytes([_RANGED_RATE if ranged else _RATE]) + rate.fingerprint
            if rate.multiplier is not None:
                head += bytes([rate.multiplier - MULTIPLIERS.start])
        return head + _crc(head)

    @classmethod
    def of(cls, offer: bytes) -> Terms:
        """Read an offer.

        Raises:
            BitstreamError: it is damaged, or none of this version.
        """
        reader = Reader(offer)
        version, flags = divmod(reader.take(1)[0], 16)
        if version != SESSION or flags & ~LONG:
            raise BitstreamError(f"no offer of a session: it begins with {offer[:1].hex()}")
        window, count = reader.take(2)
        rates = []
        for _ in range(count):
            kind = reader.take(1)[0]
            if kind not in (_RATE, _RANGED_RATE):
                raise BitstreamError(f"the offer has a rate of the unknown kind {kind}")
            fingerprint = reader.take(FINGERPRINT_BYTES)
            rates.append(RateName(fingerprint, MULTIPLIERS[reader.take(1)[0]] if kind == _RANGED_RATE else None))
        if reader.take(_CRC_BYTES) != _crc(offer[:-_CRC_BYTES]) or reader.position != len(offer):
            raise BitstreamError("the checksum of the offer does not match: it was damaged")
        try:
            return cls(tuple(rates), 2 if flags & LONG else 1, window)
        except ValueError as error:
            raise BitstreamError(str(error)) from None


def accept(offer: bytes) -> bytes:
    """Return what a server answers to an offer that it takes."""
    return bytes([SESSION << 4 | ACCEPTED]) + offer[-_CRC_BYTES:]


def check_accepted(offer: bytes, answer: bytes) -> None:
    """Refuse an answer that does not accept an offer.

    Raises:
        BitstreamError: it does not.
    """
    if answer != accept(offer):
        raise BitstreamError("the offer of a session was not accepted")


class SessionWriter:
    """Makes messages of frames; not for several threads at once.

    Args:
        terms: that both sides have agreed on.
    """

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self._numbers = {rate: number for number, rate in enumerate(terms.rates)}
        self._window = _Window()

    def write(self, frame: bytes) -> list[bytes]:
        """Turn a frame, with or without sizes before it, into one message, and a running check where one is due."""
        number, body = self.terms.whole, frame
        if frame and frame[0] >> 4 == VERSION and not may_be_cut(frame):
            known, opened = self._numbers.get(RateName.of(frame)), _unpack(frame)
            if known is not None and opened.shape is None:
                number, body = known, opened.payload
        messages = [_message(self.terms, number, body)]
        self._window.add(messages[0])
        if self._window.count == self.terms.window:
            messages.append(self.close())
        return messages

    def close(self) -> bytes:
        """Return the running check of the frames since the last one."""
        message = _message(self.terms, self.terms.running, self._window.tell())
        self._window = _Window()
        return message


class SessionReader:
    """Makes frames of messages; not for several threads at once.

    A message that is refused does not end a session, nor does one that is lost.

    Args:
        terms: that both sides have agreed on.

    Attributes:
        refused: messages that were damaged, so far.
        lost: frames that never came, as running checks tell.
        doubtful: frames of windows that do not match their running check though none was refused or lost, or that
            have none: one at least may be damaged.
    """

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self.refused, self.lost, self.doubtful = 0, 0, 0
        self._window, self._refused_before = _Window(), 0

    def read(self, message: bytes) -> bytes | None:
        """Return the frame that a message holds; None of a running check.

        Raises:
            BitstreamError: it is damaged.
        """
        try:
            number, body = _open(self.terms, message)
            if number == self.terms.running:
                self._compare(body)
                return None
        except BitstreamError:
            self.refused += 1
            raise
        self._window.add(message)
        if number == self.terms.whole:
            return body
        rate = self.terms.rates[number]
        return pack(body, rate.fingerprint, multiplier=rate.multiplier)

    def _compare(self, told: bytes) -> None:
        if len(told) != 1 + _CRC_BYTES:
            raise BitstreamError("a running check has another length")
        refused = self.refused - self._refused_before
        missing = told[0] - self._window.count - refused
        if missing > 0:
            self.lost += missing
        elif missing < 0 or (not refused and told != self._window.tell()):
            self.doubtful += self._window.count
        self._window, self._refused_before = _Window(), self.refused


class _Window:
    """What a running check is taken over: messages one after the other."""

    def __init__(self) -> None:
        self.count, self.crc = 0, _CRC_START

    def add(self, message: bytes) -> None:
        self.count, self.crc = self.count + 1, crc_hqx(message, self.crc)

    def tell(self) -> bytes:
        return bytes([self.count]) + self.crc.to_bytes(_CRC_BYTES, "big")


def _message(terms: Terms, number: int, body: bytes) -> bytes:
    head = number << terms.check_bits | _check(terms, number, body)
    return head.to_bytes(terms.header_bytes, "big") + body


def _open(terms: Terms, message: bytes) -> tuple[int, bytes]:
    if len(message) < terms.header_bytes:
        raise BitstreamError("the message is shorter than its header")
    head, body = int.from_bytes(message[: terms.header_bytes], "big"), message[terms.header_bytes :]
    number, check = divmod(head, 1 << terms.check_bits)
    if number > terms.running:
        raise BitstreamError(f"the message is of the rate {number}, there are {len(terms.rates)}")
    if check != _check(terms, number, body):
        raise BitstreamError("the check does not match: the message was damaged")
    return number, body


def _check(terms: Terms, number: int, body: bytes) -> int:
    return crc_hqx(body, crc_hqx(bytes([number]), _CRC_START)) & ((1 << terms.check_bits) - 1)


def _crc(data: bytes) -> bytes:
    return crc_hqx(data, _CRC_START).to_bytes(_CRC_BYTES, "big")


def _unpack(frame: bytes) -> Frame:
    limits = Limits(max_payload_bytes=_ANY, max_positions=_ANY, max_dims=_ANY, ranged=is_ranged(frame))
    return unpack(frame, limits)
