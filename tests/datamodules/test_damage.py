"""Unreadable files are found, named and counted, up front or when they are met."""

import errno
import os
import pickle

import numpy as np
import pytest
from PIL import Image

import datamodules.damage as damage
import train
from bottlenecks.images.preprocessing import Preprocessing
from datamodules.damage import DamagedImageError, find_damaged, load_named
from tests.conftest import TINY


@pytest.fixture
def files(tree):
    """Return paths of a good PNG and JPEG, a JPEG cut short, a text, an empty file and a folder."""
    folder = tree({"a": 1, "b": 1}, side=64)
    Image.open(folder / "b/0.png").save(folder / "b/0.jpg")
    good = (folder / "b/0.jpg").read_bytes()
    (folder / "short.jpg").write_bytes(good[: len(good) // 2])
    (folder / "Thumbs.db").write_text("no image")
    (folder / "empty.png").touch()
    names = ["a/0.png", "b/0.jpg", "short.jpg", "Thumbs.db", "empty.png", "a"]
    return [str(folder / name) for name in names]


def test_all_kinds_of_damage_are_found(files):
    found = find_damaged(files)
    assert list(found) == [2, 3, 4, 5]
    assert found[2].startswith("image file is truncated")
    assert found[3] == found[4] == "not an image"
    assert found[5] == os.strerror(errno.EISDIR)


def test_of_many_files_only_the_signature_is_read(files, monkeypatch):
    monkeypatch.setattr(damage, "MAX_DECODED", 2)
    assert list(find_damaged(files)) == [3, 4, 5]
    assert list(find_damaged(files, thorough=True)) == [2, 3, 4, 5]


def test_rarer_formats_are_decoded(files, monkeypatch, tmp_path):
    monkeypatch.setattr(damage, "MAX_DECODED", 0)
    Image.open(files[0]).save(tmp_path / "image.tga")
    assert find_damaged([str(tmp_path / "image.tga")]) == {}


def test_long_checks_show_a_bar(files, monkeypatch, capsys):
    monkeypatch.setattr(damage, "WORTH_A_BAR", 3)
    assert list(find_damaged(files)) == [2, 3, 4, 5]
    assert capsys.readouterr().err == ""  # not in a log file
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert list(find_damaged(files)) == [2, 3, 4, 5]
    assert "Checking images" in capsys.readouterr().err


def test_loading_names_the_file(files):
    assert load_named(files[0]).size == (68, 64)
    with pytest.raises(DamagedImageError, match=r"short\.jpg: damaged image \(image file is trunc.*remove it"):
        load_named(files[2])


def test_the_error_stays_one_line_on_its_way_out_of_a_worker():
    error = DamagedImageError("a.jpg: damaged image (truncated); remove it")
    wrapped = f"Caught it in worker 0.\nTraceback:\n  raise\ndatamodules.damage.DamagedImageError: {error}\n"
    assert str(DamagedImageError(wrapped)) == str(error) == str(pickle.loads(pickle.dumps(error)))


@pytest.fixture
def without_white(tree):
    """Return a folder of classes with images that are read well and cannot be shown."""
    folder = tree({"cat": 8, "dog": 8})
    Image.fromarray(np.full((8, 8), 200, np.int32)).save(folder / "cat/integer.tif")
    Image.fromarray(np.full((8, 8), 0.5, np.float32)).save(folder / "cat/float.tiff")
    Image.new("RGB", (3000, 2)).save(folder / "dog/thin.png")
    os.mkfifo(folder / "dog/pipe.png")
    os.symlink("/dev/zero", folder / "dog/zero.png")
    os.symlink("nowhere.png", folder / "dog/lost.png")
    return folder


WRONG = {
    "cat/integer.tif": "32-bit pixels have no agreed white",
    "cat/float.tiff": "floating-point pixels have no agreed white",
    "dog/thin.png": "3000x2 pixels, too long and thin to be resized",
    "dog/pipe.png": "a pipe or device, no file",
    "dog/zero.png": "a pipe or device, no file",
    "dog/lost.png": os.strerror(errno.ENOENT),
}


@pytest.mark.parametrize("most", [0, damage.MAX_DECODED])
def test_what_the_run_could_not_use_is_found_before_it(most, without_white, load, monkeypatch):
    monkeypatch.setattr(damage, "MAX_DECODED", most)
    data = load("image_folder", root=str(without_white), held_back=4, test_part=4)
    found = {}
    for split in ("train", "val", "test"):
        images = data._splits[split]
        found |= {images.names[index]: reason for index, reason in images.find_damaged().items()}
    expected = WRONG if most else {name: reason for name, reason in WRONG.items() if "thin" not in name}  # signatures
    assert found.keys() == expected.keys() and all(found[name].startswith(expected[name]) for name in expected)
    data = load("image_folder", root=str(without_white), held_back=4, test_part=4, skip_damaged=True)
    with pytest.warns(UserWarning, match="left out"):
        data.setup()
    assert sum(len(list(loader.dataset)) for loader in (data.val_dataloader(), data.test_dataloader())) > 0
    assert sum(len(data.images(split)) for split in ("train", "val", "test")) == 16


def test_a_run_says_which_file_has_no_white(without_white, command):
    for name in [*WRONG][1:]:
        (without_white / name).unlink()
    status, error = command(train.main, *TINY, "data=pictures", f"data.root={without_white}", "data.test_part=1")
    assert status == 2 and "cat/integer.tif (32-bit pixels have no agreed white; save it with 8 or 16 bits)" in error


def test_a_size_that_cannot_be_resized_is_named(tree, load):
    folder = tree({"cat": 8})
    Image.new("L", (1000, 1)).save(folder / "cat/thin.png")
    data = load("pictures", root=str(folder), held_back=1, test_part=1)
    data.preprocessing = Preprocessing(512, 448, (0.5,) * 3, (0.5,) * 3)
    with pytest.raises(DamagedImageError, match=r"^cat/thin\.png: an image of 1000x1 becomes .*; remove it$"):
        for loader in (data.calibration_dataloader(), data.val_dataloader(), data.test_dataloader()):
            list(loader)
