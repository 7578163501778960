"""COCO's boxes and masks from a small file of its kind."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from bottlenecks.errors import UsageError
from bottlenecks.images.preprocessing import Preprocessing
from tests.datamodules.conftest import write_coco
from tests.images.test_reading import write_turned

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
    return {name: dataset[index][1] for index, name in enumerate(data.images("test").names)}


def test_boxes(root, load):
    data = load("coco", root=str(root), held_back=1, preprocessing=None)
    data.setup()
    assert [len(data.images(split)) for split in ("train", "val", "test")] == [3, 1, 4]
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
        ("coco", {**PERSON, "bbox": [1, 2, 3]}, r"annotation 0 has no bbox of four numbers"),
        ("coco", {**PERSON, "bbox": [1, 2, -3, 4]}, r"box 1, \[1, 2, -2, 6\], "),
        ("coco", {**PERSON, "bbox": [1, 2, 30, 4]}, r"box 1, \[1, 2, 31, 6\], does not lie in the image of 16x12"),
        ("coco", {**PERSON, "bbox": [float("nan"), 2, 3, 4]}, r"box 1, \[nan, 2, nan, 6\], does not lie in"),
        ("coco", {**PERSON, "bbox": None}, r"annotation 0 has no bbox of four numbers"),
        ("coco", {**PERSON, "bbox": [10**400, 2, 3, 4]}, r"annotation 0 has no bbox of four numbers"),
        ("coco_segmentation", {**PERSON, "segmentation": []}, r"annotation 0: it has no outline"),
        (
            "coco_segmentation",
            {**PERSON, "segmentation": [[1, 2, 3]]},
            r"annotation 0: its polygon is no list of x and y in turn",
        ),
        (
            "coco_segmentation",
            {**PERSON, "segmentation": {"size": [4, 4], "counts": [16]}},
            r"annotation 0: its outline is neither",
        ),
    ],
)
def test_unusable_annotations_are_refused_or_left_out(name, entry, message, root, load):
    write_coco(root, "val2017", [entry])
    expected = rf"data\.root=.*: 1 of 4 images have annotations of no use: val2017/0\.jpg \({message}"
    with pytest.raises(UsageError, match=expected):
        load(name, root=str(root), held_back=1).setup("test")
    data = load(name, root=str(root), held_back=1, skip_damaged=True)
    with pytest.warns(UserWarning, match="left out 1 of 4"):
        assert len(data.images("test")) == 3


@pytest.mark.parametrize("name", ["coco", "coco_segmentation"])
@pytest.mark.parametrize("category", [91, 2, 0, "1", 1.5, None, True, [1], float("inf"), float("nan"), 10**400])
def test_categories_that_the_file_does_not_list_are_refused_in_both(category, name, root, load):
    write_coco(root, "val2017", [SIGN, {**PERSON, "category_id": category}])
    expected = r"val2017/0\.jpg \(annotation 1 is of category .*, which instances_val2017\.json does not list\)"
    with pytest.raises(UsageError, match=expected):
        load(name, root=str(root), held_back=1).setup("test")


@pytest.mark.parametrize("name", ["coco", "coco_segmentation"])
def test_whole_numbers_may_be_written_with_a_point(name, root, load):
    before = targets(load(name, root=str(root), held_back=1))
    runs = {"size": [12, 16], "counts": [180.0, 12.0]}
    entries = [{**entry, "category_id": float(entry["category_id"])} for entry in ENTRIES]
    entries[4]["segmentation"] = runs
    write_coco(root, "val2017", entries)
    after = targets(load(name, root=str(root), held_back=1))
    assert all(torch.equal(before[key], after[key]) for key in before) and before.keys() == after.keys()


@pytest.mark.parametrize("name", ["coco", "coco_segmentation"])
@pytest.mark.parametrize("crowd", [None, False, "0", "false", 0.0])
def test_what_is_no_crowd_is_there_however_it_is_written(crowd, name, root, load):
    before = targets(load(name, root=str(root), held_back=1))
    write_coco(root, "val2017", [{"iscrowd": crowd, **entry} for entry in ENTRIES])
    after = targets(load(name, root=str(root), held_back=1))
    assert all(torch.equal(before[key], after[key]) for key in before) and before.keys() == after.keys()


@pytest.mark.parametrize("spelling", ["a\0.jpg", "\ud800.jpg"])
def test_a_name_that_no_file_can_have_is_a_damaged_image(spelling, root, load):
    images = [{"id": 10 + n, "file_name": f"{n}.jpg", "width": 16, "height": 12} for n in range(4)]
    images.append({"id": 99, "file_name": spelling, "width": 16, "height": 12})
    write_coco(root, "val2017", ENTRIES, images=images)
    with pytest.raises(UsageError, match="1 of 5 files cannot be read"):
        load("coco", root=str(root), held_back=1).setup("test")


SPELLINGS = ["1.jpg", "./1.jpg", "folder/../1.jpg", "folder\\..\\1.jpg", "link.jpg", "folder/1.jpg"]


@pytest.mark.parametrize("name", ["coco", "coco_segmentation"])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_an_image_that_is_listed_twice_is_refused(spelling, name, root, load):
    images = [{"id": 10 + n, "file_name": f"{n}.jpg", "width": 16, "height": 12} for n in range(4)]
    images.append({"id": 99, "file_name": spelling, "width": 16, "height": 12})
    write_coco(root, "val2017", [PERSON, {**PERSON, "image_id": 11}, {**PERSON, "image_id": 99}], images=images)
    (root / "val2017/folder").mkdir()
    (root / "val2017/link.jpg").symlink_to("1.jpg")
    (root / "val2017/folder/1.jpg").hardlink_to(root / "val2017/1.jpg")
    with pytest.raises(UsageError, match=r"1\.jpg \(listed 2 times in instances_val2017\.json, as images 11, 99\)"):
        load(name, root=str(root), held_back=1).setup("test")
    data = load(name, root=str(root), held_back=1, skip_damaged=True)
    with pytest.warns(UserWarning, match="left out 1 of 4"):
        assert len(data.images("test")) == 3


def test_one_spelling_of_a_file_is_as_good_as_another(root, load):
    images = [{"id": 10 + n, "file_name": f".\\{n}.jpg", "width": 16, "height": 12} for n in range(4)]
    before = targets(load("coco", root=str(root), held_back=1))
    write_coco(root, "val2017", ENTRIES, images=images)
    assert {name: target.tolist() for name, target in targets(load("coco", root=str(root), held_back=1)).items()} == {
        name: target.tolist() for name, target in before.items()
    }


@pytest.mark.parametrize("name", ["coco", "coco_segmentation"])
def test_a_size_that_is_not_the_images_is_refused(name, root, load):
    images = [{"id": 10 + n, "file_name": f"{n}.jpg", "width": 16 + 4 * (n == 2), "height": 12} for n in range(4)]
    write_coco(root, "val2017", [PERSON], images=images)
    with pytest.raises(UsageError, match=r"val2017/2\.jpg \((annotation for|mask of) 20x12, image of 16x12"):
        load(name, root=str(root), held_back=1).setup("test")


@pytest.mark.parametrize("orientation", [2, 3, 6, 7])
@pytest.mark.parametrize("name", ["coco", "coco_segmentation"])
def test_what_is_marked_on_the_upright_image_stays_in_its_place(orientation, name, root, load):
    pixels = np.zeros((12, 16, 3), np.uint8)
    pixels[3:9, 2:7] = 255
    expected = targets(load(name, root=str(root), held_back=1, preprocessing=None))["val2017/0.jpg"]
    write_turned(root / "val2017/0.jpg", pixels, orientation)
    data = load(name, root=str(root), held_back=1, preprocessing=None)
    data.preprocessing = AS_IT_IS
    image, target = data._dataset("test")[data.images("test").names.index("val2017/0.jpg")]
    assert image.shape == (3, 12, 16) and torch.equal(target, expected)
    assert image[:, 5:7, 4:6].min() > 0.8 and image[:, 10:, :].max() < -0.5
    Image.open(root / "val2017/0.jpg").save(root / "val2017/0.jpg", quality=95)  # the orientation is lost
    if orientation >= 5:
        with pytest.raises(UsageError, match=r"val2017/0\.jpg \((annotation for|mask of) 16x12, image of 12x16"):
            load(name, root=str(root), held_back=1, preprocessing=None).setup("test")


@pytest.mark.parametrize("name", ["coco", "coco_segmentation"])
def test_images_and_the_file_have_to_agree(name, root, load):
    Image.new("RGB", (16, 12)).save(root / "val2017/9.jpg")
    with pytest.raises(UsageError, match=r"val2017/9\.jpg \(not listed in instances_val2017\.json\)"):
        load(name, root=str(root), held_back=1).setup("test")
    (root / "val2017/9.jpg").unlink()
    (root / "val2017/1.jpg").unlink()
    with pytest.raises(UsageError, match=r"cannot be read as images: val2017/1\.jpg \(No such file"):
        load(name, root=str(root), held_back=1).setup("test")


def test_a_mask_of_another_size_than_its_image_is_refused(root, load):
    Image.new("RGB", (12, 16)).save(root / "val2017/1.jpg")
    with pytest.raises(UsageError, match=r"val2017/1\.jpg \(mask of 16x12, image of 12x16\)"):
        load("coco_segmentation", root=str(root), held_back=1).setup("test")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"instances_val2017\.json: no JSON \(Expecting value.*; put COCO's own file there"),
        ('{"images": []}', r"no annotation file of COCO \(lacks 'categories'\)"),
        ("[]", r"no annotation file of COCO \(list indices"),
        (
            '{"images": [], "categories": [], "annotations": [{"image_id": 7}]}',
            r"annotations of 1 images that it does not list, such as 7",
        ),
        (
            '{"images": [], "annotations": [], "categories": [{"id": 1, "name": "person"}, {"id": 1, "name": "dog"}]}',
            r"no annotation file of COCO \(category 1 is there 2 times\)",
        ),
        (
            '{"images": [], "annotations": [], "categories": [{"id": 1.5, "name": "person"}]}',
            r"no annotation file of COCO \(1\.5 is no whole number\)",
        ),
        (
            '{"images": [], "annotations": [], "categories": [{"id": Infinity, "name": "person"}]}',
            r"no annotation file of COCO \(inf is no whole number\)",
        ),
        (
            '{"images": [], "annotations": [], "categories": [{"id": 3, "name": "cell"}]}',
            r"category 3 is cell, expected COCO's own, car; for classes of your own take data=coco_file",
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
    before = load("coco_segmentation", root=str(root), held_back=1).images("test").identity()
    path = root / "annotations/instances_val2017.json"
    content = json.loads(path.read_text())
    content["annotations"][0]["segmentation"][0][0] = 2.5
    path.write_text(json.dumps(content))
    assert load("coco_segmentation", root=str(root), held_back=1).images("test").identity() != before
