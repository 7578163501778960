"""The default data: counts, contents and independence of the seed."""

import numpy as np
import torch
from sklearn.datasets import load_digits


def test_three_splits_of_1797(load):
    digits = load("digits")
    digits.setup()
    names = [digits.pictures(split).names for split in ("train", "val", "test")]
    assert [len(part) for part in names] == [1200, 200, 397]
    assert len(set().union(*names)) == 1797
    assert (digits.name, digits.labels, digits.num_classes) == ("digits", "own", 10)


def test_every_split_has_all_classes_in_proportion(load):
    shares = np.bincount(load_digits().target) / 1797
    for split in ("train", "val", "test"):
        targets = load("digits").pictures(split).targets
        assert np.abs(np.bincount(targets) - shares * len(targets)).max() <= 2


def test_the_seed_moves_the_order_but_no_picture_between_splits(load):
    first, second = load("digits", seed=0), load("digits", seed=1)
    for split in ("train", "val", "test"):
        assert first.pictures(split).names == second.pictures(split).names
    orders = [next(iter(digits.train_dataloader()))[1] for digits in (first, load("digits"), second)]
    assert torch.equal(orders[0], orders[1])
    assert not torch.equal(orders[0], orders[2])


def test_holding_back_more_leaves_the_test_pictures_alone(load):
    few, many = load("digits"), load("digits", held_back=0.5)
    assert few.pictures("test").names == many.pictures("test").names
    assert len(many.pictures("val")) == 700


def test_pictures_are_the_values_in_eight_bits(load):
    source = load_digits()
    pictures = load("digits").pictures("test")
    for index in (0, 100, 396):
        number = int(pictures.names[index].removeprefix("digit-"))
        assert pictures[index].mode == "L"
        assert pictures.targets[index] == source.target[number]
        assert np.abs(np.array(pictures[index]) / 255 * 16 - source.images[number]).max() <= 0.04


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
