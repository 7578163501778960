"""Splits are disjoint, stratified, and the same whatever else changes."""

import numpy as np
import pytest

from bottlenecks.errors import UsageError
from bottlenecks.training.images import least_share
from datamodules.source import ImageArrays
from datamodules.splits import divide, limit, stratified_order


def numbered(targets: list[int]) -> ImageArrays:
    arrays = np.zeros((len(targets), 2, 2), dtype=np.uint8)
    return ImageArrays(tuple(map(str, range(len(targets)))), np.array(targets), arrays)


@pytest.mark.parametrize("targets", [[3] * 30 + [7] * 60 + [1] * 10, [5, 1] * 50, [-1] * 100])
def test_every_stretch_has_the_classes_shares(targets):
    targets = np.array(targets)
    order = stratified_order(targets)
    assert sorted(order) == list(range(100))
    assert not np.array_equal(order, np.sort(order))
    for start in range(0, 90, 10):
        for label in np.unique(targets):
            share = (targets == label).mean()
            assert abs((targets[order[start : start + 10]] == label).sum() - 10 * share) <= 1


def test_one_image_a_class_is_enough():
    order = stratified_order(np.arange(50))
    assert sorted(order) == list(range(50))
    assert np.array_equal(order, stratified_order(np.arange(50)))


def test_divide_takes_a_number_or_a_share():
    images = numbered([0] * 20 + [1] * 20)
    rest, part = divide(images, 0.25, "data.held_back")
    assert (len(rest), len(part)) == (30, 10)
    assert part.targets.tolist().count(0) == 5
    assert set(rest.names) | set(part.names) == set(images.names)
    assert divide(images, 10, "data.held_back")[1].names == part.names


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (0, r"data\.held_back=0: takes 0 of 40"),
        (40, r"data\.held_back=40: takes 40 of 40"),
        (0.001, r"data\.held_back=0\.001: takes 0 of 40"),
        (1.0, r"data\.held_back=1\.0: takes 40 of 40"),
        (-0.5, r"data\.held_back=-0\.5: must be a number of images or a share between 0 and 1"),
        (2.5, r"data\.held_back=2\.5: must be a number"),
    ],
)
def test_divide_leaves_neither_side_empty(part, message):
    with pytest.raises(UsageError, match=message):
        divide(numbered([0] * 40), part, "data.held_back")


@pytest.mark.parametrize(
    ("part", "total", "expected"),
    [
        (0.1, 240, 40),  # 24 would tell epochs badly apart
        (0.1, 200, 40),
        (0.1, 199, 0.1),
        (0.1, 400, 0.1),
        (24, 240, 24),
        (0.0, 240, 0.0),
        (1.0, 240, 1.0),
        (0.5, 240, 0.5),
    ],
)
def test_a_share_holds_back_enough_where_there_are_enough(part, total, expected):
    assert least_share(part, total) == expected


def test_limit_keeps_the_first():
    images = numbered([0, 1, 2])
    assert limit(images, None, "data.limit_val") is images
    assert limit(images, 2, "data.limit_val").names == ("0", "1")
    assert len(limit(images, 9, "data.limit_val")) == 3
    for count in (0, -1, 1.5):
        with pytest.raises(UsageError, match=rf"data\.limit_val={count}: must be a number of images from 1"):
            limit(images, count, "data.limit_val")
