"""CIFAR-10 from a folder and from torchvision, and what happens without either."""

from types import SimpleNamespace
from urllib.error import URLError

import numpy as np
import pytest
from torchvision import datasets

from bottlenecks.errors import UsageError
from datamodules.layout import DatasetNotFoundError


@pytest.fixture
def torchvisions(monkeypatch, tmp_path):
    """Stand in for torchvision's dataset, whose files are known by their checksums."""

    def build(root, train=True, download=False):
        data = np.full((40 if train else 20, 32, 32, 3), 7, dtype=np.uint8)
        return SimpleNamespace(data=data, targets=[index % 10 for index in range(len(data))])

    monkeypatch.setattr(datasets, "CIFAR10", build)
    (tmp_path / "cifar-10-batches-py").mkdir()
    return tmp_path


def test_an_unpacked_folder_needs_no_network(tree, load, monkeypatch):
    monkeypatch.setattr(datasets, "CIFAR10", None)
    folder = tree({"train/airplane": 10, "train/truck": 10, "test/truck": 4})
    data = load("cifar10", root=str(folder), held_back=4)
    data.setup()
    assert [len(data.images(split)) for split in ("train", "val", "test")] == [16, 4, 4]
    assert set(data.images("test").targets.tolist()) == {9}
    assert data.num_classes == 10
    assert data.default_preprocessing.input_shape == (3, 64, 64)


def test_torchvisions_copy(torchvisions, load):
    data = load("cifar10", root=str(torchvisions), held_back=10)
    data.setup()
    assert [len(data.images(split)) for split in ("train", "val", "test")] == [30, 10, 20]
    assert data.images("val").targets.tolist() != sorted(data.images("val").targets.tolist())
    assert sorted(data.images("val").targets.tolist()) == list(range(10))
    assert data.images("test")[0].size == (32, 32)
    assert next(iter(data.train_dataloader()))[0].shape == (4, 3, 8, 8)


def test_a_damaged_copy_is_refused(load, tmp_path):
    (tmp_path / "cifar-10-batches-py").mkdir()
    with pytest.raises(UsageError, match=r"data\.root=.*: cifar-10-batches-py/ is incomplete or damaged; remove it"):
        load("cifar10", root=str(tmp_path)).setup()


def test_no_network_is_one_plain_error(load, monkeypatch, tmp_path):
    def download(root, download):
        raise URLError("no route to host")

    monkeypatch.setattr(datasets, "CIFAR10", download)
    with pytest.raises(DatasetNotFoundError, match=r"CIFAR-10 is not there and could not be fetched \(.*no route"):
        load("cifar10", root=str(tmp_path / "new")).setup()


def test_other_classes_and_a_missing_test_set_are_refused(tree, load):
    folder = tree({"train/cat": 4})
    with pytest.raises(
        DatasetNotFoundError, match=r"data\.root=.*: no test/ in it; data\.root=PATH must hold both parts"
    ):
        load("cifar10", root=str(folder)).setup()
    tree({"train/cow": 2, "test/cat": 2})
    with pytest.raises(UsageError, match=r"are not classes of CIFAR-10: cow; .*data=image_folder"):
        load("cifar10", root=str(folder)).setup()
