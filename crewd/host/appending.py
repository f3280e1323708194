"""Files of lines that only grow: whole lines or nothing, and a torn last line is set aside on opening."""

import contextlib
import os
import stat
from pathlib import Path

from crewd.host.handle import Handle
from crewd.host.writing import write_all

APPEND = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
CHUNK = 1 << 16


class AppendFile(Handle):
    """One file of lines with one writer.

    `open` before anything else. A failed `append` leaves no part of its lines behind for longer than the disk
    refuses to cut them off; the next one cuts first.
    """

    def __init__(self, path: str | os.PathLike[str], mode: int = 0o600) -> None:
        self.path = os.fspath(path)
        self._mode = mode
        self._handle = -1
        self._size = 0  # up to the end of the last whole line
        self._torn = False

    def open(self) -> int:
        """Open or create the file; return how many bytes of a torn last line were moved to `PATH.torn`, 0 for none.

        Raises OSError: also where the torn line cannot be set aside, since cutting it would lose it.
        """
        if self._handle >= 0:
            raise ValueError(f"{self.path} is open already: close it first")
        handle = os.open(self.path, APPEND, self._mode)
        try:
            seen = os.fstat(handle)
            if not stat.S_ISREG(seen.st_mode):
                raise OSError(f"{self.path} is no plain file: choose another name")
            whole = _end_of_last_line(handle, seen.st_size)
            if whole < seen.st_size:
                _set_aside(handle, whole, self.path + ".torn", self._mode)
                os.ftruncate(handle, whole)
                os.fsync(handle)
            if seen.st_size == 0:
                _sync_folder(self.path)
        except BaseException:
            os.close(handle)
            raise
        self._handle, self._size, self._torn = handle, whole, False
        return seen.st_size - whole

    def append(self, data: bytes) -> None:
        """Add whole lines at the end: `data` ends with a newline. Raises OSError, and then none of them counts."""
        if not data.endswith(b"\n"):
            raise ValueError(f"an append to {self.path} must end with a newline")
        if self._torn:
            self._cut()
        try:
            write_all(self._handle, data)
        except BaseException:
            self._torn = True
            with contextlib.suppress(OSError):  # the write's own error is told; the next append cuts again
                self._cut()
            raise
        self._size += len(data)

    def sync(self) -> None:
        """Return once everything appended survives a loss of power. Raises OSError: then it may not."""
        os.fdatasync(self._handle)

    @property
    def size(self) -> int:
        """Bytes of whole lines, this writer's own count."""
        return self._size

    def is_displaced(self) -> bool:
        """Whether another file, or none, bears the name now: someone moved or deleted this one."""
        opened = os.fstat(self._handle)
        try:
            named = os.lstat(self.path)
        except FileNotFoundError:
            return True
        return (named.st_dev, named.st_ino) != (opened.st_dev, opened.st_ino)

    def _cut(self) -> None:
        os.ftruncate(self._handle, self._size)
        self._torn = False


def _end_of_last_line(handle: int, size: int) -> int:
    end = size
    while end > 0:
        start = max(0, end - CHUNK)
        at = os.pread(handle, end - start, start).rfind(b"\n")
        if at >= 0:
            return start + at + 1
        end = start
    return 0


def _set_aside(handle: int, start: int, path: str, mode: int) -> None:
    aside = os.open(path, APPEND, mode)
    try:
        while piece := os.pread(handle, CHUNK, start):
            write_all(aside, piece)
            start += len(piece)
        write_all(aside, b"\n")
        os.fsync(aside)
    finally:
        os.close(aside)
    _sync_folder(path)


def _sync_folder(path: str) -> None:
    folder = os.open(Path(path).parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
