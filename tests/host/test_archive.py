import gzip
from pathlib import Path

import pytest

from crewd.host.archive import compress, make_folder, point, remove, stored, target_of


def test_a_link_moves_from_one_file_to_the_next(tmp_path: Path) -> None:
    link = str(tmp_path / "current")
    assert target_of(link) is None
    point(link, "a")
    assert target_of(link) == "a"
    point(link, "b")
    assert target_of(link) == "b"
    assert [path.name for path in tmp_path.iterdir()] == ["current"]


def test_a_file_under_the_links_name_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "current").write_text("mine")
    with pytest.raises(FileExistsError, match="move it away"):
        point(str(tmp_path / "current"), "a")
    assert (tmp_path / "current").read_text() == "mine"


def test_a_link_left_by_a_crash_in_between_is_no_hindrance(tmp_path: Path) -> None:
    (tmp_path / ".current.tmp").symlink_to("old")
    point(str(tmp_path / "current"), "a")
    assert target_of(str(tmp_path / "current")) == "a"


def test_a_compressed_file_replaces_the_plain_one(tmp_path: Path) -> None:
    plain = tmp_path / "day.jsonl"
    plain.write_bytes(b"line\n" * 100_000)
    compress(str(plain))
    packed = tmp_path / "day.jsonl.gz"
    assert gzip.decompress(packed.read_bytes()) == b"line\n" * 100_000
    assert packed.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["day.jsonl.gz"]


def test_a_compression_that_fails_leaves_everything_as_it_was(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        compress(str(tmp_path / "missing"))
    assert list(tmp_path.iterdir()) == []


def test_only_plain_files_are_listed(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"123")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "folder").mkdir()
    assert stored(str(tmp_path)) == [("file", 3)]


def test_removing_what_is_gone_and_making_what_is_there_are_fine(tmp_path: Path) -> None:
    remove(str(tmp_path / "nothing"))
    make_folder(str(tmp_path / "a" / "b"))
    make_folder(str(tmp_path / "a" / "b"))
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700
