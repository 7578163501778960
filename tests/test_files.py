"""Files that others may be writing, too."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from bottlenecks.errors import UsageError
from bottlenecks.files import one_at_a_time, replacing
from tests.conftest import REPOSITORY


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
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rates"]


def test_the_same_once_more_leaves_a_folder_untouched(tmp_path: Path) -> None:
    folder, numbers = tmp_path / "rates", set()
    for _ in range(2):
        with replacing(folder, "rates", "rates", lambda _: {"file"}) as new:
            (new / "file").write_text("one")
        numbers.add((folder / "file").stat().st_ino)
    assert len(numbers) == 1 and [path.name for path in tmp_path.iterdir()] == ["rates"]


def test_a_link_that_leads_to_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(UsageError, match="out=loop: a link that leads to itself"):
        replacing(tmp_path / "loop", "out=loop", "rates", lambda _: set()).__enter__()


def test_one_after_the_other_though_each_takes_its_lock_away(tmp_path: Path) -> None:
    """Processes count a number up; one that is not alone would lose a step of another."""
    (tmp_path / "count").write_text("0")
    program = (
        "import sys, pathlib; from bottlenecks.files import one_at_a_time; path = pathlib.Path(sys.argv[1])\n"
        "for _ in range(100):\n"
        "    with one_at_a_time(path): path.write_text(str(int(path.read_text()) + 1))"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "count")]
    processes = [subprocess.Popen(command, cwd=REPOSITORY) for _ in range(4)]
    assert [process.wait(timeout=120) for process in processes] == [0] * 4
    assert (tmp_path / "count").read_text() == "400"
    assert [path.name for path in tmp_path.iterdir()] == ["count"]


def test_a_full_disk_names_the_place(tmp_path: Path) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(OSError, match=rf"No space left on device: '{tmp_path}/rates'"):
        with replacing(tmp_path / "rates", "rates", "rates", lambda _: set()):
            raise full
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs an output that takes nothing")
@pytest.mark.parametrize("ends", ["print('x' * 9)", "[print('x' * 9), sys.exit(0)]"])  # as after --help
def test_an_output_that_takes_nothing_is_one_line(ends: str) -> None:
    command = [sys.executable, "-c", f"import sys; from bottlenecks.errors import run; run(lambda: {ends})"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, cwd=REPOSITORY, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: standard output: No space left on device; ") and done.stderr.count("\n") == 1


def test_who_reads_no_more_is_not_told_off() -> None:
    program = "from bottlenecks.errors import run; run(lambda: [print('x' * 99) for _ in range(9999)])"
    command, pipe = [sys.executable, "-c", program], subprocess.PIPE
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=pipe, stderr=pipe) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b"" and process.wait(timeout=60) == 1
