"""Lines are appended whole, a torn one is cut, and what was cut on opening is kept."""

import os
from pathlib import Path

import pytest

from crewd.host.files import AppendFile
from tests.host.limits import append_only, files_no_larger_than


def opened(path: Path) -> AppendFile:
    file = AppendFile(path)
    file.open()
    return file


def test_lines_are_added_at_the_end_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with opened(path) as file:
        file.append(b"one\n")
        file.append(b"two\nthree\n")
        file.sync()
        assert file.size == path.stat().st_size == 14
    with opened(path) as file:
        assert file.size == 14
        file.append(b"four\n")
    assert path.read_bytes() == b"one\ntwo\nthree\nfour\n"


def test_a_new_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    opened(tmp_path / "events.jsonl").close()
    assert (tmp_path / "events.jsonl").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("whole", "torn"),
    [
        (b"one\ntwo\n", b'{"half'),
        (b"", b"never a line"),
        (b"one\n", b"x" * 200_000),
        (b"y" * 200_000 + b"\n", b"z"),
        (b"one\n", b"\0" * 4096),
    ],
)
def test_a_torn_last_line_is_set_aside_on_opening(whole: bytes, torn: bytes, tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(whole + torn)
    file = AppendFile(path)
    assert file.open() == len(torn)
    with file:
        assert file.size == len(whole)
        file.append(b"next\n")
    assert path.read_bytes() == whole + b"next\n"
    assert (tmp_path / "events.jsonl.torn").read_bytes() == torn + b"\n"


def test_a_whole_file_is_opened_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"one\ntwo\n")
    file = AppendFile(path)
    assert file.open() == 0
    file.close()
    assert os.listdir(tmp_path) == ["events.jsonl"]


def test_a_second_torn_line_is_kept_beside_the_first(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    for torn in (b"first", b"second"):
        with path.open("ab") as file:
            file.write(torn)
        opened(path).close()
    assert (tmp_path / "events.jsonl.torn").read_bytes() == b"first\nsecond\n"


def test_a_write_that_the_disk_cuts_short_leaves_no_half_line(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with opened(path) as file:
        file.append(b"one\n")
        with files_no_larger_than(1000):
            for _ in range(2):
                with pytest.raises(OSError, match="too large"):
                    file.append(b"x" * 5000 + b"\n")
            assert path.read_bytes() == b"one\n"
            file.append(b"short\n")
        file.append(b"two\n")
        assert file.size == path.stat().st_size
    assert path.read_bytes() == b"one\nshort\ntwo\n"


def test_a_half_line_that_could_not_be_cut_at_once_is_cut_before_the_next(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with opened(path) as file:
        file.append(b"one\n")
        with append_only(path), files_no_larger_than(1000), pytest.raises(OSError, match="too large"):
            file.append(b"x" * 5000 + b"\n")
        assert path.stat().st_size == 1000
        file.append(b"two\n")
        assert file.size == 8
    assert path.read_bytes() == b"one\ntwo\n"


def test_what_is_no_whole_line_is_not_appended(tmp_path: Path) -> None:
    with opened(tmp_path / "events.jsonl") as file:
        for data in (b"", b"half"):
            with pytest.raises(ValueError, match="must end with a newline"):
                file.append(data)
        assert file.size == 0


def test_a_link_or_a_fifo_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"precious")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    os.mkfifo(tmp_path / "fifo")
    for name in ("link", "fifo"):
        before = os.listdir("/proc/self/fd")
        with pytest.raises(OSError):
            AppendFile(tmp_path / name).open()
        assert os.listdir("/proc/self/fd") == before
    assert (tmp_path / "target").read_bytes() == b"precious"


def test_a_file_that_was_moved_away_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with opened(path) as file:
        assert not file.is_displaced()
        path.rename(tmp_path / "events.1")
        assert file.is_displaced()
        path.touch()
        assert file.is_displaced()


def test_a_file_is_opened_once_and_closed_as_often_as_one_likes(tmp_path: Path) -> None:
    file = opened(tmp_path / "events.jsonl")
    with pytest.raises(ValueError, match="open already"):
        file.open()
    file.close()
    file.close()
    assert file.open() == 0
    file.close()
