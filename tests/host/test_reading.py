"""Reading beneath a root: only plain files of the folder's own, only whole, and never anything outside."""

import os
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from crewd.host.files import Entry, FileRead, Root, Signature, signature
from crewd.model.look import ReadResult
from tests.host.limits import no_descriptor_left, ordinary_user

LIMIT = 1 << 20


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "root" / "run").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_bytes(b"secret")
    return tmp_path / "root"


@pytest.fixture
def root(folder: Path) -> Iterator[Root]:
    with Root(str(folder)) as opened:
        yield opened


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_whole_file_is_read_with_its_signature(folder: Path, root: Root) -> None:
    path = folder / "run" / "manifest.json"
    path.write_bytes(b"{}")
    read = root.read("run/manifest.json", LIMIT)
    assert (read.result, read.data) == (ReadResult.OK, b"{}")
    assert read.signature == signature(str(path))
    seen = path.stat()
    assert read.signature == Signature(seen.st_mtime_ns, seen.st_size, seen.st_ino)


def test_a_file_larger_than_one_chunk_is_read_whole(folder: Path, root: Root) -> None:
    data = os.urandom(1 << 20) * 3 + b"end"
    (folder / "big").write_bytes(data)
    assert root.read("big", len(data)).data == data


def test_a_signature_is_none_only_for_what_is_missing(folder: Path, tmp_path: Path) -> None:
    assert signature(str(folder / "nothing")) is None
    (folder / "file").write_bytes(b"x")
    assert signature(str(folder / "file" / "below")) is None
    link = folder / "link"
    link.symlink_to(tmp_path / "outside" / "secret")
    mark = signature(str(link))
    assert mark is not None and mark.inode == link.lstat().st_ino
    with pytest.raises(OSError, match="too long"):
        signature(str(folder / ("n" * 300)))


def test_a_file_that_was_just_written_is_fresh_and_an_old_one_is_not(folder: Path, root: Root) -> None:
    path = folder / "state"
    path.write_bytes(b"x")
    os.utime(path, ns=(0, 1_000_000_000))
    assert not root.read("state", LIMIT).fresh
    ahead = 4_000_000_000
    os.utime(path, (ahead, ahead))
    assert not root.read("state", LIMIT).fresh, "a writer whose clock runs ahead must not be read for ever"
    path.write_bytes(b"y")
    os.utime(path)
    assert root.read("state", LIMIT).fresh


def test_an_empty_file_is_torn(folder: Path, root: Root) -> None:
    (folder / "empty").touch()
    assert root.read("empty", LIMIT).result is ReadResult.TORN


def test_what_is_not_there_is_missing(folder: Path, root: Root) -> None:
    assert root.read("nothing", LIMIT).result is ReadResult.MISSING
    assert root.read("no/such/folder", LIMIT).result is ReadResult.MISSING
    assert root.read_range("nothing", 7, LIMIT).end == 7
    assert root.names("no/such/folder") == []


def test_a_sparse_giant_is_turned_away_by_its_size(folder: Path, root: Root) -> None:
    with (folder / "manifest.json").open("wb") as file:
        file.truncate(50 << 20)
    read = root.read("manifest.json", LIMIT)
    assert (read.result, read.data) == (ReadResult.TOO_LARGE, b"")
    assert read.signature == signature(str(folder / "manifest.json"))
    assert str(50 << 20) in read.why


def test_a_file_of_exactly_the_limit_is_read(folder: Path, root: Root) -> None:
    (folder / "file").write_bytes(b"12345678")
    assert root.read("file", 8).result is ReadResult.OK
    assert root.read("file", 7).result is ReadResult.TOO_LARGE


def make_fifo(path: Path, outside: Path) -> None:
    os.mkfifo(path)


def make_socket(path: Path, outside: Path) -> None:
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(path))


def make_folder(path: Path, outside: Path) -> None:
    path.mkdir()


