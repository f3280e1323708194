"""Output that a worker writes into a file: its end, and what was added since one looked."""

import errno
import os
import stat
from typing import Self

from crewd.host.handle import Handle

FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Follow(Handle):
    """Reads a growing file from an offset on. A hole (`holes.give_back`) holds nothing and is passed over."""

    def __init__(self, handle: int, offset: int = 0) -> None:
        self._handle = handle
        self.offset = offset  # of the next byte to read
        self.skipped = 0  # bytes that were given back before they were read
        self.cuts = 0  # times that the file became shorter than what was read of it

    @classmethod
    def open(cls, path: str, offset: int = 0) -> Self:
        """Open a plain file. Raises OSError."""
        return cls(_open(path), offset)

    def read(self, limit: int) -> bytes:
        """Read what was added, at most `limit` bytes; b"": nothing. Raises OSError.

        A file that was cut is read anew from its beginning.
        """
        data = os.pread(self._handle, limit, self.offset)
        if data[:1] == b"\0" and self._skip_hole():
            data = os.pread(self._handle, limit, self.offset)
        if not data and os.fstat(self._handle).st_size < self.offset:
            self.offset = 0
            self.cuts += 1
            data = os.pread(self._handle, limit, 0)
        self.offset += len(data)
        return data

    def size(self) -> int:
        """Bytes that were ever written, as far as nobody cut the file. Raises OSError."""
        return os.fstat(self._handle).st_size

    def _skip_hole(self) -> bool:
        """Go on to the next data; False where there is no hole."""
        start = _data_from(self._handle, self.offset)
        self.skipped += start - self.offset
        moved = start > self.offset
        self.offset = start
        return moved


def tail(path: str, limit: int) -> bytes:
    """Read the last bytes of a plain file, fewer where its older part was given back. Raises OSError."""
    handle = _open(path)
    try:
        end = os.fstat(handle).st_size
        start = _data_from(handle, max(0, end - limit))
        return os.pread(handle, max(0, end - start), start)
    finally:
        os.close(handle)


def size(path: str) -> int:
    """Bytes of a file, whatever it is; 0 where there is none. Raises OSError where that cannot be told."""
    try:
        return os.lstat(path).st_size
    except FileNotFoundError:
        return 0


def _open(path: str) -> int:
    handle = os.open(path, FLAGS)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "not a plain file", path)
    return handle


def _data_from(handle: int, offset: int) -> int:
    """Return where the next bytes lie that are really there (lseek(2), SEEK_DATA)."""
    try:
        return os.lseek(handle, offset, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:  # nothing but a hole up to the end
            return max(offset, os.fstat(handle).st_size)
        return offset
