"""Folders with Pascal VOC's XML files, of one's own and of BCCD."""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from bottlenecks.errors import UsageError
from bottlenecks.images.preprocessing import Preprocessing
from tests.datamodules.conftest import write_xml
from tests.images.test_reading import write_turned

SHARED = Path(__file__).parents[3] / "shared" / "data"
CAT, DOG = ("cat", 1, 2, 9, 10), ("dog", 4, 4, 16, 12)


@pytest.fixture
def root(tree) -> Path:
    root = tree({"train/images": 6, "val/images": 3})
    for part, count in (("train", 6), ("val", 3)):
        for index in range(count):
            write_xml(root / part / "annotations" / f"{index}.xml", *[CAT, DOG, CAT][: index % 4])
    return root


def test_evaluated_on_val_with_the_classes_that_are_found(root, load):
    data = load("voc_xml", root=str(root), held_back=2)
    data.preprocessing = Preprocessing((24, 16), None, (0.5,) * 3, (0.5,) * 3)
    data.setup()
    assert [len(data.images(split)) for split in ("train", "val", "test")] == [4, 2, 3]
    assert (data.task, data.labels, data.class_names) == ("detection", "own", ("cat", "dog"))
    index = data.images("test").names.index("val/images/2.png")
    _, target = data._dataset("test")[index]
    assert target.tolist() == [[0, 1, 4, 9, 20], [1, 4, 8, 16, 24], [-1, 0, 0, 0, 0]]
    _, targets = next(iter(data.train_dataloader()))
    assert targets.shape == (4, 3, 5) and targets.dtype == torch.float32


def test_a_single_folder_is_divided(tree, load):
    root = tree({"images": 10})
    for index in range(10):
        write_xml(root / "annotations" / f"{index}.xml", CAT)
    data = load("voc_xml", root=str(root), held_back=2, test_part=3)
    data.setup()
    assert [len(data.images(split)) for split in ("train", "val", "test")] == [5, 2, 3]


@pytest.mark.parametrize("difficult", [1, "true", "1.0"])
def test_difficult_objects_are_left_out_and_empty_images_are_right(difficult, root, load):
    write_xml(root / "val/annotations/2.xml", CAT, DOG, difficult=difficult)
    write_xml(root / "val/annotations/1.xml")
    images = load("voc_xml", root=str(root)).images("test")
    found = {name: images.targets.objects(index)[:, 0].tolist() for index, name in enumerate(images.names)}
    assert found == {"val/images/0.png": [], "val/images/1.png": [], "val/images/2.png": [0]}


def test_names_may_be_given(root, load):
    data = load("voc_xml", root=str(root), classes=["dog", "cat", "cow"])
    data.setup()
    assert data.class_names == ("dog", "cat", "cow")
    for wrong in ([], ["cat", "cat"], "cat"):
        with pytest.raises(Exception, match=r"data\.classes=.*: expected a list of names, each once"):
            load("voc_xml", root=str(root), classes=wrong)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"train/annotations/1\.xml: no XML: no element found"),
        ("<annotation><object>", r"train/annotations/1\.xml: no XML: "),
        ("<a/>", r"1\.xml: begins with <a>, expected <annotation>"),
        ("<annotation><object><name>cat</name></object></annotation>", r"1\.xml: an object without <xmin>"),
        (("cat", "one", 2, 9, 10), r"1\.xml: could not convert string to float: 'one'"),
        (("cat", "nan", 2, 9, 10), r"box 1, \[nan, 2, 9, 10\], does not lie in the image of 16x12"),
        (("cat", 9, 2, 1, 10), r"box 1, \[9, 2, 1, 10\], has no area"),
        (("cat", 9, 2, 9, 10), r"box 1, \[9, 2, 9, 10\], has no area"),
        (("cat", 9, 2, 40, 10), r"box 1, \[9, 2, 40, 10\], does not lie in"),
        (("cow", 1, 2, 9, 10), r"class 'cow' is unknown; there are "),
        (None, r"train/annotations/1\.xml: No such file"),
    ],
)
def test_unusable_annotations_are_refused_or_left_out(text, message, root, load):
    path = root / "train/annotations/1.xml"
    if isinstance(text, tuple):
        write_xml(path, text)
    elif text is None:
        path.unlink()
    else:
        path.write_text(text)
    options = {"root": str(root), "held_back": 2, "classes": ["cat", "dog"]}
    expected = rf"data\.root=.*: 1 of \d images have annotations of no use: train/images/1\.png \(.*{message}"
    with pytest.raises(
        UsageError, match=expected + r".*; mend them, or data\.skip_damaged=true leaves them out"
    ) as error:
        load("voc_xml", **options).setup()
    assert "\n" not in str(error.value)
    data = load("voc_xml", skip_damaged=True, **options)
    with pytest.warns(UserWarning, match="left out 1 of"):
        data.setup()
    assert sum(len(data.images(split)) for split in ("train", "val", "test")) == 8


