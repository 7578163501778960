"""Boxes and masks as targets, whatever they were read from."""

import re

import numpy as np
import pytest
import torch

from bottlenecks.images.geometry import Step
from datamodules.annotations import Boxes, MaskArrays
from datamodules.source import ImageArrays

SAME = Step((20, 10), (20, 10), (0, 0), (20, 10))
RIGHT = Step((20, 10), (20, 10), (10, 0), (10, 10))


def images(targets) -> ImageArrays:
    arrays = np.zeros((len(targets), 10, 20), np.uint8)
    return ImageArrays(tuple("abcdef"[: len(targets)]), targets, arrays)


@pytest.fixture
def boxes() -> Boxes:
    return Boxes.of([[(3, 1, 2, 5, 6), (0, 8, 0, 20, 10)], [], [(2, 9.5, 0, 10.5, 4)]])


def test_targets_are_objects_first_and_padding_after(boxes):
    targets = torch.stack([boxes.target(index, [SAME], augmented=False) for index in range(3)])
    assert targets.dtype == torch.float32 and targets.shape == (3, 2, 5)
    assert targets[0].tolist() == [[3, 1, 2, 5, 6], [0, 8, 0, 20, 10]]
    assert targets[1].tolist() == [[-1, 0, 0, 0, 0]] * 2
    assert targets[2].tolist() == [[2, 9.5, 0, 10.5, 4], [-1, 0, 0, 0, 0]]


def test_objects_that_are_cut_away_move_the_others_up(boxes):
    assert boxes.target(0, [RIGHT], augmented=False).tolist() == [[0, 0, 0, 10, 10], [-1, 0, 0, 0, 0]]
    assert boxes.target(2, [RIGHT], augmented=False)[0].tolist() == [2, 0, 0, 0.5, 4]
    assert boxes.target(2, [RIGHT], augmented=True)[:, 0].tolist() == [-1, -1]  # narrower than a pixel


def test_parts_have_the_same_number_of_rows():
    first, second = Boxes.of_parts([[(1, 0, 0, 1, 1)] * 3, []], [[(0, 0, 0, 2, 2)]])
    assert (first.rows.shape, second.rows.shape) == ((2, 3, 5), (1, 3, 5))
    assert second.objects(0).tolist() == [[0, 0, 0, 2, 2]]
    assert Boxes.of([[], []]).rows.shape == (2, 1, 5)


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ((1, 2, 3, 2, 6), r"box 2, \[2, 3, 2, 6\], has no area"),
        ((1, 5, 3, 2, 6), r"box 2, \[5, 3, 2, 6\], has no area"),
        ((1, 2, 3, 21, 6), r"box 2, \[2, 3, 21, 6\], does not lie in the image of 20x10"),
        ((1, -3, 3, 4, 6), r"box 2, \[-3, .* does not lie in"),
        ((1, float("nan"), 3, 4, 6), r"box 2, \[nan, 3, 4, 6\], does not lie in"),
        ((1, 2, 3, float("inf"), 6), r"box 2, .*inf.* does not lie in"),
    ],
)
def test_impossible_boxes_are_told(box, message):
    found = images(Boxes.of([[(0, 0, 0, 20, 10.3), box], []])).find_faults()
    assert list(found) == [0]
    assert re.fullmatch(f".*{message}.*", found[0])


def test_identity_covers_masks_and_boxes(boxes):
    masks = np.zeros((3, 10, 20), np.uint8)
    before = {images(boxes).identity(), images(MaskArrays(masks)).identity(), images(np.zeros(3, int)).identity()}
    moved, other = Boxes(boxes.rows + 0.5, boxes.faults), masks.copy()
    other[2, 5, 5] = 1
    after = {images(moved).identity(), images(MaskArrays(other)).identity()}
    assert len(before) == 3 and len(before | after) == 5
    assert images(boxes).identity() == images(boxes[np.arange(3)]).identity()


def test_selecting_and_dividing_keeps_images_and_annotations_together(boxes):
    chosen = images(boxes).select([2, 0])
    assert chosen.names == ("c", "a")
    assert chosen.targets.objects(0)[0].tolist() == [2, 9.5, 0, 10.5, 4]
    assert chosen.classes.tolist() == [0, 0]
