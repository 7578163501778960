"""One image everywhere: upright, in RGB, refused for the same reasons in training and on a device."""

import os
import struct

import numpy as np
import pytest
from PIL import Image

from bottlenecks.deploy.client import open_image
from bottlenecks.errors import UsageError
from bottlenecks.images.preprocessing import Preprocessing
from bottlenecks.images.reading import ImageError, allow_megapixels, load_image, upright_size

ORIENTATION = 0x0112
AS_IT_IS = Preprocessing(None, None, (0.5,) * 3, (0.5,) * 3)
UPRIGHT = np.zeros((24, 40, 3), np.uint8)
UPRIGHT[:12, :20] = 255, 0, 0
UPRIGHT[:12, 20:] = 0, 255, 0
UPRIGHT[12:, :20] = 0, 0, 255
STORED = {  # orientation -> how the pixels lie in the file
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: lambda a: np.rot90(a, -1),
}


def write_turned(path, pixels: np.ndarray, orientation: int) -> None:
    """Save pixels so that they stand upright when the orientation is heeded."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    options = {"quality": 95, "subsampling": 0} if str(path).endswith("jpg") else {}
    Image.fromarray(np.ascontiguousarray(STORED[orientation](pixels))).save(path, exif=exif, **options)


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_stand_upright_everywhere(orientation, suffix, tmp_path):
    path = tmp_path / f"image.{suffix}"
    write_turned(path, UPRIGHT, orientation)
    assert upright_size(path) == (40, 24)
    loaded = load_image(path)
    assert loaded.mode == "RGB" and np.abs(np.asarray(loaded).astype(int) - UPRIGHT)[4:8, 4:16].max() < 60
    with Image.open(path) as opened:  # as somebody may hand it to a `Device` or a `BottleneckNetwork`
        assert np.array_equal(AS_IT_IS.to_array(opened), AS_IT_IS.to_array(loaded))
    with Image.open(path) as opened:
        image, steps = AS_IT_IS.placed(opened)
        assert image.shape == (3, 24, 40) and steps[0].source == (40, 24)
    assert np.array_equal(np.asarray(open_image(path)), np.asarray(loaded))


def test_views_of_a_turned_image_are_those_of_the_upright_one(tmp_path):
    import torch

    write_turned(tmp_path / "image.png", UPRIGHT, 6)
    transform = Preprocessing(None, (16, 32), (0.5,) * 3, (0.5,) * 3).augmented_transform()
    views = []
    for image in (Image.open(tmp_path / "image.png"), Image.fromarray(UPRIGHT)):
        torch.manual_seed(0)
        views.append(transform.placed(image))
    assert torch.equal(views[0][0], views[1][0]) and views[0][1] == views[1][1]


@pytest.mark.parametrize(
    ("pixels", "suffix", "message"),
    [
        (np.full((8, 8), 200, np.int32), "tif", "32-bit pixels have no agreed white; save it with 8 or 16 bits"),
        (np.full((8, 8), 0.5, np.float32), "tif", "floating-point pixels have no agreed white"),
        (np.full((8, 8), -200, np.int16), "tif", "32-bit pixels have no agreed white"),
    ],
)
def test_numbers_without_a_white_are_refused(pixels, suffix, message, tmp_path):
    image = Image.fromarray(pixels) if pixels.dtype != np.int16 else Image.fromarray(pixels.astype(np.int32))
    image.save(tmp_path / f"image.{suffix}")
    for read in (load_image, open_image):
        with pytest.raises(UsageError, match=message):
            read(tmp_path / f"image.{suffix}")
    with pytest.raises(UsageError, match=message):
        AS_IT_IS.to_array(image)


def test_deep_greys_keep_their_brightness(tmp_path):
    ramp = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1024
    for suffix in ("png", "tif"):
        Image.fromarray(ramp).save(tmp_path / f"image.{suffix}")
        assert np.array_equal(np.asarray(load_image(tmp_path / f"image.{suffix}"))[..., 0], ramp >> 8)
    (tmp_path / "image.pgm").write_bytes(b"P5 8 8 65535\n" + ramp.astype(">u2").tobytes())
    assert np.array_equal(np.asarray(load_image(tmp_path / "image.pgm"))[..., 0], ramp >> 8)
    Image.fromarray(ramp.astype(">u2")).save(tmp_path / "big.tif")
    assert np.array_equal(np.asarray(load_image(tmp_path / "big.tif"))[..., 0], ramp >> 8)


def test_a_deep_negative_is_turned(tmp_path):
    ramp = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1024
    Image.fromarray(ramp).save(tmp_path / "negative.tif", tiffinfo={262: 0})
    with Image.open(tmp_path / "negative.tif") as image:
        assert image.tag_v2[262] == 0
    assert np.array_equal(np.asarray(load_image(tmp_path / "negative.tif"))[..., 0], 255 - (ramp >> 8))


def test_twelve_bits_are_not_black(tmp_path):
    """A TIFF of 12 bits a pixel, packed, as microscopes write them: Pillow leaves its values below 4,096."""
    white = b"\xff" * (8 * 8 * 12 // 8)
    tags = {256: 8, 257: 8, 258: 12, 259: 1, 262: 1, 273: 8, 277: 1, 278: 8, 279: len(white)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    content = b"II*\0" + struct.pack("<I", 8 + len(white)) + white + struct.pack("<H", len(tags)) + entries + bytes(4)
    (tmp_path / "white.tif").write_bytes(content)
    assert np.asarray(load_image(tmp_path / "white.tif")).min() == 255


@pytest.mark.parametrize("name", ["pipe", "device"])
def test_what_is_no_file_never_hangs(name, tmp_path):
    path = tmp_path / "0.png"
    os.mkfifo(path) if name == "pipe" else os.symlink("/dev/zero", path)
    for read in (load_image, upright_size, open_image):
        with pytest.raises(UsageError, match="a pipe or device, no file"):
            read(path)


def test_a_setting_allows_large_images(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    Image.new("L", (30, 30)).save(tmp_path / "large.png")
    with pytest.raises(ImageError, match=r"more than 0\.0002 million pixels, max_megapixels allows more"):
        load_image(tmp_path / "large.png")
    allow_megapixels("data.max_megapixels", None)
    assert Image.MAX_IMAGE_PIXELS == 100
    allow_megapixels("data.max_megapixels", 0.0009)
    assert load_image(tmp_path / "large.png").size == (30, 30)
    with pytest.raises(UsageError, match=r"data\.max_megapixels=0: expected a number"):
        allow_megapixels("data.max_megapixels", 0)