def make_link(path: Path, outside: Path) -> None:
    path.symlink_to(outside / "secret")


def make_dangling_link(path: Path, outside: Path) -> None:
    path.symlink_to(outside / "nothing")


def make_hard_link(path: Path, outside: Path) -> None:
    path.hardlink_to(outside / "secret")


SPECIAL = [make_fifo, make_socket, make_folder, make_link, make_dangling_link, make_hard_link]


@pytest.mark.parametrize("make", SPECIAL)
def test_what_is_no_plain_file_of_its_own_is_refused_at_once(
    make: Callable[[Path, Path], None], folder: Path, tmp_path: Path, root: Root
) -> None:
    make(folder / "run" / "manifest.json", tmp_path / "outside")
    whole = root.read("run/manifest.json", LIMIT)
    stretch = root.read_range("run/manifest.json", 0, LIMIT)
    assert (whole.result, whole.data) == (ReadResult.REFUSED, b"")
    assert (stretch.result, stretch.data) == (ReadResult.REFUSED, b"")
    assert whole.why and stretch.why


def test_a_link_among_the_folders_is_refused(folder: Path, tmp_path: Path, root: Root) -> None:
    (folder / "linked").symlink_to(tmp_path / "outside", target_is_directory=True)
    assert root.read("linked/secret", LIMIT).result is ReadResult.REFUSED
    assert root.read_range("linked/secret", 0, LIMIT).result is ReadResult.REFUSED
    with pytest.raises(NotADirectoryError):
        root.names("linked")


NAMES_OUT = [
    "../outside/secret",
    "run/../../outside/secret",
    "run/..",
    "..",
    ".",
    "",
    "/etc/passwd",
    "run//x",
    "run/./x",
    "run/",
    "a\0b",
    "\ud800",
    "n" * 300,
]


@pytest.mark.parametrize("name", NAMES_OUT)
def test_a_name_that_leaves_or_is_not_plain_is_refused(name: str, root: Root) -> None:
    assert root.read(name, LIMIT).result is ReadResult.REFUSED
    assert root.read_range(name, 0, LIMIT).result is ReadResult.REFUSED
    assert root.read(f"run/{name}/x" if name else "run//x", LIMIT).result is ReadResult.REFUSED


@pytest.mark.parametrize("name", ["..", "../outside", "/etc", "run/..", "a\0b"])
def test_a_folder_outside_is_not_listed(name: str, root: Root) -> None:
    with pytest.raises(OSError, match="leads outside"):
        root.names(name)


def test_a_device_is_refused_without_being_opened() -> None:
    with Root("/dev") as devices:
        assert devices.read("tty", LIMIT).result is ReadResult.REFUSED
        assert devices.read("zero", LIMIT).why == "a special file"


def test_having_no_descriptor_left_is_an_io_error_and_not_missing(folder: Path, root: Root) -> None:
    (folder / "file").write_bytes(b"x")
    assert root.read("file", LIMIT).result is ReadResult.OK
    with no_descriptor_left():
        whole, stretch = root.read("file", LIMIT), root.read_range("file", 0, LIMIT)
    assert (whole.result, whole.why) == (ReadResult.IO_ERROR, "Too many open files")
    assert (stretch.result, stretch.why) == (ReadResult.IO_ERROR, "Too many open files")
    assert root.read("file", LIMIT).result is ReadResult.OK


def test_a_file_without_permission_is_an_io_error_and_not_missing() -> None:
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        (Path(name) / "file").write_bytes(b"x")
        (Path(name) / "file").chmod(0)
        (Path(name) / "closed").mkdir(mode=0)
        with ordinary_user(), Root(name) as root:
            read = root.read("file", LIMIT)
            assert (read.result, read.why) == (ReadResult.IO_ERROR, "Permission denied")
            assert root.read("closed/file", LIMIT).result is ReadResult.IO_ERROR
            with pytest.raises(PermissionError):
                root.names("closed")
            with pytest.raises(PermissionError):
                signature(f"{name}/closed/file")


