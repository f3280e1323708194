"""Reading what others write, beneath one folder: nothing is followed, nothing blocks, nothing torn is believed."""

import errno
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec

from crewd.host.beneath import Parent, parts_of
from crewd.host.handle import Handle
from crewd.host.marks import Folder
from crewd.model.look import ReadResult

FILE = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY
CHUNK = 1 << 20
# Before Linux 6.13 a file's mtime advances in jiffies, at worst 10 ms: two writes in one jiffy look like one.
FRESH_NS = 20_000_000


class Signature(NamedTuple):
    """What differs once a file was written again or replaced. Compared for equality only."""

    mtime_ns: int
    size: int
    inode: int


class Entry(NamedTuple):
    """One name in a folder. `is_dir` is False for a link, wherever the link leads."""

    name: str
    is_dir: bool
    is_link: bool


class FileRead(msgspec.Struct, frozen=True):
    """The outcome of reading one whole file. `data` is complete where `result` is OK, and empty otherwise."""

    result: ReadResult
    data: bytes = b""
    signature: Signature | None = None  # also of a file that was too large or torn, where it is known
    why: str = ""
    # Written so recently that a further write could leave the same signature: worth one more read next round.
    fresh: bool = False


class FileRange(msgspec.Struct, frozen=True):
    """A stretch of an append-only file: `data` is what lies between `offset` and `end`.

    `signature.size` below `offset` means that the file was cut; another `signature.inode` that it was replaced.
    """

    result: ReadResult
    data: bytes = b""
    offset: int = 0
    end: int = 0
    signature: Signature | None = None
    why: str = ""


def is_fresh(mark: Signature) -> bool:
    """Say whether a file was written so recently that a further write could leave the same signature."""
    return abs(time.clock_gettime_ns(time.CLOCK_REALTIME) - mark.mtime_ns) < FRESH_NS


def signature(path: str) -> Signature | None:
    """Take the signature of what bears this name, a link included; None where nothing does. One system call.

    Raises OSError where the answer is unknown (no permission, I/O error): that is not "missing".
    """
    try:
        seen = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return Signature(seen.st_mtime_ns, seen.st_size, seen.st_ino)


