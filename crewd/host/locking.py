"""One holder per folder: a lock that the kernel lets go when its holder dies."""

import fcntl
import os
from typing import Self

from crewd.host.handle import Handle
from crewd.host.writing import write_all

NAME = "lock"


class AlreadyLocked(Exception):
    """Another process holds the folder."""

    def __init__(self, folder: str, pid: int) -> None:
        self.folder = folder
        self.pid = pid  # 0: not known
        holder = f"process {pid}" if pid else "another process"
        super().__init__(f"{folder} is held by {holder}: stop it, or use another folder")


class FolderLock(Handle):
    """The right to write in one folder, from `acquire` until `close` or the end of the process."""

    def __init__(self, folder: str, handle: int) -> None:
        self.folder = folder
        self._handle = handle

    @classmethod
    def acquire(cls, folder: str | os.PathLike[str]) -> Self:
        """Take the lock at once. Raises AlreadyLocked, having touched nothing; OSError where it cannot be tried."""
        folder = os.fspath(folder)
        path = os.path.join(folder, NAME)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The file is never removed: whoever waits on a removed one would hold a lock that nobody sees.
            os.ftruncate(handle, 0)
            write_all(handle, b"%d\n" % os.getpid())
        except BlockingIOError:
            pid = _holder(handle)
            os.close(handle)
            raise AlreadyLocked(folder, pid) from None
        except BaseException:
            os.close(handle)
            raise
        return cls(folder, handle)


def _holder(handle: int) -> int:
    try:
        return int(os.pread(handle, 20, 0))
    except ValueError:
        return 0