def test_names_tell_folders_and_links_apart(folder: Path, tmp_path: Path, root: Root) -> None:
    (folder / "run" / "sub").mkdir()
    (folder / "run" / "file").touch()
    (folder / "run" / "to-folder").symlink_to(tmp_path / "outside", target_is_directory=True)
    for _ in range(2):  # the second listing starts at the beginning again
        assert sorted(root.names("run")) == [
            Entry("file", False, False),
            Entry("sub", True, False),
            Entry("to-folder", False, True),
        ]
        assert root.names() == [Entry("run", True, False)]


def test_a_root_that_was_replaced_is_opened_anew(folder: Path, root: Root) -> None:
    (folder / "file").write_bytes(b"old")
    assert root.read("file", LIMIT).data == b"old"
    folder.rename(folder.with_name("aside"))
    assert root.read("file", LIMIT).result is ReadResult.MISSING
    assert not root.is_there()
    folder.mkdir()
    (folder / "file").write_bytes(b"new")
    assert root.read("file", LIMIT).data == b"new"
    assert root.is_there()


def test_a_root_that_was_replaced_between_two_reads_is_not_read_under_its_former_handle(
    folder: Path, root: Root
) -> None:
    (folder / "file").write_bytes(b"old")
    assert root.read("file", LIMIT).data == b"old"
    folder.rename(folder.with_name("aside"))
    folder.mkdir()
    (folder / "file").write_bytes(b"new")
    assert root.read("file", LIMIT).data == b"new"


def test_a_root_holds_one_descriptor_and_none_after_closing(folder: Path) -> None:
    (folder / "run" / "file").write_bytes(b"x")
    before = open_descriptors()
    root = Root(str(folder))
    for name in ("run/file", "run/nothing", "no/such", "run", "../x", "run/file/below"):
        root.read(name, LIMIT)
        root.read_range(name, 0, LIMIT)
    root.names("run")
    assert open_descriptors() == before + 1
    root.close()
    root.close()
    assert open_descriptors() == before
    assert root.read("run/file", LIMIT).data == b"x"
    root.close()


def test_a_root_that_is_no_folder_is_refused_and_one_that_is_missing_is_empty(folder: Path) -> None:
    (folder / "file").write_bytes(b"x")
    with Root(str(folder / "file")) as root:
        assert root.read("x", LIMIT).result is ReadResult.REFUSED
    with Root(str(folder / "nothing")) as root:
        assert root.read("x", LIMIT).result is ReadResult.MISSING
        assert root.names() == []
        assert not root.is_there()


def test_a_log_is_read_on_from_where_it_was_left(folder: Path, root: Root) -> None:
    log = folder / "events.jsonl"
    log.write_bytes(b"one\ntwo\n")
    first = root.read_range("events.jsonl", 0, 5)
    assert (first.data, first.offset, first.end) == (b"one\nt", 0, 5)
    rest = root.read_range("events.jsonl", first.end, LIMIT)
    assert (rest.data, rest.end) == (b"wo\n", 8)
    assert root.read_range("events.jsonl", 8, LIMIT).data == b""
    with log.open("ab") as file:
        file.write(b"three\n")
    assert root.read_range("events.jsonl", 8, LIMIT).data == b"three\n"


def test_a_log_that_was_cut_shows_it_in_its_signature(folder: Path, root: Root) -> None:
    log = folder / "events.jsonl"
    log.write_bytes(b"one\ntwo\n")
    os.truncate(log, 3)
    read = root.read_range("events.jsonl", 8, LIMIT)
    assert (read.result, read.data, read.end) == (ReadResult.OK, b"", 8)
    assert read.signature is not None and read.signature.size < 8


def is_as_told(read: FileRead) -> bool:
    return read.signature is not None and read.signature.size == len(read.data)


