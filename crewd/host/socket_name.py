"""Names of unix sockets: the kernel takes 107 bytes, and a state folder may lie deeper than that."""

import contextlib
import os
from collections.abc import Iterator

NAME_BYTES_MAX = 107  # sun_path of unix(7) holds 108, the last of them 0


@contextlib.contextmanager
def short_name(path: str) -> Iterator[str]:
    """Give a name of a socket that `bind` and `connect` take, good for as long as this lasts.

    One that is too long is reached through its folder, held open: /proc/self/fd/N/NAME (proc(5)). A last part that
    is too long by itself stays as it is, for the kernel to refuse. Raises OSError where there is no such folder.
    """
    if len(os.fsencode(path)) <= NAME_BYTES_MAX:
        yield path
        return
    folder, name = os.path.split(path)
    handle = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{handle}/{name}"
    finally:
        os.close(handle)
