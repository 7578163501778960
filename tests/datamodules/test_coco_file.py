"""One's own files of COCO's format: how people lay them out, boxes and masks, and the real commands."""

import json
import shutil

import numpy as np
import pytest
import torch

import train as program
from bottlenecks.errors import UsageError
from bottlenecks.images.preprocessing import Preprocessing
from evaluate import evaluate
from tests.conftest import TINY_SEGMENTER, configure, quiet
from tests.datamodules.conftest import write_images
from train import train

AS_IT_IS = Preprocessing(None, None, (0.5,) * 3, (0.5,) * 3)
CATEGORIES = [{"id": 7, "name": "screw"}, {"id": 3, "name": "nut"}, {"id": 40, "name": "washer"}]
SQUARE = [[2, 3, 7, 3, 7, 9, 2, 9]]


def write_part(file, folder, count, prefix="", categories=CATEGORIES):
    """Write images of 16x12 and a file that marks a screw in each, and a nut in the first."""
    write_images(folder, count, ".jpg")
    screw = {"category_id": 7, "bbox": [2, 3, 5, 6], "segmentation": SQUARE, "iscrowd": 0}
    nut = {**screw, "category_id": 3, "bbox": [8, 0, 4, 4], "segmentation": [[8, 0, 12, 0, 12, 4, 8, 4]]}
    content = {
        "images": [{"id": n, "file_name": f"{prefix}{n}.jpg", "width": 16, "height": 12} for n in range(count)],
        "categories": categories,
        "annotations": [{"id": n, "image_id": n, **screw} for n in range(count)]
        + [{"id": count, "image_id": 0, **nut}],
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))


def beside(root):
    write_part(root / "train/_annotations.coco.json", root / "train", 6)
    write_part(root / "valid/_annotations.coco.json", root / "valid", 3)
    (root / "train/README.txt").write_text("exported")
    return {}


def in_folders(root):
    for part, count in (("train", 6), ("test", 3)):
        write_part(root / part / "annotations/instances.json", root / part / "images", count)
    return {}


def as_coco(root):
    write_part(root / "annotations/instances_train.json", root / "train", 6)
    write_part(root / "annotations/instances_val.json", root / "val", 3)
    return {
        "annotations": ["annotations/instances_train.json", "annotations/instances_val.json"],
        "images": ["train", "val"],
    }


def one_folder(root):
    write_part(root / "annotations/a.json", root / "images/a", 6, "a/")
    write_part(root / "annotations/b.json", root / "images/b", 3, "b/")
    return {"annotations": ["annotations/a.json", "annotations/b.json"]}


@pytest.mark.parametrize("layout", [beside, in_folders, as_coco, one_folder])
def test_layouts(layout, tmp_path, load):
    data = load("coco_file", root=str(tmp_path), held_back=2, preprocessing=None, **layout(tmp_path))
    data.setup()
    assert [len(data.images(split)) for split in ("train", "val", "test")] == [4, 2, 3]
    assert (data.task, data.labels, data.class_names) == ("detection", "own", ("nut", "screw", "washer"))
    data.preprocessing = AS_IT_IS
    names = data.images("test").names
    image, target = data._dataset("test")[next(i for i, name in enumerate(names) if name.endswith("0.jpg"))]
    assert target.tolist() == [[1, 2, 3, 7, 9], [0, 8, 0, 12, 4]] and image.shape == (3, 12, 16)


def test_a_single_file_is_divided(tmp_path, load):
    write_part(tmp_path / "annotations/instances_default.json", tmp_path / "images", 10)
    data = load("coco_file", root=str(tmp_path), held_back=2, test_part=3)
    data.setup()
    assert [len(data.images(split)) for split in ("train", "val", "test")] == [5, 2, 3]


def test_masks_have_a_background(tmp_path, load):
    data = load("coco_file", root=str(tmp_path), learn="masks", held_back=1, preprocessing=None, **in_folders(tmp_path))
    data.preprocessing = AS_IT_IS
    assert (data.task, data.class_names) == ("segmentation", ("background", "nut", "screw", "washer"))
    target = data._dataset("test")[data.images("test").names.index("test/images/0.jpg")][1]
    expected = np.zeros((12, 16), int)
    expected[3:9, 2:7], expected[0:4, 8:12] = 2, 1
    assert target.tolist() == expected.tolist()


