"""Folders that a worker nested deeper than paths and stacks go: they are sized and taken away like any other."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from crewd.host.attempt_folder import make_folder, remove_folder, run_folders, size_of

DEPTH = 3000


@pytest.fixture
def deep(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "runs" / "run-1"
    folder.mkdir(parents=True)
    (folder / "plain").write_bytes(b"x" * 10_000)
    inner = os.open(folder, os.O_RDONLY)
    for _ in range(DEPTH):
        os.mkdir("d", dir_fd=inner)
        below = os.open("d", os.O_RDONLY, dir_fd=inner)
        os.close(inner)
        inner = below
    os.symlink("/etc", "link", dir_fd=inner)
    os.close(inner)
    yield folder
    # Whoever takes temporary folders away after the tests would recurse.
    if folder.exists():
        remove_folder(str(folder))


def test_they_are_sized_and_dated(deep: Path) -> None:
    assert size_of(str(deep)) >= 10_000
    (found,) = run_folders(str(deep.parent))
    assert (found.name, found.bytes) == ("run-1", size_of(str(deep)))
    assert found.changed_at >= deep.lstat().st_mtime


def test_they_are_taken_away(deep: Path) -> None:
    assert remove_folder(str(deep)) >= 10_000
    assert not deep.exists()
    assert Path("/etc").is_dir()


def test_one_in_the_place_of_an_attempt_is_taken_away(deep: Path) -> None:
    make_folder(str(deep))
    assert list(deep.iterdir()) == []
