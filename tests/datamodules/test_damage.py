"""Unreadable files are found, named and counted, up front or when they are met."""

import errno
import os
import pickle

import pytest
from PIL import Image

import datamodules.damage as damage
from datamodules.damage import DamagedPictureError, find_damaged, load_picture


@pytest.fixture
def files(tree):
    """Return paths of a good PNG and JPEG, a JPEG cut short, a text, an empty file and a folder."""
    folder = tree({"a": 1, "b": 1}, side=64)
    Image.open(folder / "b/0.png").save(folder / "b/0.jpg")
    good = (folder / "b/0.jpg").read_bytes()
    (folder / "short.jpg").write_bytes(good[: len(good) // 2])
    (folder / "Thumbs.db").write_text("no picture")
    (folder / "empty.png").touch()
    names = ["a/0.png", "b/0.jpg", "short.jpg", "Thumbs.db", "empty.png", "a"]
    return [str(folder / name) for name in names]


def test_all_kinds_of_damage_are_found(files):
    found = find_damaged(files)
    assert list(found) == [2, 3, 4, 5]
    assert found[2].startswith("image file is truncated")
    assert found[3] == found[4] == "not a picture"
    assert found[5] == os.strerror(errno.EISDIR)


def test_of_many_files_only_the_signature_is_read(files, monkeypatch):
    monkeypatch.setattr(damage, "MAX_DECODED", 2)
    assert list(find_damaged(files)) == [3, 4, 5]
    assert list(find_damaged(files, thorough=True)) == [2, 3, 4, 5]


def test_rarer_formats_are_decoded(files, monkeypatch, tmp_path):
    monkeypatch.setattr(damage, "MAX_DECODED", 0)
    Image.open(files[0]).save(tmp_path / "picture.tga")
    assert find_damaged([str(tmp_path / "picture.tga")]) == {}


def test_long_checks_show_a_bar(files, monkeypatch, capsys):
    monkeypatch.setattr(damage, "WORTH_A_BAR", 3)
    assert list(find_damaged(files)) == [2, 3, 4, 5]
    assert capsys.readouterr().err == ""  # not in a log file
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert list(find_damaged(files)) == [2, 3, 4, 5]
    assert "Checking pictures" in capsys.readouterr().err


def test_loading_names_the_file(files):
    assert load_picture(files[0]).size == (68, 64)
    with pytest.raises(DamagedPictureError, match=r"short\.jpg: damaged picture \(image file is trunc.*remove it"):
        load_picture(files[2])


def test_the_error_stays_one_line_on_its_way_out_of_a_worker():
    error = DamagedPictureError("a.jpg: damaged picture (truncated); remove it")
    wrapped = f"Caught it in worker 0.\nTraceback:\n  raise\ndatamodules.damage.DamagedPictureError: {error}\n"
    assert str(DamagedPictureError(wrapped)) == str(error) == str(pickle.loads(pickle.dumps(error)))
