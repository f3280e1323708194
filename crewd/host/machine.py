"""The machine and this process: its name, our pid."""

import os
import socket


def host_name() -> str:
    """Name this machine as the workers' own records do."""
    return socket.gethostname()


def own_pid() -> int:
    """Return our own pid."""
    return os.getpid()
