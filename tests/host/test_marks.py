"""Which of many files moved: whatever differs, comes or goes is named, and nothing else."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from crewd.host.files import Mark, Root, signature
from crewd.model.look import ReadResult
from tests.host.limits import no_descriptor_left

ABSENT = (0, 0, 0)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    place = tmp_path / "root" / "runs"
    for name in ("one", "two"):
        (place / name).mkdir(parents=True)
        (place / name / "file").write_bytes(b"text")
    return place


@pytest.fixture
def root(tmp_path: Path, place: Path) -> Iterator[Root]:
    with Root(str(tmp_path / "root")) as opened:
        yield opened


def mark(place: Path, name: str) -> Mark:
    return (name.encode(), *(signature(str(place / name)) or ABSENT))


def moved(root: Root, watched: dict[str, list[Mark]]) -> list[str]:
    with root.held("runs") as folder:
        return folder.moved(watched)


def everything(place: Path) -> dict[str, list[Mark]]:
    return {name: [mark(place, f"{name}/file"), mark(place, f"{name}/other")] for name in ("one", "two")}


def test_what_is_as_it_was_is_not_named(place: Path, root: Root) -> None:
    assert moved(root, everything(place)) == []


def _write_at_the_same_time(path: Path) -> None:
    seen = path.stat()
    path.write_bytes(b"more text")
    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))


def _replace_by_its_like(path: Path) -> None:
    seen = path.stat()
    twin = path.with_name("twin")
    twin.write_bytes(path.read_bytes())
    os.utime(twin, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    twin.replace(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda path: os.utime(path, (1, 1)),
        _write_at_the_same_time,
        _replace_by_its_like,
        lambda path: path.unlink(),
        lambda path: path.with_name("other").touch(),
        lambda path: path.parent.rename(path.parent.with_name("away")),
        lambda path: (path.unlink(), path.parent.rmdir(), path.parent.touch()),
    ],
    ids=["time", "size", "inode", "gone", "come", "folder gone", "folder replaced by a file"],
)
def test_whatever_differs_is_named_once_and_its_neighbour_is_not(
    place: Path, root: Root, change: Callable[[Path], object]
) -> None:
    watched = everything(place)
    change(place / "two" / "file")
    assert moved(root, watched) == ["two"]


def test_a_folder_is_held_as_it_was_when_the_block_began(place: Path, root: Root) -> None:
    watched = everything(place)
    with root.held("runs") as folder:
        place.rename(place.with_name("away"))
        place.mkdir()
        assert folder.moved(watched) == []
        assert root.read("runs/one/file", 100).data == b"text"
    assert moved(root, watched) == ["one", "two"]


def test_nothing_is_held_after_the_block(place: Path, root: Root) -> None:
    root.is_there()
    before = len(os.listdir("/proc/self/fd"))
    with root.held("runs"):
        assert len(os.listdir("/proc/self/fd")) == before + 1
    assert len(os.listdir("/proc/self/fd")) == before
    assert root.read("runs/one/file", 100).data == b"text"
    place.rename(place.with_name("away"))
    assert root.read("runs/one/file", 100).result is ReadResult.MISSING


@pytest.mark.parametrize("name", ["runs/../..", "/", "link", "nothing", "runs/one/file"])
def test_what_is_no_folder_beneath_is_not_held_and_not_listed(place: Path, root: Root, name: str) -> None:
    (place.parent / "link").symlink_to(place)
    with pytest.raises(OSError), root.held(name):
        pass
    with pytest.raises(OSError):
        root.listing(name)


def test_a_name_that_leaves_a_held_folder_is_refused(place: Path, root: Root) -> None:
    (place.parent / "secret").write_bytes(b"secret")
    with root.held("runs"):
        assert root.read("runs/../secret", 100).data == b""
        assert root.read("secret", 100).data == b"secret"


def test_a_listing_names_everything_whatever_it_is(place: Path, root: Root) -> None:
    (place / "one" / "link").symlink_to("file")
    (place / "one" / "folder").mkdir()
    assert root.listing("runs/one") == {"file", "link", "folder"}


def test_having_no_descriptor_left_is_an_error_and_no_empty_listing(place: Path, root: Root) -> None:
    root.is_there()
    with no_descriptor_left(), pytest.raises(OSError):
        root.listing("runs/one")
