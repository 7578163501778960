"""Labelled images in folders, with and without a division of their own."""

import pytest

from bottlenecks.errors import UsageError


def test_a_single_folder_is_divided_in_three(tree, load):
    folder = tree({"dog": 20, "cat": 20})
    data = load("image_folder", root=str(folder))
    data.setup()
    parts = {split: data.images(split) for split in ("train", "val", "test")}
    assert {split: len(part) for split, part in parts.items()} == {"train": 29, "val": 3, "test": 8}
    assert len(set().union(*(part.names for part in parts.values()))) == 40
    assert data.class_names == ("cat", "dog")
    for part in parts.values():
        assert all(
            (target == 0) == name.startswith("cat") for name, target in zip(part.names, part.targets, strict=True)
        )


@pytest.mark.parametrize("evaluated", ["val", "test"])
def test_its_own_part_to_evaluate_on_is_kept_whole(evaluated, tree, load):
    folder = tree({"train/cat": 10, "train/dog": 10, f"{evaluated}/dog": 3})
    data = load("image_folder", root=str(folder))
    assert sorted(data.images("test").names) == [f"{evaluated}/dog/{index}.png" for index in range(3)]
    assert data.images("test").targets.tolist() == [1, 1, 1]
    assert len(data.images("train")) + len(data.images("val")) == 20


def test_nested_and_hidden_files(tree, load):
    folder = tree({"cat/indoors": 4, "dog": 4, ".cache/x": 1})
    (folder / "dog/.hidden").write_text("")
    data = load("image_folder", root=str(folder), held_back=1, test_part=1)
    data.setup()
    assert data.class_names == ("cat", "dog")
    assert sum(len(data.images(split)) for split in ("train", "val", "test")) == 8


def test_three_parts_warn_that_one_is_not_used(tree, load):
    folder = tree({"train/cat": 4, "val/cat": 2, "test/cat": 3})
    data = load("image_folder", root=str(folder), held_back=1)
    with pytest.warns(UserWarning, match=r"evaluated on test/; val/ is not used"):
        data.setup()
    assert len(data.images("test")) == 3


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({"train/cat": 3, "val/cow": 1}, r"1 folders in .*val are not among the classes of train/: cow"),
        ({"val/cat": 3}, r"has val/ but no train/; data\.root=.*val divides that one"),
        ({"": 3}, r"no folders of classes in .*data=pictures"),
        ({"train": 3}, r"no folders of classes in .*train"),
        ({"cat": 0, "dog": 0}, r"there are folders but no files"),
    ],
)
def test_unusable_layouts_say_why(counts, message, tree, load):
    with pytest.raises(UsageError, match=message) as error:
        load("image_folder", root=str(tree(counts))).setup()
    assert str(error.value).startswith("data.root=")