@pytest.mark.parametrize(
    ("declared", "written"),
    [
        ("UTF-8", "utf-8"),
        ("utf8", "utf-8-sig"),
        ("utf-16", "utf-16"),
        ("utf-16", "utf-8"),
        ("GBK", "gbk"),
        ("gb2312", "gb2312"),
        ("Shift_JIS", "shift_jis"),
        ("windows-1252", "cp1252"),
        ("unicode", "utf-8"),
        ("ansi", "ascii"),
        ("utf-8mb4", "utf-8"),
        ("hex", "utf-8"),
        ("undefined", "utf-8"),
    ],
)
def test_encodings_of_all_kinds_are_read(declared, written, root, load):
    name = {"cp1252": "café", "ascii": "cafe"}.get(written, "犬")
    path = root / "val/annotations/1.xml"
    write_xml(path, (name, 1, 2, 9, 10))
    path.write_bytes(f'<?xml version="1.0" encoding="{declared}"?>\n{path.read_text()}'.encode(written))
    data = load("voc_xml", root=str(root), classes=["cat", "dog", name])
    index = data.images("test").names.index("val/images/1.png")
    assert data.images("test").targets.objects(index).tolist() == [[2, 1, 2, 9, 10]]


@pytest.mark.parametrize("declared", ["x-unknown", "utf-8", "ascii"])
def test_an_encoding_that_the_file_is_not_in_is_named(declared, root, load):
    path = root / "val/annotations/1.xml"
    write_xml(path, ("café", 1, 2, 9, 10))
    path.write_bytes(f'<?xml version="1.0" encoding="{declared}"?>\n{path.read_text()}'.encode("latin-1"))
    message = rf"val/annotations/1\.xml: its encoding, {declared}, is unknown or not the one that it is in; save"
    with pytest.raises(UsageError, match=message):
        load("voc_xml", root=str(root), classes=["cat", "dog"]).setup("test")


def test_a_pipe_among_the_annotations_does_not_hang(root, load):
    (root / "val/annotations/1.xml").unlink()
    os.mkfifo(root / "val/annotations/1.xml")
    with pytest.raises(UsageError, match=r"val/annotations/1\.xml: a pipe or device, no file"):
        load("voc_xml", root=str(root), classes=["cat", "dog"]).setup("test")


def with_size(path: Path, width: object, height: object) -> None:
    size = f"<annotation><size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
    path.write_text(path.read_text().replace("<annotation>", size))


@pytest.mark.parametrize("size", [(12, 16), (17, 12), (16, 24)])
def test_a_size_that_is_not_the_images_is_refused(size, root, load):
    with_size(root / "val/annotations/1.xml", *size)
    expected = rf"val/images/1\.png \(annotation for {size[0]}x{size[1]}, image of 16x12 as it stands upright\)"
    with pytest.raises(UsageError, match=expected):
        load("voc_xml", root=str(root)).setup("test")
    data = load("voc_xml", root=str(root), skip_damaged=True)
    with pytest.warns(UserWarning, match="left out 1 of 3"):
        assert len(data.images("test")) == 2


