"""Files of many frames give each of them back, and say where they are damaged."""

from __future__ import annotations

import pytest

from bottlenecks.coding.bitstream import BitstreamError
from bottlenecks.coding.frame_file import pack_file, terms_of, unpack_file
from tests.coding.test_session import ANY_RATE, FIVE, FRAMES


def test_frames_come_back_and_take_less() -> None:
    frames = FRAMES[:3] * 50
    content = pack_file(frames, terms_of(frames))
    assert list(unpack_file(content)) == frames
    assert len(content) < sum(map(len, frames)) - 2 * len(frames)
    assert list(unpack_file(pack_file(FRAMES, ANY_RATE))) == FRAMES
    assert list(unpack_file(pack_file(FRAMES, terms_of(FRAMES)))) == FRAMES
    assert list(unpack_file(pack_file([], FIVE))) == []


def test_every_cut_and_most_flips_are_told() -> None:
    content, missed = pack_file(FRAMES, FIVE), 0
    for end in range(len(content)):
        with pytest.raises(BitstreamError):
            list(unpack_file(content[:end]))
    for place in range(4, len(content)):
        damaged = content[:place] + bytes([content[place] ^ 0x10]) + content[place + 1 :]
        try:
            missed += list(unpack_file(damaged)) != FRAMES
        except BitstreamError:
            continue
    assert missed == 0


def test_frames_that_can_be_read_once_alone_are_refused() -> None:
    frames = (frame for frame in FRAMES)
    with pytest.raises(TypeError):
        pack_file(frames, terms_of(frames))  # type: ignore[arg-type]


def test_another_file_is_refused() -> None:
    with pytest.raises(BitstreamError, match="no file of frames: it begins with 89504e47"):
        list(unpack_file(b"\x89PNG"))
