"""Scenes composed of digits, and the two datamodules that show them."""

import numpy as np
import pytest
import torch

from bottlenecks.errors import UsageError
from datamodules.digits import digit_parts
from datamodules.scenes import OVERLAP, SIDE, _shared, compose, compose_parts

FEW = {"num_train": 12, "num_test": 6, "held_back": 4}


@pytest.fixture(scope="module")
def scenes():
    return compose_parts(30, 10)


def test_boxes_enclose_the_ink_of_their_digit(scenes):
    for mask, objects in zip(scenes[0].masks, scenes[0].objects, strict=True):
        for digit, x1, y1, x2, y2 in objects:
            ink = mask[y1:y2, x1:x2] == digit + 1
            assert ink.mean() > 0.15
        covered = np.zeros_like(mask, dtype=bool)
        for _, x1, y1, x2, y2 in objects:
            covered[y1:y2, x1:x2] = True
        assert not mask[~covered].any()


def test_scenes_are_as_promised(scenes):
    train, test = scenes
    assert train.arrays.shape == (30, SIDE, SIDE, 3) and train.arrays.dtype == train.masks.dtype == np.uint8
    counts = [len(objects) for objects in train.objects + test.objects]
    assert min(counts) == 2 and max(counts) == 6
    heights = [y2 - y1 for objects in train.objects for _, _, y1, _, y2 in objects]
    assert 17 <= min(heights) < 25 and 40 < max(heights) <= 48
    for objects in train.objects:
        pairs = [(one, other) for one in objects for other in objects if one is not other]
        assert all(_shared(one[1:], other[1:]) <= OVERLAP for one, other in pairs)


def test_digits_stand_out(scenes):
    for array, mask, objects in zip(scenes[0].arrays, scenes[0].masks, scenes[0].objects, strict=True):
        brightness = array.mean(axis=2)
        for digit, x1, y1, x2, y2 in objects:
            ink = mask[y1:y2, x1:x2] == digit + 1
            window = brightness[y1:y2, x1:x2]
            assert abs(window[ink].mean() - window[~ink].mean()) > 25


def test_more_scenes_begin_with_the_same_ones(scenes):
    train, _ = compose_parts(5, 1)
    assert np.array_equal(train.arrays, scenes[0].arrays[:5]) and train.objects == scenes[0].objects[:5]
    assert not np.array_equal(scenes[0].arrays[0], scenes[1].arrays[0])


def test_evaluated_scenes_show_digits_that_nothing_was_trained_on():
    train, test = digit_parts()
    assert not set(train.names) & set(test.names)
    only_sevens = test.select(np.flatnonzero(test.classes == 7))
    assert {row[0] for objects in compose(only_sevens, 4, 1).objects for row in objects} == {7}


@pytest.mark.parametrize(
    ("name", "shape", "classes"), [("digit_masks", (4, 128, 128), 11), ("digit_boxes", (4, 6, 5), 10)]
)
def test_batches_keep_the_contract(name, shape, classes, load):
    data = load(name, batch_size=4, **FEW)
    data.preprocessing = data.default_preprocessing
    data.setup()
    assert [len(data.images(split)) for split in ("train", "val", "test")] == [8, 4, 6]
    assert data.num_classes == classes and data.labels == "own"
    for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader()):
        images, targets = next(iter(loader))
        assert images.shape == (4, 3, 128, 128) and images.dtype == torch.float32
        assert targets.shape == shape
        assert targets.dtype == (torch.int64 if name == "digit_masks" else torch.float32)
    assert targets.max() == 10 if name == "digit_masks" else targets[..., 0].max() <= 9


def test_masks_and_boxes_tell_of_the_same_scenes(load):
    masks, boxes = (load(name, **FEW) for name in ("digit_masks", "digit_boxes"))
    for data in (masks, boxes):
        data.preprocessing = data.default_preprocessing
    for (image, mask), (same, rows) in zip(masks._dataset("test"), boxes._dataset("test"), strict=True):
        assert torch.equal(image, same)
        assert set(mask.unique().tolist()) - {0} == {int(row[0]) + 1 for row in rows if row[0] >= 0}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["digit_masks", "digit_boxes"])
@pytest.mark.parametrize("image_size", [64, 128])
def test_augmented_targets_follow_seed_view_and_index_alone(name, image_size, load):
    first, second, other = (
        load(name, augment=True, image_size=image_size, num_workers=workers, seed=seed, **FEW)
        for workers, seed in ((0, 0), (2, 0), (0, 1))
    )
    batches = [list(data.train_dataloader()) for data in (first, second, other)]
    for (images, targets), (same_images, same_targets) in zip(*batches[:2], strict=True):
        assert torch.equal(images, same_images) and torch.equal(targets, same_targets)
    plain = torch.stack([first._dataset("train")[index][1] for index in range(8)])
    assert not torch.equal(torch.cat([targets for _, targets in batches[0]]), plain)
    assert not torch.equal(batches[0][0][1], batches[2][0][1])


def test_splits_do_not_depend_on_the_seed(load):
    first, second = (load("digit_boxes", seed=seed, **FEW) for seed in (0, 1))
    assert all(first.images(split).names == second.images(split).names for split in ("train", "val", "test"))


def test_impossible_numbers_are_refused(load):
    for setting in ("num_train", "num_test"):
        with pytest.raises(Exception, match=rf"data\.{setting}=0: expected a whole number") as error:
            load("digit_masks", **{setting: 0})
        assert isinstance(error.value.__cause__ or error.value, UsageError)
