"""Unlabelled images, flat or nested."""

import os


def test_flat_and_nested_images_are_divided_in_three(tree, load):
    folder = tree({"": 10, "a/b": 20, ".trash": 3})
    data = load("pictures", root=str(folder))
    data.setup()
    names = [data.images(split).names for split in ("train", "val", "test")]
    assert [len(part) for part in names] == [22, 2, 6]
    assert len(set().union(*names)) == 30
    assert (data.labels, data.num_classes, data.class_names) == ("none", None, ())


def test_targets_are_minus_one(tree, load):
    data = load("pictures", root=str(tree({"": 10})))
    for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader()):
        assert all((targets == -1).all() for _, targets in loader)


def test_the_division_does_not_depend_on_the_order_of_the_file_system(tree, load, monkeypatch):
    folder = str(tree({"": 10, "a": 10}))
    first = load("pictures", root=folder).images("test").names
    walked = list(os.walk(folder))
    monkeypatch.setattr(os, "walk", lambda *args, **options: reversed(walked))
    assert load("pictures", root=folder).images("test").names == first
