"""What all datasets promise: loaders, reproducible augmentation, limits and errors."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from pytorch_lightning.trainer.states import TrainerFn

from bottlenecks.errors import UsageError
from bottlenecks.images.preprocessing import Preprocessing
from datamodules.damage import DamagedImageError

IN_MEMORY = ("digits", "digit_boxes", "digit_masks")
NAMES = sorted(path.stem for path in (Path(__file__).parents[2] / "configs" / "data").glob("*.yaml"))
PLAIN = Preprocessing(16, 12, (0.5,) * 3, (0.5,) * 3)


def batches(loader, epoch: int = 0) -> list[tuple[torch.Tensor, torch.Tensor]]:
    loader.sampler.set_epoch(epoch)
    return list(loader)


def equal(first, second) -> bool:
    return len(first) == len(second) and all(
        torch.equal(one, other) for pair in zip(first, second, strict=True) for one, other in zip(*pair, strict=True)
    )


@pytest.fixture
def folder(tree):
    return tree({"cat": 15, "dog": 15})


@pytest.mark.parametrize("name", NAMES)
def test_shipped_configurations_build_and_are_short(name, load):
    datamodule = load(name)
    assert datamodule.name == name
    assert datamodule.task in ("classification", "segmentation", "detection")
    assert datamodule.labels in ("imagenet", "voc", "coco", "own", "none")
    text = (Path(__file__).parents[2] / "configs" / "data" / f"{name}.yaml").read_text()
    assert len(text.splitlines()) <= 25
    assert "seed: ${seed}" in text


@pytest.mark.parametrize("name", [name for name in NAMES if name not in IN_MEMORY])
def test_a_missing_folder_names_itself_and_the_ways_out(name, load, tmp_path):
    options = {"download": False} if name in ("cifar10", "imagenette", "voc", "voc_detection") else {}
    datamodule = load(name, root=str(tmp_path / "nowhere"), **options)
    with pytest.raises(
        UsageError, match=r"data\.root=.*nowhere: no such folder .*; data\.root=PATH must hold"
    ) as error:
        datamodule.setup("fit")
    assert "\n" not in str(error.value)
    (tmp_path / "nowhere").mkdir()
    with pytest.raises(UsageError, match=r"data\.root=.*nowhere: the folder is empty; data\.root=PATH"):
        datamodule.setup("fit")


def test_batches_have_the_promised_types(folder, load):
    data = load("image_folder", root=str(folder))
    for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader()):
        images, targets = next(iter(loader))
        assert (images.dtype, targets.dtype) == (torch.float32, torch.int64)
        assert images.shape[1:] == (3, 8, 8)


def test_only_full_batches_train_but_all_images_are_evaluated(folder, load):
    data = load("image_folder", root=str(folder))
    assert [len(data.images(split)) for split in ("train", "val", "test")] == [22, 2, 6]
    assert [len(targets) for _, targets in data.train_dataloader()] == [4] * 5
    assert [len(targets) for _, targets in data.test_dataloader()] == [4, 2]
    small = load("image_folder", root=str(folder), batch_size=32)
    assert [len(targets) for _, targets in small.train_dataloader()] == [22]


def test_calibration_is_the_plain_training_images_in_a_fixed_order(folder, load):
    data = load("image_folder", root=str(folder), augment=True)
    first, second = list(data.calibration_dataloader()), list(data.calibration_dataloader())
    assert equal(first, second)
    targets = torch.cat([targets for _, targets in first])
    assert targets.tolist() == data.images("train").targets.tolist()
    assert set(targets[:4].tolist()) == {0, 1}


def test_augmentation_is_the_same_for_any_number_of_workers_and_from_any_epoch_on(folder, load):
    alone, resumed, two = (
        load("image_folder", root=str(folder), augment=True, num_workers=workers) for workers in (0, 0, 2)
    )
    loader, workers = alone.train_dataloader(), two.train_dataloader()
    epochs = [batches(loader, epoch) for epoch in range(3)]
    assert not equal(epochs[0], epochs[1])
    assert equal(epochs[2], batches(resumed.train_dataloader(), 2))
    assert equal(epochs[0], batches(workers, 0))
    assert equal(epochs[2], batches(workers, 2))


def test_loaders_leave_the_global_generator_alone(folder, load):
    data = load("image_folder", root=str(folder), augment=True)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    list(data.train_dataloader())
    list(data.test_dataloader())
    assert torch.equal(torch.get_rng_state(), before)


def test_a_loader_needs_the_networks_preprocessing(folder, load):
    data = load("image_folder", root=str(folder))
    data._preprocessing = None
    with pytest.raises(RuntimeError, match=r"set datamodule\.preprocessing = backbone\.preprocessing"):
        data.test_dataloader()


def test_image_size_changes_whatever_preprocessing_is_set(folder, load):
    data = load("image_folder", root=str(folder), image_size=6)
    data.preprocessing = PLAIN
    assert data.preprocessing == PLAIN.with_image_size(6)
    assert data.default_preprocessing.input_shape == (3, 6, 6)
    assert next(iter(data.val_dataloader()))[0].shape[1:] == (3, 6, 6)


def test_limits_are_for_quick_looks(folder, load):
    data = load("image_folder", root=str(folder), limit_train=6, limit_val=1, limit_test=500)
    assert [len(data.images(split)) for split in ("train", "val", "test")] == [6, 1, 6]
    assert sorted(data.images("train").targets) == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize(
    ("counts", "held_back", "expected"),
    [({"val/cat": 4, "train/cat": 210}, 0.1, 40), ({"cat": 50, "dog": 50}, 0.1, 8), ({"cat": 300}, 12, 12)],
)
def test_forty_images_at_least_are_held_back_of_two_hundred(counts, held_back, expected, tree, load):
    data = load("image_folder", root=str(tree(counts, side=2)), held_back=held_back)
    data.setup("fit")
    assert len(data.images("val")) == expected
    assert data.resolved()["held_back"] == (40 if expected == 40 else held_back)


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("augment", 1, r"data\.augment=1: expected true, false or auto"),
        ("held_back", 24, r"data\.held_back=24: takes 24 of 24 images"),
        ("held_back", 0, r"data\.held_back=0: takes 0 of 24 images"),
        ("test_part", 1.0, r"data\.test_part=1\.0: takes 30 of 30 images"),
        ("limit_train", 0, r"data\.limit_train=0: must be a number of images from 1"),
        ("batch_size", 0, r"data\.batch_size=0: expected a whole number"),
        ("image_size", [4, -4], r"data\.image_size=\[4, -4\]: must be a number of pixels"),
    ],
)
def test_settings_that_leave_nothing_are_refused(setting, value, message, folder, load):
    with pytest.raises(Exception, match=message) as error:
        load("image_folder", root=str(folder), **{setting: value}).setup()
    assert isinstance(error.value.__cause__ or error.value, UsageError)


def test_damaged_files_are_refused_or_left_out(folder, load):
    for name in ("cat/c.txt", "dog/cut.png", "dog/a.txt", "dog/b.txt", "dog/.DS_Store", "cat/Thumbs.db"):
        (folder / name).write_bytes(b"no image")
    message = r"data\.root=.*files cannot be read as images: .* \(not an image\).*data\.skip_damaged=true leaves"
    with pytest.raises(UsageError, match=message) as error:
        load("image_folder", root=str(folder)).setup()
    assert "\n" not in str(error.value)
    data = load("image_folder", root=str(folder), skip_damaged=True)
    with pytest.warns(UserWarning, match=r"left out \d of \d+ files") as caught:
        data.setup()
    assert sum(int(str(warning.message).split("left out ")[1].split()[0]) for warning in caught) == 4
    assert sum(len(data.images(split)) for split in ("train", "val", "test")) == 30


def test_only_the_images_of_the_stage_are_looked_at(folder, load):
    data = load("image_folder", root=str(folder))
    evaluated = data._splits["test"].names[0]
    (folder / evaluated).write_bytes(b"")
    data.setup(TrainerFn.FITTING)
    with pytest.raises(UsageError, match=evaluated):
        data.setup(TrainerFn.TESTING)


def test_nothing_but_damaged_files_is_refused(tree, load):
    folder = tree({"cat": 6})
    for path in folder.glob("cat/*"):
        path.write_bytes(b"no image")
    with pytest.raises(UsageError, match=r"data\.root=.*: \d of \d files cannot be read.*; none is left"):
        load("image_folder", root=str(folder), skip_damaged=True, held_back=1, test_part=1).setup()


def test_damage_met_in_a_worker_is_one_line_too(folder, load):
    data = load("image_folder", root=str(folder), num_workers=1)
    data.setup()
    (folder / data.images("test").names[0]).write_bytes(b"")
    with pytest.raises(DamagedImageError, match=r"^/.*\.png: damaged image \(not an image\); remove it.*$"):
        list(data.test_dataloader())


def test_weights_that_take_any_size_get_the_datas_own(load):
    data = load("voc")
    assert data.default_preprocessing.input_shape == (3, 320, 320)
    data.preprocessing = Preprocessing(520, None, (0.1, 0.2, 0.3), (0.5,) * 3)
    assert data.preprocessing.input_shape == (3, 320, 320) and data.preprocessing.mean == (0.1, 0.2, 0.3)
    data.preprocessing = PLAIN
    assert data.preprocessing.input_shape == (3, 12, 12)


def test_a_setting_allows_images_of_any_size(folder, load, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    Image.new("RGB", (60, 40)).save(folder / "cat/large.png")
    message = r"cat/large\.png \(more than 0\.002 million pixels, max_megapixels allows more\)"
    with pytest.raises(UsageError, match=message):
        load("image_folder", root=str(folder)).setup()
    data = load("image_folder", root=str(folder), max_megapixels=0.0024, num_workers=1)
    data.setup()
    assert sum(len(batch) for split in ("train", "val", "test") for batch, _ in data.view_loaders(split)[0]) == 31
    with pytest.raises(Exception, match=r"data\.max_megapixels=none: expected a number"):
        load("image_folder", root=str(folder), max_megapixels="none")
