"""Every real file counts once, and none is both trained on and evaluated on, whatever links there are."""

import os

import pytest

import train
from bottlenecks.errors import UsageError
from tests.conftest import TINY
from tests.datamodules.conftest import write_mask

SPLITS = ("train", "val", "test")


def names(data) -> list[str]:
    return sorted(name for split in SPLITS for name in data.images(split).names)


@pytest.fixture
def root(tree):
    return tree({"cat": 6, "dog": 6})


@pytest.mark.parametrize(
    ("link", "target"),
    [
        ("latest", "cat"),
        ("archive", "cat"),
        ("cat/up", ".."),
        ("cat/far_up", "../.."),
        ("cat/itself", "."),
        ("dog/more", "../cat"),
        ("cat/copy.png", "0.png"),
        ("dog/copy.png", "../cat/0.png"),
    ],
)
@pytest.mark.parametrize("data", ["image_folder", "pictures"])
@pytest.mark.filterwarnings("ignore:.*lead to files that count already", "ignore:.*no class")
def test_links_add_nothing(data, link, target, root, load):
    before = names(load(data, root=str(root), held_back=2))
    os.symlink(target, root / link)
    linked = load(data, root=str(root), held_back=2)
    assert names(linked) == before and len(before) == 12
    assert linked.class_names == (("cat", "dog") if data == "image_folder" else ())
    if data == "image_folder":
        assert all(
            (target == 0) == name.startswith("cat/")
            for split in SPLITS
            for name, target in zip(linked.images(split).names, linked.images(split).targets, strict=True)
        )


def test_what_does_not_count_is_named(root, load):
    os.symlink("cat", root / "latest")
    with pytest.warns(UserWarning) as caught:
        load("image_folder", root=str(root), held_back=2).setup()
    said = " ".join(str(warning.message) for warning in caught)
    assert "6 paths lead to files that count already: latest/0.png" in said
    assert "no class, for want of images of its own" in said and ": latest" in said


def test_folders_elsewhere_may_be_linked(tree, load, tmp_path):
    tree({"store/cat": 6, "store/.deep/dog": 6})
    (tmp_path / "data").mkdir()
    os.symlink("../store/cat", tmp_path / "data/cat")
    os.symlink("../store/.deep/dog", tmp_path / "data/dog")
    os.symlink("../../data", tmp_path / "store/cat/back")
    data = load("image_folder", root=str(tmp_path / "data"), held_back=2)
    assert len(names(data)) == 12 and data.class_names == ("cat", "dog")


def test_links_in_a_ring_end(tree, load, tmp_path):
    tree({f"ring/{letter}": 1 for letter in "abcdefgh"})
    for first in "abcdefgh":
        for second in "abcdefgh":
            os.symlink(f"../{second}", tmp_path / "ring" / first / f"to_{second}")
    assert len(names(load("pictures", root=str(tmp_path / "ring"), held_back=1))) == 8


def test_one_file_of_two_classes_is_refused(root, load):
    os.link(root / "cat/0.png", root / "dog/9.png")
    with pytest.raises(UsageError, match=r"cat/0\.png and dog/9\.png are one file with two classes; remove one"):
        load("image_folder", root=str(root)).setup()


@pytest.mark.parametrize("how", ["folder", "file", "hard"])
@pytest.mark.parametrize("data", ["image_folder", "pictures"])
def test_what_is_evaluated_is_never_trained_on(data, how, tree, command):
    root = tree({"train/cat": 6, "val/dog": 1})
    if how == "folder":
        os.symlink("../train/cat", root / "val/cat")
    else:
        (root / "val/cat").mkdir()
        place = root / "val/cat/9.png"
        os.symlink("../../train/cat/3.png", place) if how == "file" else os.link(root / "train/cat/3.png", place)
    if data == "image_folder":
        tree({"train/dog": 1})
    evaluated = "0" if how == "folder" else "9"
    status, error = command(train.main, *TINY, f"data={data}", f"data.root={root}")
    trained = "0" if how == "folder" else "3"
    expected = f"train/cat/{trained}.png, to train on, and val/cat/{evaluated}.png, to evaluate on, are one file"
    assert status == 2 and expected in error and f"data.root={root}" in error


def test_one_image_under_two_annotations_is_refused(tree, load):
    root = tree({"images": 6})
    os.link(root / "images/0.png", root / "images/9.png")
    for index in (*range(6), 9):
        write_mask(root / "labels" / f"{index}.png", [[0] * 16] * 12)
    with pytest.raises(UsageError, match=r"images/0\.png and images/9\.png are one file with two annotations"):
        load("camvid", root=str(root)).setup()


def test_a_list_that_names_an_image_twice_counts_it_once(tmp_path, load):
    from tests.datamodules.test_voc import write_devkit

    root = write_devkit(tmp_path)
    (root / "ImageSets/Main/train.txt").write_text("0\n1\n2\n2\n1\n3\n")
    with pytest.warns(UserWarning, match="2 paths lead to files that count already"):
        data = load("voc_detection", root=str(root), held_back=1)
        assert len(data._splits["train"]) + len(data._splits["val"]) == 4
    (root / "ImageSets/Main/val.txt").write_text("7\n3\n")
    with (
        pytest.warns(UserWarning),
        pytest.raises(UsageError, match=r"JPEGImages/3\.jpg, to train on, and JPEGImages/3\."),
    ):
        load("voc_detection", root=str(root), held_back=1).setup()
