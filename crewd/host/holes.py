"""Giving disk space back from the front of a file that is still being written."""

import errno
import os
import stat

from crewd.host import libc

BLOCK = 4096
UNABLE = (errno.EOPNOTSUPP, errno.ENOSYS)


def give_back(path: str, up_to: int) -> bool:
    """Free the disk space of everything before `up_to`: it reads as zeros then, and offsets stay what they were.

    False where the filesystem cannot. Space is freed in whole blocks; the rest of the last one stays. Raises OSError.
    """
    length = up_to - up_to % BLOCK
    handle = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "not a plain file", path)
        if length > 0:
            libc.punch_hole(handle, 0, length)
    except OSError as error:
        if error.errno in UNABLE:
            return False
        raise
    finally:
        os.close(handle)
    return True