@pytest.mark.parametrize("width", ["inf", "1e400", "nan"])
def test_a_size_that_is_no_number_is_refused(width, root, load):
    with_size(root / "val/annotations/1.xml", width, 12)
    with pytest.raises(UsageError, match=r"val/annotations/1\.xml: <size> of (inf|nan) x 12 is none"):
        load("voc_xml", root=str(root)).setup("test")


def test_a_size_that_is_right_or_unknown_is_taken(root, load):
    for index, size in enumerate([(16, 12), (0, 0), ("16.0", " 12 ")]):
        with_size(root / f"val/annotations/{index}.xml", *size)
    load("voc_xml", root=str(root)).setup("test")


def test_boxes_on_the_upright_image_stay_in_their_place(root, load):
    pixels = np.zeros((12, 16, 3), np.uint8)
    pixels[4:, 4:] = 255
    write_turned(root / "val/images/2.png", pixels, 6)
    write_xml(root / "val/annotations/2.xml", DOG)
    with_size(root / "val/annotations/2.xml", 16, 12)
    data = load("voc_xml", root=str(root), preprocessing=None)
    data.preprocessing = Preprocessing(None, None, (0.5,) * 3, (0.5,) * 3)
    image, target = data._dataset("test")[data.images("test").names.index("val/images/2.png")]
    assert target[0, 1:].tolist() == [4, 4, 16, 12]
    assert image.shape == (3, 12, 16) and image[:, 4:, 4:].min() == 1 and image[:, :4].max() == -1
    with_size(root / "val/annotations/1.xml", 12, 16)
    write_turned(root / "val/images/1.png", pixels, 6)
    with pytest.raises(UsageError, match=r"val/images/1\.png \(annotation for 12x16, image of 16x12"):
        load("voc_xml", root=str(root)).setup("test")


def test_an_annotation_without_its_image_is_refused(root, load):
    write_xml(root / "train/annotations/lost.xml", CAT)
    with pytest.raises(UsageError, match=r"cannot be read as images: train/images/lost\.png \(No such file"):
        load("voc_xml", root=str(root), held_back=2).setup()


def test_no_object_at_all_asks_for_the_names(root, load):
    for path in root.glob("*/annotations/*.xml"):
        write_xml(path)
    with pytest.raises(UsageError, match=r"data\.root=.*: no annotation names an object; data\.classes"):
        load("voc_xml", root=str(root)).setup()
    data = load("voc_xml", root=str(root), classes=["cat"])
    data.preprocessing = data.default_preprocessing
    assert next(iter(data.test_dataloader()))[1].tolist() == [[[-1, 0, 0, 0, 0]]] * 3


@pytest.mark.skipif(not (SHARED / "bccd.tar").exists(), reason="needs ../shared/data")
def test_the_real_blood_cells(load, tmp_path):
    subprocess.run([SHARED / "unpack", tmp_path, "bccd"], check=True, capture_output=True)
    data = load("bccd", root=str(tmp_path / "bccd"))
    data.preprocessing = data.default_preprocessing
    with pytest.warns(UserWarning, match=r"left out 1 of .*BloodImage_00\d+\.jpg \(box \d+, .* has no area\)"):
        data.setup()
    assert sum(len(data.images(split)) for split in ("train", "val", "test")) == 290
    images, targets = next(iter(data.test_dataloader()))
    assert images.shape == (4, 3, 320, 320) and targets.shape == (4, 30, 5)
    assert set(targets[..., 0].unique().tolist()) <= {-1, 0, 1, 2} and targets.max() <= 320
    with pytest.raises(UsageError, match="1 of 87 images have annotations of no use"):
        load("bccd", root=str(tmp_path / "bccd"), skip_damaged=False).setup("test")
