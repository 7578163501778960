"""Many frames in one file, for logs and storage: what a session agrees on stands once, at its beginning."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bottlenecks.coding.bitstream import BitstreamError, Reader, disclose, to_varint
from bottlenecks.coding.session import RateName, SessionReader, SessionWriter, Terms

MAGIC = b"BNF1"


def terms_of(frames: Sequence[bytes], header_bytes: int = 2) -> Terms:
    """Return terms that have the rates of all frames, with or without sizes before them."""
    names = dict.fromkeys(RateName.of(disclose(frame)[0]) for frame in frames)
    return Terms(tuple(names), header_bytes)


def pack_file(frames: Sequence[bytes], terms: Terms) -> bytes:
    """Put frames, with or without sizes before them, into the content of a file."""
    writer, offer, count = SessionWriter(terms), terms.offer(), len(frames)
    content = [MAGIC, to_varint(len(offer)), offer]
    for frame in frames:
        for message in writer.write(frame):
            content += [to_varint(len(message)), message]
    last = writer.close()
    return b"".join([*content, to_varint(len(last)), last, to_varint(0), to_varint(count)])


def unpack_file(content: bytes) -> Iterator[bytes]:
    """Take frames out of the content of a file, one by one.

    Raises:
        BitstreamError: it is none, ends early, or is damaged; the frames before the damage have been given by then.
    """
    if not content.startswith(MAGIC):
        raise BitstreamError(f"no file of frames: it begins with {content[:4].hex()}")
    reader = Reader(content[len(MAGIC) :])
    session, count = SessionReader(Terms.of(reader.take(reader.varint()))), 0
    while length := reader.varint():
        frame = session.read(reader.take(length))
        if session.lost or session.doubtful:
            raise BitstreamError(f"the running check after frame {count} does not match: the file was damaged")
        if frame is not None:
            count += 1
            yield frame
    if reader.varint() != count or reader.position != len(reader.data):
        raise BitstreamError(f"the file does not end as it says: {count} frames were read")
