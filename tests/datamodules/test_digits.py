"""The default data: counts, contents and independence of the seed."""

import numpy as np
import torch
from sklearn.datasets import load_digits


def test_three_splits_of_1797(load):
    digits = load("digits")
    digits.setup()
    names = [digits.images(split).names for split in ("train", "val", "test")]
    assert [len(part) for part in names] == [1200, 200, 397]
    assert len(set().union(*names)) == 1797
    assert (digits.name, digits.labels, digits.num_classes) == ("digits", "own", 10)


def test_every_split_has_all_classes_in_proportion(load):
    shares = np.bincount(load_digits().target) / 1797
    for split in ("train", "val", "test"):
        targets = load("digits").images(split).targets
        assert np.abs(np.bincount(targets) - shares * len(targets)).max() <= 2


def test_the_seed_moves_the_order_but_no_image_between_splits(load):
    first, second = load("digits", seed=0), load("digits", seed=1)
    for split in ("train", "val", "test"):
        assert first.images(split).names == second.images(split).names
    orders = [next(iter(digits.train_dataloader()))[1] for digits in (first, load("digits"), second)]
    assert torch.equal(orders[0], orders[1])
    assert not torch.equal(orders[0], orders[2])


def test_holding_back_more_leaves_the_test_images_alone(load):
    few, many = load("digits"), load("digits", held_back=0.5)
    assert few.images("test").names == many.images("test").names
    assert len(many.images("val")) == 700


def test_images_are_the_values_in_eight_bits(load):
    source = load_digits()
    images = load("digits").images("test")
    for index in (0, 100, 396):
        number = int(images.names[index].removeprefix("digit-"))
        assert images[index].mode == "L"
        assert images.targets[index] == source.target[number]
        assert np.abs(np.array(images[index]) / 255 * 16 - source.images[number]).max() <= 0.04


def test_batches_are_normalised_images_of_32_by_32(load):
    digits = load("digits")
    digits.preprocessing = digits.default_preprocessing
    batches = list(digits.train_dataloader())
    images = torch.cat([images for images, _ in batches])
    assert images.shape == (18 * 64, 3, 32, 32)
    assert images.dtype == torch.float32
    assert batches[0][1].dtype == torch.int64
    assert abs(images.mean()) < 0.05
    assert 0.8 < images.std() < 1.05
