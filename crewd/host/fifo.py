"""Talking to a worker through the FIFO that is its stdin, without ever waiting for it."""

import errno
import os
import stat
from typing import Self

from crewd.host.handle import Handle

FLAGS = os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
# What a crewd begins with that takes over a talk: the line that its predecessor may have left torn ends here.
RESUME = b"\n"


class Talk(Handle):
    """The writing end. Its descriptor is ready for writing (poll(2)) when `write` would take something."""

    def __init__(self, handle: int) -> None:
        self._handle = handle

    @classmethod
    def open(cls, path: str) -> Self:
        """Open the FIFO. Raises OSError: ENXIO where nobody reads, which is to say the shim is gone."""
        handle = os.open(path, FLAGS)
        if not stat.S_ISFIFO(os.fstat(handle).st_mode):
            os.close(handle)
            raise OSError(errno.EINVAL, "not a FIFO", path)
        return cls(handle)

    def write(self, data: bytes | memoryview) -> int:
        """Hand over as much as fits now; returns how many bytes were taken, 0 where nothing fits.

        Raises BrokenPipeError where nobody will ever read it.
        """
        try:
            return os.write(self._handle, data)
        except BlockingIOError:
            return 0

    def fileno(self) -> int:
        """Return the descriptor; -1 once closed."""
        return self._handle
