"""Folders as people have them: names of splits in any spelling, what systems leave behind, what is empty or unused."""

import pytest

from bottlenecks.errors import UsageError
from datamodules.layout import SYSTEM
from tests.datamodules.conftest import write_mask, write_xml

CLASSES = {"image_folder": ("cat", "dog"), "imagenet": ("n01440764", "n03028079"), "cifar10": ("cat", "dog")}


@pytest.fixture
def folders(tree):
    """Return a function that makes the folders of a dataset from the names of its parts."""

    def make(name, train, evaluated):
        if name in ("camvid", "voc_xml", "bccd"):
            root = tree({f"{train}/images": 6, f"{evaluated}/images": 3})
            for part, count in ((train, 6), (evaluated, 3)):
                for index in range(count):
                    write_mask(root / part / "labels" / f"{index}.png", [[0] * 16] * 12)
                    write_xml(root / part / "annotations" / f"{index}.xml", ("RBC", 1, 2, 9, 10))
            return root
        if name == "pictures":
            return tree({train: 6, evaluated: 3})
        first, second = CLASSES[name]
        return tree({f"{train}/{first}": 3, f"{train}/{second}": 3, f"{evaluated}/{first}": 3})

    return make


@pytest.mark.parametrize(
    ("train", "evaluated"),
    [("Train", "Val"), ("training", "VALIDATION"), ("TRAIN", "valid"), ("training_set", "Val-Set")],
)
@pytest.mark.parametrize("name", ["image_folder", "imagenet", "pictures"])
@pytest.mark.filterwarnings("ignore:.*is not used|.*not used in")
def test_splits_are_known_by_their_usual_names(name, train, evaluated, folders, load):
    if name == "imagenet":
        pytest.importorskip("timm")
    data = load(name, root=str(folders(name, train, evaluated)), held_back=1)
    assert {file.split("/")[0] for file in data.images("test").names} == {evaluated}
    assert len(data.images("test")) == 3
    assert {file.split("/")[0] for file in data.images("train").names + data.images("val").names} == {train}


@pytest.mark.parametrize("name", ["camvid", "voc_xml", "bccd", "cifar10"])
@pytest.mark.filterwarnings("ignore:.*not used in")
def test_so_they_are_where_a_part_of_a_dataset_is_evaluated_on(name, folders, load):
    data = load(name, root=str(folders(name, "Training", "Testing")), held_back=1)
    assert {file.split("/")[0] for file in data.images("test").names} == {"Testing"}
    assert len(data.images("test")) == 3


def test_a_split_that_is_there_twice_is_refused(tree, load):
    root = tree({"train/cat": 2, "val/cat": 1, "Validation/cat": 1})
    with pytest.raises(UsageError, match=r"both Validation/ and val/ are there; keep one of them"):
        load("image_folder", root=str(root)).setup()


def test_a_class_may_be_called_train(tree, load):
    data = load("image_folder", root=str(tree({"bus": 5, "car": 5, "train": 5})), held_back=1)
    data.setup()
    assert data.class_names == ("bus", "car", "train")
    assert sum(len(data.images(split)) for split in ("train", "val", "test")) == 15


@pytest.mark.parametrize("system", [*sorted(SYSTEM), "@eaDir", "__MACOSX", ".ipynb_checkpoints"])
@pytest.mark.parametrize("place", ["", "cat/"])
def test_what_systems_leave_behind_is_no_data(place, system, tree, load):
    root = tree({"cat": 5, "dog": 5, f"{place}{system}": 2})
    data = load("image_folder", root=str(root), held_back=1)
    data.setup()
    assert data.class_names == ("cat", "dog")
    assert sum(len(data.images(split)) for split in ("train", "val", "test")) == 10
    assert (
        sum(len(load("pictures", root=str(root), held_back=1)._splits[part]) for part in ("train", "val", "test")) == 10
    )


def test_empty_classes_are_named_and_none(tree, load):
    root = tree({"train/cat": 5, "train/dog": 5, "train/new": 0, "val/cat": 2})
    data = load("image_folder", root=str(root), held_back=1)
    with pytest.warns(UserWarning, match=r"no class, for want of images of its own in .*train: new"):
        assert data.class_names == ("cat", "dog")
    (root / "val/new").mkdir()
    (root / "val/new/0.png").write_bytes((root / "val/cat/0.png").read_bytes())
    with (
        pytest.warns(UserWarning, match="no class"),
        pytest.raises(UsageError, match=r"1 folders in .*val are not among the classes of train/: new"),
    ):
        load("image_folder", root=str(root)).setup()


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({"train/cat": 5, "val/cat": 2, "old/cat": 2}, r"evaluated on val/; old/ is not used"),
        ({"train/cat": 5, "test/cat": 2, "valid/cat": 2, "raw": 1}, r"evaluated on test/; valid/, raw/ are not used"),
        (
            {"train/cat": 9, "old/cat": 2},
            r"divided .*train/, there is no test and no val; old/ is not used",
        ),
    ],
)
def test_unused_folders_are_named(counts, message, tree, load):
    with pytest.warns(UserWarning, match=message):
        load("image_folder", root=str(tree(counts)), held_back=1).setup()


@pytest.mark.parametrize("inner", [("cat", "dog"), ("train/cat", "val/cat")])
def test_a_folder_around_the_dataset_is_named(inner, tree, load):
    root = tree({f"flowers/{name}": 5 for name in inner})
    with pytest.warns(UserWarning, match=r"one class alone, flowers/, which holds folders; .*data\.root='.*/flowers'"):
        load("image_folder", root=str(root), held_back=1).setup()


def test_unused_folders_beside_annotations_are_named(folders, load, tree):
    root = folders("voc_xml", "train", "val")
    with pytest.warns(UserWarning, match=r"not used in .*: labels"):
        load("voc_xml", root=str(root), held_back=1).setup()


def test_parts_of_images_that_are_not_both_there_are_one_folder(tree, load):
    data = load("pictures", root=str(tree({"train": 5, "more/val": 5})), held_back=1)
    assert sum(len(data.images(split)) for split in ("train", "val", "test")) == 10