def read_until(root: Root, name: str, met: set[ReadResult], reads_min: int) -> list[FileRead]:
    """Read at least so often, and on until each of these results was met, within bounds."""
    reads: list[FileRead] = []
    seen: set[ReadResult] = set()
    while len(reads) < reads_min or (not met <= seen and len(reads) < 50_000):
        reads.append(root.read(name, LIMIT))
        seen.add(reads[-1].result)
    return reads


def test_no_mixture_is_believed_of_a_file_that_is_rewritten_in_place(folder: Path, root: Root) -> None:
    path = folder / "tasks.json"
    contents = [letter * 40_000 for letter in (b"a", b"b", b"c")]
    path.write_bytes(contents[0])
    stop = threading.Event()

    def rewrite() -> None:
        while not stop.is_set():
            for content in contents:
                with path.open("wb", buffering=0) as file:
                    for start in range(0, len(content), 10_000):
                        file.write(content[start : start + 10_000])
                stop.wait(0.0005)  # a file at rest now and then, or no read could ever be whole

    writer = threading.Thread(target=rewrite)
    writer.start()
    try:
        reads = read_until(root, "tasks.json", {ReadResult.OK, ReadResult.TORN}, 300)
    finally:
        stop.set()
        writer.join()
    # A writer that rests half-way shows a true state of the file: its beginning, of the size that was told.
    told = [read for read in reads if read.result is ReadResult.OK]
    assert [read for read in told if len(set(read.data)) != 1 or not is_as_told(read)] == []
    assert {read.result for read in reads} == {ReadResult.OK, ReadResult.TORN}, "the writer was never met at work"
    assert root.read("tasks.json", LIMIT).data == contents[-1]


def test_no_race_of_names_leads_outside(folder: Path, tmp_path: Path, root: Root) -> None:
    """A folder is swapped with a link to the outside, again and again, while a file below it is read."""
    (folder / "run" / "secret").write_bytes(b"own")
    (folder / "trap").symlink_to(tmp_path / "outside", target_is_directory=True)
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            for one, other in (("run", "aside"), ("trap", "run"), ("run", "trap"), ("aside", "run")):
                os.rename(folder / one, folder / other)

    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        reads = read_until(root, "run/secret", {ReadResult.OK, ReadResult.REFUSED}, 5_000)
    finally:
        stop.set()
        swapper.join()
    assert {read.data for read in reads} <= {b"", b"own"}
    assert {read.result for read in reads} <= {ReadResult.OK, ReadResult.MISSING, ReadResult.REFUSED}
    assert root.read("run/secret", LIMIT).data == b"own"


def test_no_swap_of_a_file_for_a_fifo_or_a_link_blocks_or_leaks(folder: Path, tmp_path: Path, root: Root) -> None:
    (folder / "own").write_bytes(b"own")
    (folder / "link").symlink_to(tmp_path / "outside" / "secret")
    os.mkfifo(folder / "fifo")
    kinds = ("own", "link", "fifo")
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            for kind in kinds:
                os.rename(folder / kind, folder / "manifest.json")
                os.rename(folder / "manifest.json", folder / kind)

    reads: list[FileRead] = []

    def read() -> None:
        for _ in range(5_000):
            reads.append(root.read("manifest.json", LIMIT))

    threads = [threading.Thread(target=swap), threading.Thread(target=read)]
    for thread in threads:
        thread.start()
    threads[1].join(20.0)
    stop.set()
    threads[0].join()
    blocked = threads[1].is_alive()
    # Lets go of whoever is stuck in open(2).
    os.close(os.open(folder / "fifo", os.O_RDWR | os.O_NONBLOCK))
    threads[1].join()
    assert not blocked
    assert {read.data for read in reads} <= {b"", b"own"}
    assert {read.result for read in reads} <= {*ReadResult} - {ReadResult.IO_ERROR}
