"""What a working tree looks like, in one line of text that differs once anything in the tree was changed.

Nothing is read but names and what lstat(2) tells, so that ten thousand files cost a tenth of a second. What tools
keep for themselves beside the work (installed packages, compiled files, git's own store) is left out.
"""

import errno
import hashlib
import os
import stat
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from crewd.host.beneath import Parent

FORM = "1"  # before every digest: those of another form are never equal
NOT_THE_WORK = frozenset({"node_modules", "__pycache__", ".venv"})
GIT = ".git"
HEAD_MAX = 4096  # bytes of HEAD, or of a ref
PACKED_MAX = 4 << 20  # bytes of packed-refs; what a larger one holds counts as unknown
FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
NO_FILE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO, errno.ENODEV})
LOOKED_AT_ONCE = 256  # entries between two looks at the clock


def digest(
    folder: str,
    files_max: int = 50_000,
    seconds_max: float = 2.0,
    clock: Callable[[], float] = time.monotonic,
    *,
    skipped: Sequence[str] = (),
) -> str | None:
    """Digest what lies beneath a folder: every name with its type, mode, size and mtime. Never raises OSError.

    `files_max`: entries of any kind. `clock`: seconds that only go on. `skipped`: folders beneath that do not count,
    by their absolute path, however it is spelled. None: there are more files than that, it took longer than that, or
    something cannot be read or vanished under way.

    Of a folder its own mtime does not count: it moves as well when something comes and goes that is left out here.
    Of git's store only HEAD counts, and the commit that it names; of one that lies elsewhere (a worktree) nothing
    does, for what is written in the tree must not lead out of it.
    """
    try:
        return _Walk(folder, files_max, clock() + seconds_max, clock, skipped).digest()
    except (OSError, ValueError, _TooMuchError):
        return None


class _TooMuchError(Exception):
    """More files, or more time, than was allowed."""


class _Found(NamedTuple):
    name: bytes
    seen: os.stat_result


class _Walk:
    """One walk through a tree, by name order, so that it does not matter in which order the disk lists them."""

    def __init__(
        self, folder: str, files_max: int, until: float, clock: Callable[[], float], skipped: Sequence[str]
    ) -> None:
        self._folder = folder
        self._left = files_max
        self._until = until
        self._clock = clock
        self._skipped = _identities(skipped)
        self._hash = hashlib.sha256()

    def digest(self) -> str:
        # Links in the path itself are followed: it is the operator's word.
        root = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            waiting: list[list[str]] = [[]]
            while waiting:
                parts = waiting.pop()
                # Opened name by name from the root each time: of a deep tree no more than two handles are held.
                with Parent(root, [*parts, "."]) as (handle, _):
                    below = self._take(handle, parts)
                waiting += [[*parts, name] for name in reversed(below)]
        finally:
            os.close(root)
        return f"{FORM}:{self._hash.hexdigest()}"

    def _take(self, handle: int, parts: list[str]) -> list[str]:
        """Add one folder; returns the names of those in it, in order."""
        # No name holds a slash or NUL, and the order says whose folder it is: there is one way only to read this.
        self._hash.update(b"/")
        below: list[str] = []
        for name, seen in self._listed(handle):
            is_folder = stat.S_ISDIR(seen.st_mode)
            size, mtime_ns = (0, 0) if is_folder else (seen.st_size, seen.st_mtime_ns)
            self._hash.update(b"%s\0%o %d %d\n" % (name, seen.st_mode, size, mtime_ns))
            if is_folder and name == GIT.encode():
                self._hash.update(_checked_out(handle))
            elif is_folder:
                below.append(os.fsdecode(name))
        return below

    def _listed(self, handle: int) -> list[_Found]:
        found: list[_Found] = []
        self._look_at_clock()
        with os.scandir(handle) as entries:
            for number, entry in enumerate(entries, 1):
                if number % LOOKED_AT_ONCE == 0:
                    self._look_at_clock()
                seen = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(seen.st_mode) and self._is_skipped(entry.name, seen):
                    continue
                self._left -= 1
                if self._left < 0:
                    raise _TooMuchError
                found.append(_Found(os.fsencode(entry.name), seen))
        return sorted(found, key=lambda each: each.name)

    def _is_skipped(self, name: str, seen: os.stat_result) -> bool:
        return name in NOT_THE_WORK or (seen.st_dev, seen.st_ino) in self._skipped

    def _look_at_clock(self) -> None:
        if self._clock() > self._until:
            raise _TooMuchError


def _identities(folders: Sequence[str]) -> frozenset[tuple[int, int]]:
    """What the folders are, whatever leads to them. One that is not there cannot be met."""
    found: set[tuple[int, int]] = set()
    for folder in folders:
        with suppress(OSError, ValueError):
            seen = Path(folder).stat()
            found.add((seen.st_dev, seen.st_ino))
    return frozenset(found)


def _checked_out(parent: int) -> bytes:
    """HEAD of the git store in a folder, and the commit that it names (gitrepository-layout(5))."""
    with Parent(parent, [GIT, "."]) as (store, _):
        head = _content(store, "HEAD", HEAD_MAX)
        ref = head.removeprefix(b"ref:").strip()
        commit = b""  # of a detached HEAD: that is the commit itself
        if head.startswith(b"ref:"):
            commit = _content(store, os.fsdecode(ref), HEAD_MAX)
            commit = commit or _packed(_content(store, "packed-refs", PACKED_MAX), ref)
        return b"//head %d %d\0%s%s" % (len(head), len(commit), head, commit)


def _packed(refs: bytes, ref: bytes) -> bytes:
    """The commit of a ref that is kept among many others: a line each, `COMMIT REF`. As a file of its own has it."""
    for line in refs.split(b"\n"):
        commit, _, name = line.partition(b" ")
        if name == ref:
            return commit + b"\n"
    return b""


def _content(store: int, relative: str, limit: int) -> bytes:
    """A small plain file of a git store; nothing where there is none. Raises OSError where it cannot be read."""
    parts = relative.split("/")
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        return b""
    try:
        with Parent(store, parts) as (parent, name):
            handle = os.open(name, FILE, dir_fd=parent)
            try:
                seen = os.fstat(handle)
                plain = stat.S_ISREG(seen.st_mode) and seen.st_size <= limit
                return os.read(handle, limit) if plain else b""
            finally:
                os.close(handle)
    except OSError as error:
        if error.errno in NO_FILE:
            return b""
        raise
