"""The machine and this process: its name, our pid."""

import os
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
