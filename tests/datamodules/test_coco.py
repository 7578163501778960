"""COCO's boxes and masks from a small file of its kind."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from bottlenecks.errors import UsageError
from bottlenecks.preprocessing import Preprocessing
from tests.datamodules.conftest import write_coco

SQUARE = [[2, 3, 7, 3, 7, 9, 2, 9]]
PERSON = {"image_id": 10, "category_id": 1, "bbox": [2, 3, 5, 6], "segmentation": SQUARE}
SIGN = {"image_id": 10, "category_id": 13, "bbox": [0, 0, 4, 4], "segmentation": [[0, 0, 4, 0, 4, 4, 0, 4]]}
OVER = {"image_id": 12, "category_id": 1, "bbox": [4, 4, 8, 4], "segmentation": [[4, 4, 12, 4, 12, 8, 4, 8]]}
RUNS = {"size": [12, 16], "counts": [180, 12]}  # the last column
CROWD = {"image_id": 12, "category_id": 1, "bbox": [15, 0, 1, 12], "segmentation": RUNS, "iscrowd": 1}
FLAT = {"image_id": 11, "category_id": 1, "bbox": [2, 3, 5, 0], "segmentation": SQUARE}
ENTRIES = [PERSON, SIGN, OVER, {**OVER, "segmentation": SQUARE}, CROWD, FLAT]
AS_IT_IS = Preprocessing(None, None, (0.5,) * 3, (0.5,) * 3)


@pytest.fixture
def root(tmp_path):
    for part in ("train2017", "val2017"):
        write_coco(tmp_path, part, ENTRIES)
    return tmp_path


def targets(data) -> dict[str, torch.Tensor]:
    data.preprocessing = AS_IT_IS
    dataset = data._dataset("test")
    return {name: dataset[index][1] for index, name in enumerate(data.pictures("test").names)}


def test_boxes(root, load):
    data = load("coco", root=str(root), held_back=1, preprocessing=None)
    data.setup()
    assert [len(data.pictures(split)) for split in ("train", "val", "test")] == [3, 1, 4]
    assert (data.task, data.labels, data.num_classes) == ("detection", "coco", 90)
    assert (data.class_names[0], data.class_names[11], data.class_names[89]) == ("person", "N/A", "toothbrush")
    padding = [-1, 0, 0, 0, 0]
    found = {name: target.tolist() for name, target in targets(data).items()}
    assert found["val2017/0.jpg"] == [[0, 2, 3, 7, 9], [12, 0, 0, 4, 4]]
    assert found["val2017/1.jpg"] == found["val2017/3.jpg"] == [padding] * 2  # flat; nothing at all
    assert found["val2017/2.jpg"] == [[0, 4, 4, 12, 8]] * 2  # the crowd is left out


def test_masks(root, load):
    data = load("coco_segmentation", root=str(root), held_back=1, preprocessing=None)
    data.setup()
    assert (data.task, data.labels) == ("segmentation", "voc")
    assert (data.num_classes, data.class_names[0], data.class_names[15]) == (21, "__background__", "person")
    found = targets(data)
    person = np.zeros((12, 16), int)
    person[3:9, 2:7] = 15
    assert found["val2017/0.jpg"].tolist() == person.tolist()  # a stop sign is background
    both = person.copy()
    both[4:8, 4:12] = 15
    both[4:8, 4:7] = -1
    both[:, 15] = 15
    assert found["val2017/2.jpg"].tolist() == both.tolist()
    assert not found["val2017/3.jpg"].any()


def test_each_of_vocs_classes_has_a_category(root, load):
    """The list of torchvision's reference training."""
    numbers = [5, 2, 16, 9, 44, 6, 3, 17, 62, 21, 67, 18, 19, 4, 1, 64, 20, 63, 7, 72]
    names = load("coco", root=str(root), held_back=1).class_names
    write_coco(
        root,
        "val2017",
        [{**PERSON, "image_id": 10 + index, "category_id": number} for index, number in enumerate(numbers)],
        count=len(numbers),
        categories=[{"id": number, "name": names[number - 1]} for number in numbers],
    )
    found = targets(load("coco_segmentation", root=str(root), held_back=1))
    assert [int(found[f"val2017/{index}.jpg"].max()) for index in range(20)] == list(range(1, 21))


