"""Writing a file whole: a reader sees the old one or the new one, never a mixture."""

import contextlib
import os
import secrets
from collections.abc import Iterable

NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
ATTEMPTS = 16


def write_atomically(path: str | os.PathLike[str], data: bytes, mode: int = 0o600, durable: bool = True) -> None:
    """Replace the file `path` by one that holds `data`, through a temporary file in the same folder.

    With `durable` both the bytes and the name survive a loss of power once this returns. A link of that name is
    replaced, not followed. Raises OSError, and then the old file stands and nothing is left beside it.
    """
    write_pieces(path, (data,), mode, durable)


def write_pieces(
    path: str | os.PathLike[str],
    pieces: Iterable[bytes],
    mode: int = 0o600,
    durable: bool = True,
    replace: bool = True,
) -> None:
    """Write pieces as one file, as `write_atomically` does; whatever making a piece raises ends it as well.

    Without `replace` it raises FileExistsError where there is something of that name by then.
    """
    folder, name = os.path.split(os.fspath(path))
    parent = os.open(folder or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        handle, temporary = _open_new(parent, name)
        try:
            try:
                for piece in pieces:
                    write_all(handle, piece)
                os.fchmod(handle, mode)  # whatever the umask took away
                if durable:
                    os.fsync(handle)
            finally:
                os.close(handle)
            if replace:
                os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
            else:
                os.link(temporary, name, src_dir_fd=parent, dst_dir_fd=parent, follow_symlinks=False)
                os.unlink(temporary, dir_fd=parent)
        except BaseException:
            with contextlib.suppress(OSError):  # the first error is the one to tell
                os.unlink(temporary, dir_fd=parent)
            raise
        if durable:
            os.fsync(parent)
    finally:
        os.close(parent)


def write_all(handle: int, data: bytes) -> None:
    """Write every byte, in as many calls as the kernel needs. Raises OSError, with part of it written."""
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]


def _open_new(parent: int, name: str) -> tuple[int, str]:
    for attempt in range(ATTEMPTS):
        # Hidden and with an ending of its own, so that no reader of `*.json` takes it for the file. Cut, since a
        # name has 255 bytes.
        temporary = f".{os.fsdecode(os.fsencode(name)[:200])}.{secrets.token_hex(6)}.tmp"
        try:
            return os.open(temporary, NEW, 0o600, dir_fd=parent), temporary
        except FileExistsError:
            if attempt == ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable")
