"""Pascal VOC 2012, its masks and its boxes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision import datasets

from bottlenecks.errors import UsageError
from bottlenecks.images.preprocessing import Preprocessing
from datamodules.layout import DatasetNotFoundError
from tests.datamodules.conftest import write_images, write_mask, write_xml

MASK = np.zeros((12, 16))
MASK[2:6, 3:9], MASK[6, 3:9] = 15, 255


def write_devkit(root: Path) -> Path:
    write_images(root / "JPEGImages", 9, ".jpg")
    for index in range(9):
        write_mask(root / f"SegmentationClass/{index}.png", MASK)
        write_xml(root / f"Annotations/{index}.xml", ("person", 3, 2, 9, 6), ("dog", 0, 0, 2, 2), difficult=1)
    for lists in ("Segmentation", "Main"):
        (root / "ImageSets" / lists).mkdir(parents=True)
        (root / "ImageSets" / lists / "train.txt").write_text("".join(f"{index}\n" for index in range(6)))
        (root / "ImageSets" / lists / "val.txt").write_text("6\n7\n8\n")
    return root


@pytest.fixture
def root(tmp_path) -> Path:
    write_devkit(tmp_path / "VOCdevkit" / "VOC2012")
    return tmp_path


@pytest.mark.parametrize(("name", "labels", "num_classes"), [("voc", "voc", 21), ("voc_detection", "own", 20)])
def test_trained_on_train_and_evaluated_on_val(name, labels, num_classes, root, load):
    for place in (root, root / "VOCdevkit" / "VOC2012"):
        data = load(name, root=str(place), held_back=2)
        data.setup()
        assert [len(data.images(split)) for split in ("train", "val", "test")] == [4, 2, 3]
        assert set(data.images("test").names) == {f"JPEGImages/{index}.jpg" for index in (6, 7, 8)}
    assert (data.labels, data.num_classes) == (labels, num_classes)
    assert data.class_names[-20:][14] == "person"


def test_targets(root, load):
    masks, boxes = load("voc", root=str(root)), load("voc_detection", root=str(root))
    for data in (masks, boxes):
        data.preprocessing = Preprocessing((12, 16), None, (0.5,) * 3, (0.5,) * 3)
    expected = torch.from_numpy(np.where(MASK == 255, -1, MASK)).long()
    assert torch.equal(next(iter(masks.test_dataloader()))[1], expected.expand(3, -1, -1))
    assert next(iter(boxes.test_dataloader()))[1].tolist() == [[[14, 3, 2, 9, 6]]] * 3  # the dog is difficult


def test_labels_out_of_range_and_unknown_classes_are_refused(root, load):
    devkit = root / "VOCdevkit" / "VOC2012"
    write_mask(devkit / "SegmentationClass/7.png", np.full((12, 16), 21))
    with pytest.raises(UsageError, match=r"SegmentationClass/7\.png: label 21 .*expected 0 to 20, or 255 for none"):
        load("voc", root=str(root)).setup("test")
    write_xml(devkit / "Annotations/7.xml", ("zebra", 0, 0, 4, 4))
    with pytest.raises(UsageError, match=r"JPEGImages/7\.jpg \(class 'zebra' is unknown; there are "):
        load("voc_detection", root=str(root)).setup("test")


def test_a_list_has_to_be_there_and_name_images(root, load):
    path = root / "VOCdevkit/VOC2012/ImageSets/Main/val.txt"
    path.write_text("")
    with pytest.raises(UsageError, match=r"data\.root=.*val\.txt lists no images"):
        load("voc_detection", root=str(root)).setup()
    path.write_text("6 7 lost")
    with pytest.raises(UsageError, match=r"cannot be read as images: JPEGImages/lost\.jpg \(No such file"):
        load("voc_detection", root=str(root)).setup()
    path.unlink()
    with pytest.raises(DatasetNotFoundError, match=r"data\.root=.*: no .*val\.txt; data\.root=PATH must hold"):
        load("voc_detection", root=str(root)).setup()


def test_torchvisions_copy_is_fetched_into_its_place(load, monkeypatch, tmp_path):
    def fetch(folder, year, download):
        assert (year, download) == ("2012", True)
        write_devkit(Path(folder) / "VOCdevkit" / "VOC2012")

    monkeypatch.setattr(datasets, "VOCSegmentation", fetch)
    data = load("voc", root=str(tmp_path / "new"), held_back=2)
    data.setup()
    assert len(data.images("train")) == 4
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["VOCdevkit"]


def test_no_network_is_one_plain_error(load, monkeypatch, tmp_path):
    def fetch(folder, year, download):
        raise OSError("no route to host")

    monkeypatch.setattr(datasets, "VOCSegmentation", fetch)
    with pytest.raises(DatasetNotFoundError, match=r"Pascal VOC 2012 is not there and could not be fetched"):
        load("voc", root=str(tmp_path / "new")).setup()
