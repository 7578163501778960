"""One's own masks, as class numbers or as colours, and the real commands."""

import numpy as np
import pytest
import torch
from PIL import Image

from bottlenecks.errors import UsageError
from bottlenecks.images.preprocessing import Preprocessing
from evaluate import evaluate
from tests.conftest import TINY_SEGMENTER, configure, quiet
from tests.datamodules.conftest import write_mask
from train import train

AS_IT_IS = Preprocessing(None, None, (0.5,) * 3, (0.5,) * 3)
COLOURS = {"sky": [0, 0, 255], "road": [128, 64, 128], "car": [1, 0, 142]}
NAMES = ["sky", "road", "car"]
PAINTED = np.array([*COLOURS.values(), [0, 0, 0]], np.uint8)


def numbers(seed: int, most: int = 4) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, most, (12, 16)).astype(np.uint8)


def expected(seed: int) -> torch.Tensor:
    return torch.from_numpy(np.where(numbers(seed) == 3, -1, numbers(seed))).long()


def write_grey(path, seed):
    write_mask(path.with_suffix(".png"), np.where(numbers(seed) == 3, 255, numbers(seed)))


def write_palette(path, seed):
    image = Image.fromarray(np.where(numbers(seed) == 3, 255, numbers(seed)).astype(np.uint8))
    image.putpalette(PAINTED.tobytes() * 64)
    image.save(path.with_suffix(".PNG"))


def write_colours(path, seed):
    Image.fromarray(PAINTED[numbers(seed)]).save(path.with_suffix(".bmp"))


def write_colours_of_a_palette(path, seed):
    image = Image.fromarray(3 - numbers(seed))
    image.putpalette(PAINTED[::-1].tobytes())
    image.save(path.with_suffix(".gif"))


def write_with_alpha(path, seed):
    Image.fromarray(PAINTED[numbers(seed)]).convert("RGBA").save(path.with_suffix(".png"))


def make(tree, write, parts=(("train", 6), ("val", 3))):
    root = tree({f"{part}/images": count for part, count in parts})
    for part, count in parts:
        (root / part / "masks").mkdir()
        for index in range(count):
            write(root / part / "masks" / str(index), index)
    return root


@pytest.mark.parametrize(
    ("write", "classes", "void"),
    [
        (write_grey, NAMES, 255),
        (write_palette, NAMES, 255),
        (write_colours, COLOURS, [0, 0, 0]),
        (write_colours_of_a_palette, COLOURS, [0, 0, 0]),
        (write_with_alpha, COLOURS, [0, 0, 0]),
    ],
)
def test_masks_of_all_kinds(write, classes, void, tree, load):
    data = load("mask_folder", root=str(make(tree, write)), held_back=2, classes=classes, void=void, preprocessing=None)
    data.preprocessing = AS_IT_IS
    data.setup()
    assert [len(data.images(split)) for split in ("train", "val", "test")] == [4, 2, 3]
    assert (data.task, data.labels, data.class_names) == ("segmentation", "own", tuple(NAMES))
    found = {name: target for name, (_, target) in zip(data.images("test").names, data._dataset("test"), strict=True)}
    assert all(torch.equal(found[f"val/images/{index}.png"], expected(index)) for index in range(3))


def test_a_single_folder_is_divided(tree, load):
    root = tree({"images": 10})
    for index in range(10):
        write_mask(root / f"masks/{index}.png", numbers(index, 3))
    data = load("mask_folder", root=str(root), classes=NAMES, void=None, held_back=2, test_part=3)
    data.setup()
    assert [len(data.images(split)) for split in ("train", "val", "test")] == [5, 2, 3]