class Root(Handle):
    """A folder beneath which files are read by relative name, with at most one descriptor held between calls.

    Links in `path` itself are followed: it is the operator's word. Beneath it nothing is: names are opened part by
    part, each without following, so that no swap of a part between a check and a use can lead outside.
    One thread at a time.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._where = Path(path)
        self._handle = -1
        self._identity = (0, 0)
        self._held = ("", -1)  # a folder beneath, with a slash at its end, and its handle

    def read(self, relative: str, limit: int) -> FileRead:
        """Read one whole plain file of at most `limit` bytes, as it stood at one moment. Never raises OSError.

        An empty file counts as torn: a writer that truncates in place leaves one behind for a moment. One that
        rests half-way leaves a true state, if a short one: only the format can tell that its end is missing.
        """
        try:
            with self._beneath(relative) as (parent, name):
                return _read_whole(parent, name, limit)
        except OSError as error:
            return FileRead(_result_of(error), why=_words(error))

    def read_range(self, relative: str, offset: int, limit: int) -> FileRange:
        """Read at most `limit` bytes from `offset` of a file that only grows (or is empty). Never raises OSError."""
        try:
            with self._beneath(relative) as (parent, name):
                return _read_stretch(parent, name, offset, limit)
        except OSError as error:
            return FileRange(_result_of(error), b"", offset, offset, None, _words(error))

    def read_end(self, relative: str, limit: int) -> FileRange:
        """Read the last `limit` bytes at most of a file that only grows. Never raises OSError."""
        try:
            with self._beneath(relative) as (parent, name):
                return _read_stretch(parent, name, -1, limit)
        except OSError as error:
            return FileRange(_result_of(error), why=_words(error))

    def names(self, relative: str = "") -> list[Entry]:
        """List a folder beneath (`""`: the root itself), unsorted; a folder that is not there is an empty one.

        Raises OSError where it cannot be listed: no permission, a link, not a folder, a name that leaves the root.
        """
        try:
            with self._beneath(relative + "/." if relative else ".") as (folder, _), os.scandir(folder) as entries:
                return [
                    Entry(entry.name, entry.is_dir(follow_symlinks=False), entry.is_symlink()) for entry in entries
                ]
        except FileNotFoundError:
            return []

    def listing(self, relative: str) -> frozenset[str]:
        """Name everything in a folder beneath, whatever it is. Raises OSError where it cannot be listed."""
        with self._beneath(relative + "/.") as (folder, _):
            return frozenset(os.listdir(folder))

    @contextmanager
    def held(self, relative: str) -> Iterator[Folder]:
        """Hold one folder beneath open for the length of a `with` block: what lies in it is read from there.

        It stays the folder that bore the name when the block began. Raises OSError where it cannot be opened.
        """
        with self._beneath(relative + "/.") as (handle, _):
            self._held = (relative + "/", handle)
            try:
                yield Folder(handle)
            finally:
                self._held = ("", -1)

    def is_there(self) -> bool:
        """Say whether the root can be opened as a folder now: tells an empty root from a missing one."""
        try:
            self._open()
        except OSError:
            return False
        return True

    def _open(self) -> int:
        """Return a handle of the folder that bears the root's name now, which may be another than last time."""
        try:
            seen = self._where.stat()
            # While the handle is held its inode cannot be given to another folder, so equal means the same.
            if self._handle >= 0 and (seen.st_dev, seen.st_ino) == self._identity:
                return self._handle
            self.close()
            self._handle = os.open(self._where, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            self.close()
            raise
        opened = os.fstat(self._handle)
        self._identity = (opened.st_dev, opened.st_ino)
        return self._handle

    def _beneath(self, relative: str) -> Parent:
        held, handle = self._held
        if handle >= 0 and relative.startswith(held):
            return Parent(handle, parts_of(relative[len(held) :]))
        return Parent(self._open(), parts_of(relative))


def _read_whole(parent: int, name: str, limit: int) -> FileRead:
    before = os.stat(name, dir_fd=parent, follow_symlinks=False)
    refusal = _refusal(before)
    if refusal:
        return FileRead(ReadResult.REFUSED, why=refusal)
    mark = _mark(before)
    if before.st_size > limit:
        return FileRead(ReadResult.TOO_LARGE, b"", mark, f"{before.st_size} bytes, {limit} allowed")
    if before.st_size == 0:
        return FileRead(ReadResult.TORN, b"", mark, "empty")
    handle = os.open(name, FILE, dir_fd=parent)
    try:
        # What was opened may be another file than was looked at: it must be judged by itself.
        refusal = _refusal(os.fstat(handle))
        if refusal:
            return FileRead(ReadResult.REFUSED, why=refusal)
        # One byte more than expected, so that growth shows.
        data = _read_up_to(handle, before.st_size + 1)
        after = _mark(os.fstat(handle))
    finally:
        os.close(handle)
    now = _mark(os.stat(name, dir_fd=parent, follow_symlinks=False))
    if not (mark == after == now and len(data) == mark.size):
        return FileRead(ReadResult.TORN, b"", mark, "changed while it was read")
    return FileRead(ReadResult.OK, data, mark, "", is_fresh(mark))


def _read_stretch(parent: int, name: str, offset: int, limit: int) -> FileRange:
    """Read from `offset` on; below 0: so that the stretch ends where the file ends."""
    refusal = _refusal(os.stat(name, dir_fd=parent, follow_symlinks=False))
    if refusal:
        return FileRange(ReadResult.REFUSED, b"", offset, offset, None, refusal)
    handle = os.open(name, FILE, dir_fd=parent)
    try:
        before = os.fstat(handle)
        refusal = _refusal(before)
        if refusal:
            return FileRange(ReadResult.REFUSED, b"", offset, offset, None, refusal)
        mark = _mark(before)
        offset = max(0, before.st_size - limit) if offset < 0 else offset
        wanted = min(limit, before.st_size - offset)
        data = b""
        if wanted > 0:
            os.lseek(handle, offset, os.SEEK_SET)
            data = _read_up_to(handle, wanted)
        after = os.fstat(handle)
    finally:
        os.close(handle)
    # Growth is what such a file does; only a cut spoils what was read.
    if after.st_size < before.st_size or (wanted > 0 and len(data) < wanted):
        return FileRange(ReadResult.TORN, b"", offset, offset, mark, "cut while it was read")
    return FileRange(ReadResult.OK, data, offset, offset + len(data), mark)


def _read_up_to(handle: int, size: int) -> bytes:
    first = os.read(handle, min(size, CHUNK))
    if len(first) == size or not first:
        return first
    pieces = [first]
    left = size - len(first)
    while left > 0:
        piece = os.read(handle, min(left, CHUNK))
        if not piece:
            break
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


def _mark(seen: os.stat_result) -> Signature:
    return Signature(seen.st_mtime_ns, seen.st_size, seen.st_ino)


def _refusal(seen: os.stat_result) -> str:
    """Say why this is no plain file of its folder's own; "" where it is one."""
    if stat.S_ISREG(seen.st_mode):
        # A second name lets a folder's owner show a file that lies elsewhere.
        return "" if seen.st_nlink <= 1 else f"a hard link: the file has {seen.st_nlink} names"
    if stat.S_ISLNK(seen.st_mode):
        return "a symbolic link"
    if stat.S_ISDIR(seen.st_mode):
        return "a folder"
    return "a special file"


def _result_of(error: OSError) -> ReadResult:
    match error.errno:
        case errno.ENOENT:
            return ReadResult.MISSING
        # A part that is a link or no folder; a name too long or not plain; a socket or a device without a driver.
        case errno.ELOOP | errno.ENOTDIR | errno.EINVAL | errno.ENAMETOOLONG | errno.ENXIO | errno.ENODEV:
            return ReadResult.REFUSED
        case _:
            return ReadResult.IO_ERROR


def _words(error: OSError) -> str:
    if error.errno in (errno.ELOOP, errno.ENOTDIR):
        return "a part of the name is a link or no folder"
    return error.strerror or str(error)
