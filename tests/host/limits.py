"""Real limits of the kernel, put on this process for the length of a `with` block."""

import contextlib
import fcntl
import os
import resource
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

# linux/fs.h, on 64-bit machines
FS_IOC_GETFLAGS = 0x80086601
FS_IOC_SETFLAGS = 0x40086602
FS_APPEND_FL = 0x20


@contextlib.contextmanager
def no_descriptor_left() -> Iterator[None]:
    """Every open(2) fails with EMFILE."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.open("/dev/null", os.O_RDONLY)
    os.close(lowest)  # whatever is opened next would be given this number, or a higher one
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextlib.contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """A write(2) past `size` is cut short, the next one fails with EFBIG: as on a disk that fills up."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextlib.contextmanager
def ordinary_user() -> Iterator[None]:
    """Be nobody in particular, where the tests run as root."""
    if os.geteuid() != 0:
        yield
        return
    os.setresuid(65534, 65534, 0)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setresuid(0, 0, 0)


@contextlib.contextmanager
def append_only(path: Path) -> Iterator[None]:
    """The file may be appended to and not be cut (chattr +a). Skips the test where that may not be set."""
    handle = os.open(path, os.O_RDONLY)
    try:
        (before,) = struct.unpack("l", fcntl.ioctl(handle, FS_IOC_GETFLAGS, bytes(8)))
        fcntl.ioctl(handle, FS_IOC_SETFLAGS, struct.pack("l", before | FS_APPEND_FL))
    except OSError as error:
        os.close(handle)
        pytest.skip(f"chattr +a: {error.strerror}")
    try:
        yield
    finally:
        fcntl.ioctl(handle, FS_IOC_SETFLAGS, struct.pack("l", before))
        os.close(handle)
