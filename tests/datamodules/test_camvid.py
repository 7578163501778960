"""CamVid, and what goes for masks in files."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bottlenecks.errors import UsageError
from bottlenecks.images.preprocessing import Preprocessing
from datamodules.damage import DamagedImageError
from tests.datamodules.conftest import write_mask
from tests.images.test_reading import write_turned

SHARED = Path(__file__).parents[3] / "shared" / "data"


def labels(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 12, (12, 16))


@pytest.fixture
def root(tree) -> Path:
    root = tree({"train/images": 6, "val/images": 3})
    for part, count in (("train", 6), ("val", 3)):
        for index in range(count):
            write_mask(root / part / "labels" / f"{index}.png", labels(index))
    return root


def test_evaluated_on_val_with_void_as_no_label(root, load):
    data = load("camvid", root=str(root), held_back=2, preprocessing=None)
    data.preprocessing = Preprocessing(None, None, (0.5,) * 3, (0.5,) * 3)
    data.setup()
    assert [len(data.images(split)) for split in ("train", "val", "test")] == [4, 2, 3]
    assert (data.task, data.labels, data.num_classes) == ("segmentation", "own", 11)
    for (_, mask), name in zip(data._dataset("test"), data.images("test").names, strict=True):
        expected = labels(int(Path(name).stem))
        assert torch.equal(mask, torch.from_numpy(np.where(expected == 11, -1, expected)))


def test_images_that_keep_their_size_come_alone(root, load):
    Image.new("RGB", (9, 7)).save(root / "val/images/0.png")
    write_mask(root / "val/labels/0.png", np.zeros((7, 9)))
    data = load("camvid", root=str(root), held_back=2, preprocessing=None)
    data.preprocessing = Preprocessing(None, None, (0.5,) * 3, (0.5,) * 3)
    shapes = {tuple(images.shape) for images, _ in data.test_dataloader()}
    assert shapes == {(1, 3, 7, 9), (1, 3, 12, 16)}
    assert all(images.shape[2:] == targets.shape[1:] for images, targets in data.test_dataloader())
    assert len(next(iter(data.val_dataloader()))[0]) == len(next(iter(data.calibration_dataloader()))[0]) == 1


def test_padding_outside_the_image_has_no_label(root, load):
    data = load("camvid", root=str(root), held_back=2)
    data.preprocessing = Preprocessing(None, 20, (0.5,) * 3, (0.5,) * 3)
    images, targets = next(iter(data.test_dataloader()))
    assert targets.shape == (3, 20, 20)
    assert (targets[:, :4] == -1).all() and (targets[:, 16:] == -1).all() and (targets[:, :, :2] == -1).all()
    assert (images[:, :, :4] == -1).all() and (targets[:, 4:16, 2:18] >= 0).any()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda path: write_mask(path, np.full((12, 16), 12)),
            r"train/labels/1\.png: label 12 at row 0, column 0; expected 0 to 10",
        ),
        (lambda path: write_mask(path, np.zeros((16, 12))), r"mask of 12x16, image of 16x12"),
        (lambda path: path.write_bytes(b""), r"train/labels/1\.png: not an image"),
        (lambda path: path.unlink(), r"train/labels/1\.png: No such file"),
        (
            lambda path: Image.new("RGB", (16, 12)).save(path),
            r"train/labels/1\.png: RGB pixels; expected class numbers",
        ),
    ],
)
def test_unusable_masks_are_refused_or_left_out(damage, message, root, load):
    damage(root / "train/labels/1.png")
    where = rf"data\.root=.*: 1 of \d images have annotations of no use: train/images/1\.png \({message}"
    with pytest.raises(UsageError, match=rf"{where}.*; mend them, or data\.skip_damaged=true leaves them out$"):
        load("camvid", root=str(root), held_back=2).setup()
    data = load("camvid", root=str(root), held_back=2, skip_damaged=True)
    with pytest.warns(UserWarning, match="left out 1 of"):
        data.setup()
    assert sum(len(data.images(split)) for split in ("train", "val", "test")) == 8


@pytest.mark.parametrize("mask_too", [False, True])
def test_masks_of_the_upright_image_stay_in_their_place(mask_too, root, load):
    pixels, mask = np.zeros((12, 16, 3), np.uint8), np.zeros((12, 16), np.uint8)
    pixels[4:, 4:], mask[4:, 4:] = 255, 3
    write_turned(root / "val/images/0.png", pixels, 6)
    write_turned(root / "val/labels/0.png", mask, 6 if mask_too else 1)
    data = load("camvid", root=str(root), preprocessing=None)
    data.preprocessing = Preprocessing(None, None, (0.5,) * 3, (0.5,) * 3)
    image, target = data._dataset("test")[data.images("test").names.index("val/images/0.png")]
    assert torch.equal(target, torch.from_numpy(mask).long()) and torch.equal(image[0] > 0, target == 3)
    write_mask(root / "val/labels/0.png", mask.T)  # as the pixels lie in the image's file
    with pytest.raises(UsageError, match=r"val/images/0\.png \(mask of 12x16, image of 16x12\)"):
        load("camvid", root=str(root)).setup("test")


def test_a_mask_without_its_image_is_refused(root, load):
    (root / "val/images/2.png").unlink()
    with pytest.raises(UsageError, match=r"cannot be read as images: val/images/2\.png \(No such file"):
        load("camvid", root=str(root)).setup()


def test_a_missing_folder_of_masks_is_refused(root, load):
    for path in (root / "val/labels").iterdir():
        path.unlink()
    (root / "val/labels").rmdir()
    with pytest.raises(UsageError, match=r"data\.root=.*: no labels/ in .*val; it must hold"):
        load("camvid", root=str(root)).setup()


def test_identity_knows_when_a_mask_changes(root, load):
    first, second = (load("camvid", root=str(root)) for _ in range(2))
    before = first.identity("test")
    assert before == second.identity("test")
    write_mask(root / "val/labels/0.png", np.zeros((12, 16)))
    assert load("camvid", root=str(root)).identity("test") != before


def test_damage_met_in_a_worker_is_one_line(root, load):
    data = load("camvid", root=str(root), num_workers=1)
    data.setup()
    write_mask(root / "val/labels/0.png", np.full((12, 16), 99))
    with pytest.raises(DamagedImageError, match=r"^val/labels/0\.png: label 99 at row 0.*$"):
        list(data.test_dataloader())


@pytest.mark.skipif(not (SHARED / "camvid.tar").exists(), reason="needs ../shared/data")
def test_the_real_frames(load, tmp_path):
    subprocess.run([SHARED / "unpack", tmp_path, "camvid"], check=True, capture_output=True)
    limits = {f"limit_{split}": 8 for split in ("train", "val", "test")}
    data = load("camvid", root=str(tmp_path / "camvid"), **limits)
    data.preprocessing = data.default_preprocessing
    data.setup()
    assert [len(data._splits[split]) for split in ("train", "val", "test")] == [327, 40, 101]
    images, targets = next(iter(data.test_dataloader()))
    assert images.shape == (4, 3, 180, 240) and targets.shape == (4, 180, 240)
    assert targets.min() == -1 and 3 <= targets.max() <= 10
    assert (targets[:, -20:, 90:150] == data.class_names.index("Road")).float().mean() > 0.5