def test_images_that_no_file_lists_are_named(tmp_path, load):
    options = one_folder(tmp_path)
    write_images(tmp_path / "images/c", 5)
    with pytest.warns(UserWarning, match=r"not listed and not used in .*images: c/0\.png, c/1\.png, c/2\.png, \.\.\."):
        load("coco_file", root=str(tmp_path), held_back=1, **options).setup()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learn": "outlines"}, r"data\.learn=outlines: expected boxes or masks"),
        ({"annotations": ["a", "b", "c"]}, r"data\.annotations=.*: expected a path below data\.root"),
        ({"annotations": "lost.json"}, r"data\.root=.*: no .*lost\.json; data\.root=PATH must hold"),
        ({"images": "lost", "annotations": "train.json"}, r"data\.root=.*: no .*lost; data\.root=PATH must hold"),
        ({"images": ["train", "val"], "annotations": "train.json"}, r"data\.images=.*: 2 folders for 1 files"),
        ({}, r"2 files \*\.json in .*\(train\.json, val\.json\), expected one; data\.annotations=PATH"),
        ({"annotations": ["train.json", "val.json"]}, r"val\.json: category 7 is bolt, in .*train\.json it is screw"),
        ({"annotations": ["val.json", "none.json"]}, r"none\.json: category 9 is cat, in .*val\.json it is none"),
    ],
)
def test_what_cannot_be_used_is_named(options, message, tmp_path, load):
    write_part(tmp_path / "train.json", tmp_path, 3)
    write_part(tmp_path / "val.json", tmp_path, 3, categories=[{"id": 7, "name": "bolt"}, {"id": 3, "name": "nut"}])
    if "none.json" in str(options):
        empty = {"images": [], "annotations": [], "categories": [{"id": 9, "name": "cat"}]}
        (tmp_path / "none.json").write_text(json.dumps(empty))
    with pytest.raises(Exception, match=message) as error:
        load("coco_file", root=str(tmp_path), held_back=1, **options).setup()
    assert isinstance(error.value.__cause__ or error.value, UsageError)


def test_checked_as_the_others(tmp_path, load, command):
    in_folders(tmp_path)
    shutil.copy(tmp_path / "train/images/1.jpg", tmp_path / "test/images/4.jpg")
    (tmp_path / "test/images/4.jpg").unlink()
    (tmp_path / "test/images/4.jpg").hardlink_to(tmp_path / "train/images/1.jpg")
    path = tmp_path / "test/annotations/instances.json"
    content = json.loads(path.read_text())
    content["images"].append({"id": 50, "file_name": "4.jpg", "width": 16, "height": 12})
    path.write_text(json.dumps(content))
    status, error = command(program.main, "model=small_fcos", "data=coco_file", f"data.root={tmp_path}")
    assert (
        status == 2 and "train/images/1.jpg, to train on, and test/images/4.jpg, to evaluate on, are one file" in error
    )


@pytest.mark.slow
@pytest.mark.parametrize("learn", ["boxes", "masks"])
def test_a_network_and_a_unit_train_on_it_and_are_evaluated(learn, tmp_path):
    for part in ("train", "val"):
        write_part(tmp_path / "data" / part / "a.json", tmp_path / "data" / part, 12 if part == "train" else 3)
    network = (
        ["model=small_fcos"]
        if learn == "boxes"
        else [
            *TINY_SEGMENTER,
            "split=body",
        ]
    )
    given = [*network, "data=coco_file", f"data.root={tmp_path / 'data'}", f"data.learn={learn}", "data.held_back=4"]
    given += ["data.image_size=[64,64]", "data.num_workers=0", "logger=none", "data.batch_size=4"]
    train(configure("train", tmp_path, *quiet([*given, "stage=backbone", "backbone.epochs=1"])))
    few = ["training.epochs=1", "data.augment=false", "training.fit_images=8", "lambda=0.1"]
    few += ["unit.structure=separable", "unit.block=8", "unit.restorer=0"]
    (rate,) = train(configure("train", tmp_path, *quiet([*given, *few])))
    curve = evaluate(configure("evaluate", tmp_path, *given, "timed_images=1", "workers=0"))
    assert rate.exists() and curve.num_images == 3 and curve.metric == ("map" if learn == "boxes" else "miou")
    assert torch.tensor(curve.points[0][curve.metric]) >= 0