@pytest.mark.parametrize(
    ("name", "entry", "message"),
    [
        ("coco", {**PERSON, "bbox": [1, 2, 3]}, r"annotation 0 has no category_id, or a bbox other than four numbers"),
        ("coco", {**PERSON, "bbox": [1, 2, -3, 4]}, r"box 1, \[1, 2, -2, 6\], "),
        ("coco", {**PERSON, "bbox": [1, 2, 30, 4]}, r"box 1, \[1, 2, 31, 6\], does not lie in the picture of 16x12"),
        ("coco", {**PERSON, "bbox": [float("nan"), 2, 3, 4]}, r"box 1, \[nan, 2, nan, 6\], does not lie in"),
        ("coco", {**PERSON, "category_id": 91}, r"annotation 0 is of category 91; there are 1 to 90"),
        ("coco_segmentation", {**PERSON, "segmentation": [[1, 2, 3]]}, r"its polygon is no list of x and y in turn"),
        ("coco_segmentation", {**PERSON, "segmentation": {"size": [4, 4], "counts": [16]}}, r"its outline is neither"),
    ],
)
def test_unusable_annotations_are_refused_or_left_out(name, entry, message, root, load):
    write_coco(root, "val2017", [entry])
    expected = rf"data\.root=.*: 1 of 4 pictures have annotations of no use: val2017/0\.jpg \({message}"
    with pytest.raises(UsageError, match=expected):
        load(name, root=str(root), held_back=1).setup("test")
    data = load(name, root=str(root), held_back=1, skip_damaged=True)
    with pytest.warns(UserWarning, match="left out 1 of 4"):
        assert len(data.pictures("test")) == 3


@pytest.mark.parametrize("name", ["coco", "coco_segmentation"])
def test_pictures_and_the_file_have_to_agree(name, root, load):
    Image.new("RGB", (16, 12)).save(root / "val2017/9.jpg")
    with pytest.raises(UsageError, match=r"val2017/9\.jpg \(not listed in instances_val2017\.json\)"):
        load(name, root=str(root), held_back=1).setup("test")
    (root / "val2017/9.jpg").unlink()
    (root / "val2017/1.jpg").unlink()
    with pytest.raises(UsageError, match=r"cannot be read as pictures: val2017/1\.jpg \(No such file"):
        load(name, root=str(root), held_back=1).setup("test")


def test_a_mask_of_another_size_than_its_picture_is_refused(root, load):
    Image.new("RGB", (12, 16)).save(root / "val2017/1.jpg")
    with pytest.raises(UsageError, match=r"val2017/1\.jpg \(mask of 16x12, picture of 12x16\)"):
        load("coco_segmentation", root=str(root), held_back=1).setup("test")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"instances_val2017\.json: no JSON \(Expecting value.*; put COCO's own file there"),
        ('{"images": []}', r"no annotation file of COCO \(lacks 'categories'\)"),
        ("[]", r"no annotation file of COCO \(list indices"),
        (
            '{"images": [], "categories": [], "annotations": [{"image_id": 7}]}',
            r"annotations of 1 pictures that it does not list, such as 7",
        ),
        (
            '{"images": [], "annotations": [], "categories": [{"id": 3, "name": "cell"}]}',
            r"category 3 is cell, expected COCO's own, car; for classes of your own take data=voc_xml",
        ),
    ],
)
def test_a_broken_file_is_refused(content, message, root, load):
    (root / "annotations/instances_val2017.json").write_text(content)
    with pytest.raises(UsageError, match=message) as error:
        load("coco", root=str(root), held_back=1).setup()
    assert "\n" not in str(error.value)


def test_a_missing_file_or_folder_is_named(root, load):
    (root / "annotations/instances_val2017.json").unlink()
    with pytest.raises(
        UsageError, match=r"data\.root=.*: no .*instances_val2017\.json; data\.root=PATH must hold COCO"
    ):
        load("coco", root=str(root), held_back=1).setup()


def test_identity_knows_when_an_outline_changes(root, load):
    before = load("coco_segmentation", root=str(root), held_back=1).pictures("test").identity()
    path = root / "annotations/instances_val2017.json"
    content = json.loads(path.read_text())
    content["annotations"][0]["segmentation"][0][0] = 2.5
    path.write_text(json.dumps(content))
    assert load("coco_segmentation", root=str(root), held_back=1).pictures("test").identity() != before
