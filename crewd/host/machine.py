"""The machine and this process: its name, our pid."""

import contextlib
import os
import resource
import socket
import stat
from pathlib import Path


def host_name() -> str:
    """Name this machine as the workers' own records do."""
    return socket.gethostname()


def own_pid() -> int:
    """Return our own pid."""
    return os.getpid()


def is_own_folder(path: str) -> bool:
    """Whether a folder, not a link to one, belongs to the user that we run as."""
    try:
        status = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()


def home_folder() -> str:
    """Name this user's home folder."""
    return str(Path.home())


def close_handle(handle: int) -> None:
    """Give a descriptor back."""
    os.close(handle)


def raise_descriptor_limit(most: int = 65_536) -> int:
    """Allow this process as many open descriptors as the system lets it have; returns how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = most if hard == resource.RLIM_INFINITY else min(most, hard)
    if soft != resource.RLIM_INFINITY and wanted > soft:
        with contextlib.suppress(ValueError, OSError):  # then it stays as it is
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return most if soft == resource.RLIM_INFINITY else soft


def can_open(count: int = 8) -> bool:
    """Whether so many more descriptors can be had just now. Without them, what fails to open need not be bad."""
    held: list[int] = []
    try:
        for _ in range(count):
            held.append(os.open("/", os.O_PATH | os.O_CLOEXEC))
    except OSError:
        return False
    finally:
        for handle in held:
            os.close(handle)
    return True
