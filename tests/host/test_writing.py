"""A file is replaced whole or not at all, and nothing is left beside it."""

import os
import stat
from pathlib import Path

import pytest

from crewd.host.files import Root, write_atomically
from crewd.model.look import ReadResult
from tests.host.limits import files_no_larger_than


@pytest.mark.parametrize("durable", [True, False])
def test_a_file_is_created_and_then_replaced(durable: bool, tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    write_atomically(str(path), b"one", durable=durable)
    first = path.stat().st_ino
    with path.open("rb") as reader:
        write_atomically(path, b"two", durable=durable)
        assert reader.read() == b"one"
    assert path.read_bytes() == b"two"
    assert path.stat().st_ino != first
    assert os.listdir(tmp_path) == ["state.json"]


def test_the_mode_is_exact_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        write_atomically(tmp_path / "own", b"x")
        write_atomically(tmp_path / "shared", b"x", mode=0o644)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "own").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "shared").stat().st_mode) == 0o644


def test_a_disk_that_fills_up_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    write_atomically(path, b"old")
    with files_no_larger_than(4096), pytest.raises(OSError, match="too large"):
        write_atomically(path, b"n" * 10_000)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["state.json"]


def test_a_name_that_cannot_be_replaced_leaves_nothing_beside_it(tmp_path: Path) -> None:
    (tmp_path / "folder" / "full").mkdir(parents=True)
    with pytest.raises(OSError):
        write_atomically(tmp_path / "folder", b"x")
    assert os.listdir(tmp_path) == ["folder"]
    with pytest.raises(FileNotFoundError):
        write_atomically(tmp_path / "nothing" / "state.json", b"x")


def test_a_link_is_replaced_and_what_it_points_at_stands(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"precious")
    link.symlink_to(target)
    write_atomically(link, b"x")
    assert (target.read_bytes(), link.read_bytes(), link.is_symlink()) == (b"precious", b"x", False)


def test_the_longest_name_can_be_written(tmp_path: Path) -> None:
    write_atomically(tmp_path / ("n" * 255), b"x")
    assert (tmp_path / ("n" * 255)).read_bytes() == b"x"


def test_no_descriptor_stays_open(tmp_path: Path) -> None:
    before = os.listdir("/proc/self/fd")
    write_atomically(tmp_path / "state.json", b"x")
    with pytest.raises(OSError):
        write_atomically(tmp_path, b"x")
    assert os.listdir("/proc/self/fd") == before


def test_what_was_written_so_can_be_read_back_beneath_a_root(tmp_path: Path) -> None:
    write_atomically(tmp_path / "state.json", b"{}")
    with Root(str(tmp_path)) as root:
        read = root.read("state.json", 100)
    assert (read.result, read.data) == (ReadResult.OK, b"{}")
