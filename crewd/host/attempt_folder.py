"""The folder of one attempt: made beneath the folder of all attempts, for nobody else to read."""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from crewd.host.writing import write_all

STDIN, STDOUT, STDERR, EXIT = "stdin", "stdout", "stderr", "exit"
PAYLOAD, RESULT, BEAT, TASK_SENT, OPENING = "payload.json", "result.json", "beat.json", "task-sent", "opening.json"
MODE = 0o700
SECRET_MAX = 64 * 1024  # bytes of one credential
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def folder_of(root: str, run_id: str, task_id: str, attempt: int) -> str:
    """Name the folder of an attempt. The ids match the pattern of ids, and so cannot lead out of `root`."""
    return f"{root}/{run_id}/{task_id}/{attempt}"


def make_folder(folder: str) -> None:
    """Make an attempt's folder, new: what a former start left under this name is taken away. Raises OSError."""
    path = Path(folder)
    for above in (path.parent, path.parent.parent):
        if above.is_symlink():
            # Attempts before this one may do as they like in their folders; nobody is led out of them.
            raise OSError(errno.ELOOP, "somebody put a link in the place of this folder", str(above))
    try:
        path.mkdir(MODE)
    except FileNotFoundError:
        os.makedirs(path.parent, MODE, exist_ok=True)
        path.mkdir(MODE)
    except FileExistsError:
        # An attempt that was never recorded began here: nothing of it ran.
        _remove(folder)
        path.mkdir(MODE)


def write_new(path: str, data: bytes) -> None:
    """Write a file that must not be there yet. It need not survive a loss of power: the attempt would not either."""
    handle = os.open(path, NEW, 0o600)
    try:
        write_all(handle, data)
    finally:
        os.close(handle)


class RunFolder(NamedTuple):
    """What one run keeps on disk."""

    name: str
    changed_at: float  # wall time of the newest change of a folder in it
    bytes: int


def make_root(root: str) -> None:
    """Make the folder of all attempts. Raises OSError."""
    os.makedirs(root, MODE, exist_ok=True)


def run_folders(root: str) -> list[RunFolder]:
    """List what every run keeps on disk. What is taken away meanwhile, the whole folder included, is not listed."""
    found: list[RunFolder] = []
    with contextlib.suppress(FileNotFoundError), os.scandir(root) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                if entry.is_dir(follow_symlinks=False):
                    found.append(RunFolder(entry.name, _newest_change(entry.path), size_of(entry.path)))
    return found


def _newest_change(folder: str) -> float:
    """Raises FileNotFoundError where the folder itself is gone."""
    newest = os.lstat(folder).st_mtime
    for entry in _everything(folder):
        with contextlib.suppress(OSError):
            if entry.is_dir(follow_symlinks=False):
                newest = max(newest, entry.stat(follow_symlinks=False).st_mtime)
    return newest


def remove_folder(folder: str) -> int:
    """Take a folder away with all that lies in it, following no link; returns the bytes that it held."""
    size = size_of(folder)
    with contextlib.suppress(OSError):
        _remove(folder)
    return size


def size_of(folder: str) -> int:
    """Bytes on disk of everything beneath a folder."""
    total = 0
    for entry in _everything(folder):
        with contextlib.suppress(OSError):
            if not entry.is_dir(follow_symlinks=False):
                total += entry.stat(follow_symlinks=False).st_blocks * 512
    return total


def _everything(folder: str) -> Iterator[os.DirEntry[str]]:
    """All that lies beneath a folder, as far as it can be named, following no link.

    Without recursion: a worker may nest folders deeper than the interpreter's stack.
    """
    waiting = [folder]
    while waiting:
        with contextlib.suppress(OSError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                yield entry
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)


def _remove(folder: str) -> None:
    """Take a folder away, however deep it is. Raises OSError where something of it stays.

    Draw every folder up to the top before its content is taken away: no path, and no stack, grows with depth.
    """
    top = os.open(folder, FOLDER)
    try:
        waiting, drawn_up = [""], 0
        while waiting:
            name = waiting.pop()
            inner = os.open(name, FOLDER, dir_fd=top) if name else os.dup(top)
            try:
                with os.scandir(inner) as entries:
                    found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
                for each, is_folder in found:
                    if not is_folder:
                        os.unlink(each, dir_fd=inner)
                        continue
                    drawn_up += 1
                    os.rename(each, f".removed.{drawn_up}", src_dir_fd=inner, dst_dir_fd=top)
                    waiting.append(f".removed.{drawn_up}")
            finally:
                os.close(inner)
            if name:
                os.rmdir(name, dir_fd=top)
    finally:
        os.close(top)
    Path(folder).rmdir()


def read_secret(folder: str, name: str, limit: int) -> str:
    """Read one credential: a plain file directly in the folder, a trailing line break left out. Raises OSError."""
    handle = os.open(f"{folder}/{name}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(f"{folder}/{name} is no plain file")
        data = os.read(handle, limit + 1)
    finally:
        os.close(handle)
    if len(data) > limit:
        raise OSError(f"{folder}/{name} is larger than {limit} bytes")
    return data.decode().rstrip("\r\n")


def read_secrets(folder: str, limit: int) -> list[str]:
    """Read every credential that the folder holds and that could be given to a worker. Never raises OSError."""
    found = []
    with contextlib.suppress(OSError):
        for name in sorted(os.listdir(folder)):
            with contextlib.suppress(OSError, UnicodeDecodeError):
                found.append(read_secret(folder, name, limit))
    return found


def size_beneath(cwd: str, path: str) -> int | None:
    """Size of a plain file that lies beneath `cwd`, links resolved; None: there is none, or it lies elsewhere."""
    try:
        base = Path(cwd).resolve(strict=True)
        found = (base / path).resolve(strict=True)
        if not found.is_relative_to(base):
            return None
        seen = found.stat()
    except (OSError, ValueError, RuntimeError):
        return None
    return seen.st_size if stat.S_ISREG(seen.st_mode) else None


def changed_at(path: str) -> float | None:
    """Wall time of the last change of a file; None: there is none that can be asked."""
    try:
        return Path(path).stat().st_mtime
    except OSError:
        return None


def is_there(path: str) -> bool:
    """Whether anything bears this name."""
    return os.path.lexists(path)


def is_folder(path: str) -> bool:
    """Whether a folder of this name can be entered."""
    return os.path.isdir(path) and os.access(path, os.X_OK)
