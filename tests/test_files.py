"""Files that others may be writing, too."""

from __future__ import annotations

from pathlib import Path

import pytest

from bottlenecks.files import one_at_a_time, replacing


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder that takes no files of anyone's")
def test_a_place_that_takes_no_files_is_an_error_and_nobody_waits() -> None:
    for folder in (Path("/proc/rates"), Path("/proc/rates/here")):
        with pytest.raises(OSError, match="/proc/"), one_at_a_time(folder):
            pass
        with pytest.raises(OSError, match="/proc/"), replacing(folder, "", "", lambda _: set()):
            pass


def test_a_folder_is_the_old_one_until_the_new_one_is_whole(tmp_path: Path) -> None:
    folder = tmp_path / "rates"
    for text in ("one", "two"):
        with replacing(folder, "rates", "rates", lambda _: {"file"}) as new:
            assert not folder.exists() or (folder / "file").read_text() == "one"
            (new / "file").write_text(text)
    with pytest.raises(ZeroDivisionError), replacing(folder, "rates", "rates", lambda _: {"file"}) as new:
        (new / "file").write_text("three")
        raise ZeroDivisionError
    assert (folder / "file").read_text() == "two"
    assert sorted(path.name for path in tmp_path.iterdir()) == [".rates.lock", "rates"]
