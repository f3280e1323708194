"""A folder of day files: nothing half done is ever seen in it."""

import gzip
import os
from pathlib import Path

import pytest

from crewd.host import archive
from tests.host.limits import files_no_larger_than


def test_only_plain_files_are_listed(tmp_path: Path) -> None:
    (tmp_path / "day").write_bytes(b"12345")
    (tmp_path / "folder").mkdir()
    (tmp_path / "current").symlink_to("day")
    assert archive.stored(str(tmp_path)) == [archive.Stored("day", 5)]


def test_a_link_moves_from_one_day_to_the_next(tmp_path: Path) -> None:
    link = tmp_path / "current"
    assert archive.target_of(str(link)) is None
    for target in ("day-1", "day-2"):
        archive.point(str(link), target)
        assert archive.target_of(str(link)) == target
    assert os.listdir(tmp_path) == ["current"]


def test_a_file_that_bears_the_name_of_the_link_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "current").write_bytes(b"someone's own")
    with pytest.raises(FileExistsError, match="move it away"):
        archive.point(str(tmp_path / "current"), "day-1")
    assert (tmp_path / "current").read_bytes() == b"someone's own"


def test_a_compressed_file_holds_every_byte_and_replaces_the_plain_one(tmp_path: Path) -> None:
    day = tmp_path / "day"
    data = b"line\n" * 200_000
    day.write_bytes(data)
    archive.compress(str(day))
    assert os.listdir(tmp_path) == ["day.gz"]
    assert gzip.decompress((tmp_path / "day.gz").read_bytes()) == data


def test_a_disk_that_fills_up_while_compressing_leaves_the_plain_file(tmp_path: Path) -> None:
    day = tmp_path / "day"
    data = os.urandom(100_000)
    day.write_bytes(data)
    with files_no_larger_than(10_000), pytest.raises(OSError, match="too large"):
        archive.compress(str(day))
    assert os.listdir(tmp_path) == ["day"]
    assert day.read_bytes() == data


def test_what_an_interrupted_compression_left_is_in_nobodys_way(tmp_path: Path) -> None:
    (tmp_path / "day").write_bytes(b"line\n")
    (tmp_path / ".day.gz.tmp").write_bytes(b"half")
    archive.compress(str(tmp_path / "day"))
    assert os.listdir(tmp_path) == ["day.gz"]


def test_removing_what_is_gone_is_fine(tmp_path: Path) -> None:
    archive.remove(str(tmp_path / "day"))
    (tmp_path / "day").touch()
    archive.remove(str(tmp_path / "day"))
    assert os.listdir(tmp_path) == []


def test_a_folder_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    archive.make_folder(str(tmp_path / "state" / "logs"))
    archive.make_folder(str(tmp_path / "state" / "logs"))
    assert (tmp_path / "state" / "logs").stat().st_mode & 0o777 == 0o700
