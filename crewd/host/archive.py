"""Folders of day files: links that move atomically, files that become .gz atomically, and what lies there."""

import contextlib
import gzip
import os
import shutil
import stat
import threading
from pathlib import Path
from typing import NamedTuple

CHUNK = 1 << 18
NICENESS = 10


class Stored(NamedTuple):
    """One plain file in a folder."""

    name: str
    size: int


def make_folder(path: str) -> None:
    """Make a folder for its owner alone, with those above it. Raises OSError."""
    os.makedirs(path, mode=0o700, exist_ok=True)


def stored(folder: str) -> list[Stored]:
    """List the plain files of a folder, unsorted; links and folders are left out. Raises OSError."""
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):  # removed by someone else in between
                if entry.is_file(follow_symlinks=False):
                    found.append(Stored(entry.name, entry.stat(follow_symlinks=False).st_size))
    return found


def remove(path: str) -> None:
    """Remove a file; that it is gone already is fine. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        Path(path).unlink()


def point(link: str, target: str) -> None:
    """Let the link lead to `target`, a name in the same folder: a reader meets the old or the new one, never none.

    Raises OSError: also where something that is no link bears the name, which is left alone.
    """
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISLNK(os.lstat(link).st_mode):
            raise FileExistsError(f"{link} is no link: move it away")
    temporary = _temporary(link)
    remove(temporary)
    Path(temporary).symlink_to(target)
    Path(temporary).replace(link)


def target_of(link: str) -> str | None:
    """Return what a link leads to, as written; None where there is no link."""
    try:
        return str(Path(link).readlink())
    except OSError:
        return None


def compress(path: str) -> None:
    """Replace a plain file by `PATH.gz`. Interrupted anywhere, it or a whole .gz is there. Raises OSError."""
    temporary = _temporary(path + ".gz")
    remove(temporary)
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(handle, "wb") as packed:
            with open(path, "rb") as plain, gzip.GzipFile("", "wb", 6, packed) as zipped:
                shutil.copyfileobj(plain, zipped, CHUNK)
            packed.flush()
            os.fsync(packed.fileno())
        Path(temporary).replace(path + ".gz")
    except BaseException:
        with contextlib.suppress(OSError):  # the first error is the one to tell
            remove(temporary)
        raise
    _sync_folder(path)
    remove(path)


def lower_priority() -> None:
    """Let the calling thread alone yield to everyone else (Linux gives each thread a niceness of its own)."""
    with contextlib.suppress(OSError):  # only a courtesy
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)


def _temporary(path: str) -> str:
    folder, name = os.path.split(path)
    return os.path.join(folder, f".{name}.tmp")


def _sync_folder(path: str) -> None:
    folder = os.open(Path(path).parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
