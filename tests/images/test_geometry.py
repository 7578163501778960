"""Masks and boxes go where the pixels of their images go."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import tv_tensors
from torchvision.transforms import v2

from bottlenecks.images.geometry import Step, centred, follow_boxes
from bottlenecks.images.preprocessing import Preprocessing

BOXES = np.array([[2.0, 3.0, 11.0, 9.0], [0.0, 0.0, 4.0, 20.0], [14.0, 6.0, 30.0, 20.0]])
HALF = (0.5, 0.5, 0.5)


def mask_of(width: int, height: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 200, (height, width))


def step_of(preprocessing: Preprocessing, size: tuple[int, int]) -> Step:
    (step,) = preprocessing.placed(Image.new("RGB", size))[1]
    return step


@pytest.mark.parametrize(
    ("resize", "crop"),
    [((17, 23), None), (15, 12), (15, (21, 9)), (None, (40, 11)), (None, None), ((40, 60), (8, 64)), (9, None)],
)
def test_masks_and_boxes_follow_as_in_pillow_and_torchvision(resize, crop):
    step = step_of(Preprocessing(resize, crop, HALF, HALF), (30, 20))
    mask = mask_of(30, 20)
    image = Image.fromarray((mask + 1).astype(np.uint8))
    target = tv_tensors.BoundingBoxes(torch.from_numpy(BOXES).float(), format="XYXY", canvas_size=(20, 30))
    if resize:
        target = v2.functional.resize(target, [resize] if isinstance(resize, int) else list(resize))
        image = image.resize(target.canvas_size[::-1], Image.Resampling.NEAREST)
    if crop:
        size = [crop, crop] if isinstance(crop, int) else list(crop)
        image, target = v2.functional.center_crop(image, size), v2.functional.center_crop(target, size)
    assert np.array_equal(step.mask(mask), np.asarray(image).astype(int) - 1)
    boxes, _ = follow_boxes(BOXES, [step])
    assert np.allclose(boxes, target.numpy(), atol=1e-4)


def test_mirroring_exchanges_left_and_right():
    step = Step((30, 20), (30, 20), (0, 0), (30, 20), mirrored=True)
    mask = mask_of(30, 20)
    assert np.array_equal(step.mask(mask), mask[:, ::-1])
    boxes = tv_tensors.BoundingBoxes(torch.from_numpy(BOXES), format="XYXY", canvas_size=(20, 30))
    assert np.allclose(step.boxes(BOXES), v2.functional.horizontal_flip(boxes).numpy())


def test_what_lies_outside_the_image_has_no_label():
    moved = Step((2, 2), (2, 2), (-1, -1), (4, 3)).mask(np.array([[5, 6], [7, 8]]))
    assert moved.tolist() == [[-1, -1, -1, -1], [-1, 5, 6, -1], [-1, 7, 8, -1]]


def test_boxes_that_are_cut_away_are_told():
    right_half = Step((30, 20), (30, 20), (15, 0), (15, 20))
    boxes, left = follow_boxes(BOXES, [right_half])
    assert left.tolist() == [False, False, True]
    assert boxes[2].tolist() == [0, 6, 15, 20]
    edge = np.array([[13.0, 0.0, 17.0, 10.0], [14.5, 0.0, 15.5, 9.0], [12.0, 0.0, 15.9, 9.0]])
    assert follow_boxes(edge, [right_half])[1].all()
    assert follow_boxes(edge, [right_half], least_share=0.25)[1].tolist() == [True, True, False]
    assert follow_boxes(edge, [right_half], least_side=1)[1].tolist() == [True, False, False]
    assert follow_boxes(np.zeros((0, 4)), [right_half])[1].shape == (0,)


def test_the_share_that_is_kept_counts_over_all_steps():
    halves = [Step((8, 8), (8, 8), (0, 0), (4, 8)), Step((4, 8), (4, 8), (0, 0), (4, 4))]
    box = np.array([[0.0, 0.0, 8.0, 8.0]])
    assert follow_boxes(box, halves, least_share=0.25)[1].all()
    assert not follow_boxes(box, halves, least_share=0.26)[1].any()


@pytest.mark.parametrize("side", [5, 6, 7, 8])
@pytest.mark.parametrize("cut", [3, 4, 5, 8, 9, 10])
def test_a_centred_window_begins_where_torchvisions_does(side, cut):
    line = Image.fromarray(np.arange(1, side + 1, dtype=np.uint8)[None].repeat(side, axis=0))
    cropped = np.asarray(v2.functional.center_crop(line, [cut, cut]))
    corner = centred((side, side), (cut, cut))
    down = centred((side, side), (cut, cut), down=True)
    assert corner == down or (side - cut) % 4 == 3
    assert np.array_equal(np.asarray(line.crop((*corner, corner[0] + cut, corner[1] + cut))), cropped)
