"""The few calls of the C library that Python has no name for."""

import ctypes
import functools
import os

PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
FALLOC_FL_KEEP_SIZE = 0x01  # linux/falloc.h
FALLOC_FL_PUNCH_HOLE = 0x02


def set_child_subreaper(on: bool = True) -> None:
    """Make orphans below this process its children, or no longer (prctl(2)). Raises OSError."""
    _checked(_library().prctl(PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(on), 0, 0, 0))


def punch_hole(handle: int, offset: int, length: int) -> None:
    """Give back the disk space of a stretch of a file, which reads as zeros from then on (fallocate(2)).

    Raises OSError: EOPNOTSUPP where the filesystem cannot.
    """
    flags = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
    _checked(_library().fallocate(handle, flags, ctypes.c_long(offset), ctypes.c_long(length)))


@functools.cache
def _library() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _checked(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
