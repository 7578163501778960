"""Image codecs: colour, grey, sizes, and files that others open."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from bottlenecks.baselines.av1 import SPEED, Av1
from bottlenecks.baselines.base import Baseline
from bottlenecks.baselines.still import END_OF_SEQUENCE, decode_av1, decode_hevc
from bottlenecks.baselines.ycbcr import from_planes, to_planes
from bottlenecks.coding.bitstream import BitstreamError
from tests.baselines.conftest import network_input, receive, send, to_pixels

FORMATS = ("jpeg", "webp", "av1", "hevc_image", "png")
Make = Callable[[str], list[Baseline]]


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / max(np.mean((one.astype(float) - other) ** 2), 1e-9)))


@pytest.mark.parametrize("name", FORMATS)
def test_red_comes_back_red(name: str, make: Make) -> None:
    red = np.zeros((32, 48, 3), np.uint8)
    red[:] = (220, 30, 60)
    decoded = receive(make(name)[-1], send(make(name)[-1], network_input(red)))
    assert np.abs(to_pixels(decoded).astype(int) - red).max() <= 8


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("size", [(1, 1), (8, 8), (17, 33), (30, 15)])
def test_any_size_comes_back(name: str, size: tuple[int, int], make: Make, photos: list[np.ndarray]) -> None:
    pixels = photos[1][: size[0], : size[1]]
    codec = make(name)[-1]
    for one in (pixels, pixels[..., :1].repeat(3, axis=-1)):
        decoded = to_pixels(receive(codec, send(codec, network_input(one))))
        assert decoded.shape == one.shape and psnr(decoded, one) > 24


@pytest.mark.parametrize("name", ["jpeg", "webp", "av1", "hevc_image"])
def test_more_bytes_are_a_better_image(name: str, make: Make, photos: list[np.ndarray]) -> None:
    inputs = [network_input(pixels) for pixels in photos]
    quality = [
        np.mean(
            [psnr(to_pixels(receive(codec, send(codec, x))), pixels) for x, pixels in zip(inputs, photos, strict=True)]
        )
        for codec in make(name)
    ]
    assert quality == sorted(quality) and quality[-1] > 30


def test_png_is_lossless(make: Make, photos: list[np.ndarray]) -> None:
    (codec,) = make("png")
    for pixels in photos:
        assert np.array_equal(to_pixels(receive(codec, send(codec, network_input(pixels)))), pixels)


@pytest.mark.parametrize(("name", "mode"), [("jpeg", "L"), ("png", "L"), ("webp", "RGB")])
def test_grey_files_are_grey_where_the_format_has_it(
    name: str, mode: str, make: Make, photos: list[np.ndarray]
) -> None:
    grey = photos[0][..., :1].repeat(3, axis=-1)
    codec = make(name)[-1]
    stream = send(codec, network_input(grey))
    assert Image.open(io.BytesIO(stream)).mode == mode
    assert len(stream) <= len(send(codec, network_input(photos[0])))
    assert psnr(to_pixels(receive(codec, stream)), grey) > 30


@pytest.mark.parametrize(("name", "decode"), [("hevc_image", decode_hevc), ("av1", decode_av1)])
def test_grey_streams_have_no_chroma(
    name: str, decode: Callable[[bytes], list[np.ndarray]], make: Make, photos: list[np.ndarray]
) -> None:
    codec = make(name)[-1]
    shapes = [
        [plane.shape for plane in decode(send(codec, network_input(photos[0][..., :n].repeat(3 // n, axis=-1))))]
        for n in (1, 3)
    ]
    assert shapes == [[(64, 64)], [(64, 64), (32, 32), (32, 32)]]


def test_chroma_of_jpeg_is_halved(make: Make, photos: list[np.ndarray]) -> None:
    with Image.open(io.BytesIO(send(make("jpeg")[0], network_input(photos[0])))) as image:
        assert [layer[1:3] for layer in image.layer] == [(2, 2), (1, 1), (1, 1)]


def test_av1_streams_are_those_of_avif_files(make: Make, photos: list[np.ndarray]) -> None:
    codec = make("av1")[3]
    assert isinstance(codec, Av1)
    file = io.BytesIO()
    options = {"quality": codec.quality, "subsampling": "4:2:0", "codec": "aom", "advanced": {"tune": "psnr"}}
    Image.fromarray(photos[0]).save(file, "AVIF", speed=SPEED, max_threads=1, **options)
    stream = send(codec, network_input(photos[0]))
    assert stream in file.getvalue() and len(file.getvalue()) - len(stream) > 200
    independent = np.asarray(Image.open(file).convert("RGB"))
    assert psnr(to_pixels(receive(codec, stream)), independent) > 40


def test_an_image_that_was_not_padded_is_a_plain_stream(make: Make, photos: list[np.ndarray]) -> None:
    codec = make("hevc_image")[0]
    assert send(codec, network_input(photos[0])).startswith(b"\0\0\0\1")
    padded = send(codec, network_input(photos[0][:15, :63]))
    assert padded[0] == 1 << 4 | 1 and padded[1:5] == b"\0\0\0\1"
    with pytest.raises(BitstreamError, match="hevc_image"):
        receive(codec, b"\xff" + END_OF_SEQUENCE)


def test_planes_agree_with_pillow(photos: list[np.ndarray]) -> None:
    luma, *chroma = to_planes(photos[0])
    theirs = Image.fromarray(photos[0]).convert("YCbCr").split()
    assert np.abs(luma.astype(int) - np.asarray(theirs[0])).max() <= 1
    for plane, other in zip(chroma, theirs[1:], strict=True):
        halved = np.asarray(other, float).reshape(32, 2, 32, 2).mean((1, 3))
        assert np.abs(plane - halved).max() <= 1.5
    with pytest.raises(ValueError, match=r"4:2:0 or 4:0:0"):
        from_planes([luma, luma, luma])


def test_a_huge_claim_is_refused(make: Make) -> None:
    file = io.BytesIO()
    Image.new("1", (2**14, 2**13)).convert("L").save(file, "PNG")
    with pytest.raises(BitstreamError, match="png"):
        receive(make("png")[0], file.getvalue())