@pytest.mark.parametrize(
    ("write", "classes", "void", "message"),
    [
        (
            write_grey,
            NAMES[:2],
            255,
            r"val/masks/0\.png: label 2 at row \d+, column \d+; expected 0 to 1, or 255 for none",
        ),
        (write_grey, NAMES, None, r"val/masks/0\.png: label 255 at row \d+, column \d+; expected 0 to 2\)"),
        (write_colours, NAMES, None, r"val/masks/0\.bmp: RGB pixels; expected class numbers"),
        (write_colours, COLOURS, None, r"0\.bmp: colour \[0,0,0\] at row .*; expected the colours of 3 classes\)"),
        (
            write_colours,
            {"sky": [0, 0, 255], "road": [128, 64, 128]},
            [0, 0, 0],
            r"0\.bmp: colour \[1,0,142\] at row .*; expected the colours of 2 classes, or colour \[0,0,0\]",
        ),
    ],
)
def test_unknown_labels_and_colours_are_named(write, classes, void, message, tree, load):
    root = make(tree, write)
    with pytest.raises(UsageError, match=message):
        load("mask_folder", root=str(root), classes=classes, void=void, limit_test=None).setup("test")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": ["road"]}, r"data\.classes=\['road'\]: expected two names or more, each once, as \[road,car\]"),
        ({"classes": ["a", "a"]}, r"data\.classes=\['a', 'a'\]: expected"),
        ({"classes": "road"}, r"data\.classes=road: expected"),
        ({"classes": {"a": [0, 0, 0], "b": [0, 0]}}, r"data\.classes\.b=\[0, 0\]: expected red, green and blue"),
        ({"classes": {"a": [0, 0, 0], "b": [0, 0, 256]}}, r"data\.classes\.b=\[0, 0, 256\]: expected red"),
        ({"classes": {"a": [0, 0, 0], "b": [0, 0, 0]}}, r"\[0, 0, 0\] is the colour of two classes"),
        ({"classes": COLOURS, "void": 300}, r"data\.void=300: expected red, green and blue"),
        ({"classes": NAMES, "void": [0, 0, 0]}, r"data\.void=\[0, 0, 0\]: expected the number of pixels"),
    ],
)
def test_settings_that_cannot_be_used_are_named(options, message, tree, load):
    root = make(tree, write_grey)
    with pytest.raises(Exception, match=message) as error:
        load("mask_folder", root=str(root), **options).setup()
    assert isinstance(error.value.__cause__ or error.value, UsageError)


def test_classes_without_names_are_those_that_are_found(tree, load):
    data = load("mask_folder", root=str(make(tree, write_grey)), held_back=1)
    data.setup()
    assert data.class_names == ("0", "1", "2")
    write_mask(tmp := data._pairs[0] / "val/masks/1.png", numbers(1, 3) + 1)
    with pytest.raises(UsageError, match=r"val/masks/1\.png: label 3 at row .*; expected 0 to 2, or 255 for none"):
        load("mask_folder", root=str(tmp.parents[2]), held_back=1).setup("test")


@pytest.mark.parametrize("classes", [None, ["background", "object"]])
def test_masks_with_no_class_but_the_background_are_told(classes, tree, load):
    root = make(tree, lambda path, seed: write_mask(path.with_suffix(".png"), 255 * (numbers(seed) > 1)))
    with pytest.warns(UserWarning, match=r"data\.void=255: the first 6 masks have no class but 0 beside it; .*\[255,"):
        load("mask_folder", root=str(root), classes=classes, held_back=1).setup()
    named = {"background": [0, 0, 0], "object": [255, 255, 255]}  # as the warning has it
    data = load("mask_folder", root=str(root), classes=named, void=None, held_back=1)
    data.setup()
    assert data.class_names == ("background", "object")


def test_a_mask_that_is_missing_or_there_twice_is_named(tree, load):
    root = make(tree, write_grey)
    write_mask(root / "val/masks/1.bmp", numbers(0, 3))
    with pytest.raises(UsageError, match=r"both 1\.bmp and 1\.png are in .*val/masks; keep one of them"):
        load("mask_folder", root=str(root), classes=NAMES).setup()
    for name in ("1.bmp", "1.png"):
        (root / "val/masks" / name).unlink()
    with pytest.raises(UsageError, match=r"val/images/1\.png \(val/masks/1\.png: No such file"):
        load("mask_folder", root=str(root), classes=NAMES).setup("test")


@pytest.mark.slow
@pytest.mark.parametrize("write", [pytest.param(write_grey, marks=pytest.mark.slow), write_colours])
def test_a_network_and_a_unit_train_on_it_and_are_evaluated(write, tree, tmp_path_factory):
    place = tmp_path_factory.mktemp("runs")
    root = make(tree, write, (("train", 12), ("val", 3)))
    given = [
        *TINY_SEGMENTER,
        "split=body",
        "data=mask_folder",
        f"data.root={root}",
        "data.held_back=4",
        "data.image_size=[64,64]",
        "data.num_workers=0",
        "data.batch_size=4",
        "logger=none",
    ]
    if write is write_colours:
        given += ["data.classes={sky:[0,0,255],road:[128,64,128],car:[1,0,142]}", "data.void=[0,0,0]"]
    train(configure("train", place, *quiet([*given, "stage=backbone", "backbone.epochs=1"])))
    few = ["training.epochs=1", "data.augment=false", "training.fit_images=8", "lambda=0.1"]
    few += ["unit.structure=separable", "unit.block=8", "unit.restorer=0"]
    (rate,) = train(configure("train", place, *quiet([*given, *few])))
    curve = evaluate(configure("evaluate", place, *given, "timed_images=1", "workers=0"))
    assert rate.exists() and curve.num_images == 3 and curve.metric == "miou"
