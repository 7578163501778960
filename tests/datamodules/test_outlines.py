"""Outlines of objects become the pixels that they enclose."""

from itertools import groupby

import numpy as np
import pytest

from datamodules.outlines import fill, parse

MASK = np.zeros((12, 16), dtype=bool)
MASK[3:9, 2:7] = MASK[5, 6:14] = MASK[0, 0] = True
RUNS = [len(list(run)) for _, run in groupby(MASK.T.ravel())]
LETTERS = r"01j05\O00000002K300000000000c0"  # pycocotools.mask.encode's


@pytest.mark.parametrize("counts", [[0, *RUNS], LETTERS], ids=["runs", "letters"])
def test_run_lengths_are_read_as_pycocotools_writes_them(counts):
    assert MASK[0, 0]  # so that no pixels are off at first
    assert np.array_equal(fill(parse({"size": [12, 16], "counts": counts}, (16, 12)), (16, 12)), MASK)


def test_a_pixel_belongs_to_a_polygon_that_its_middle_lies_in():
    square = fill(parse([[2, 3, 7, 3, 7, 9, 2, 9]], (16, 12)), (16, 12))
    assert np.array_equal(np.argwhere(square).min(0), [3, 2]) and square.sum() == 6 * 5
    assert np.array_equal(fill(parse([[1.6, 2.6, 7.4, 2.6, 7.4, 9.4, 1.6, 9.4]], (16, 12)), (16, 12)), square)
    two = fill(parse([[2, 3, 7, 3, 7, 9, 2, 9], [10, 0, 40, 0, 40, 5, 10, 5]], (16, 12)), (16, 12))
    assert two.sum() == 30 + 6 * 5  # cut where the image ends


def test_polygons_have_their_area():
    angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    circle = np.stack([60 + 40.3 * np.cos(angles), 50 + 40.3 * np.sin(angles)], axis=1)
    area = 0.5 * 40 * 40.3**2 * np.sin(2 * np.pi / 40)
    assert abs(fill(parse([circle.ravel().tolist()], (120, 100)), (120, 100)).sum() / area - 1) < 0.005


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ([[1, 2, 3, 4]], "its polygon of 2 points encloses nothing"),
        ([[1, 2, 3, 4, 5]], "its polygon is no list of x and y in turn"),
        ([[1, 2, 3, 4, float("nan"), 6]], "some that are no numbers"),
        ([["a"]], "its polygon is no list"),
        ([[10**400, 2, 3, 4, 5, 6]], "its polygon is no list"),
        ({"size": [12, 16], "counts": [10**400]}, "do not add up"),
        (None, "neither polygons nor run lengths of 12 rows and 16 columns"),
        ({"size": [16, 12], "counts": [192]}, "neither polygons nor run lengths of 12 rows"),
        ({"size": None, "counts": [192]}, "neither polygons nor run lengths of 12 rows"),
        ({"size": 5, "counts": [192]}, "neither polygons nor run lengths of 12 rows"),
        ({"size": [12, 16], "counts": [100]}, "do not add up to 192 pixels"),
        ({"size": [12, 16], "counts": [-8, 200]}, "do not add up"),
        ({"size": [12, 16], "counts": None}, "do not add up"),
        ({"size": [12, 16], "counts": ["a"]}, "do not add up"),
        ({"size": [12, 16], "counts": "P"}, "break off"),
    ],
)
def test_impossible_outlines_are_refused(segmentation, message):
    with pytest.raises(ValueError, match=message):
        parse(segmentation, (16, 12))
