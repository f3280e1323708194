"""The unix socket: the door for changes. Who may open it is decided by the file's mode, and then by the kernel."""

import contextlib
import os
import socket
import stat
from pathlib import Path
from typing import Self

from crewd.host.listening import LISTEN_BACKLOG, ListeningSocket
from crewd.host.socket_name import short_name

LAST_BYTES_MAX = 80  # of the last part of the path, which stands behind /proc/self/fd/N/ where the whole is too long
MODE = 0o600


class CannotOpen(Exception):
    """The socket cannot be had. The message names it, the reason and the remedy."""


class UnixSocket:
    """A listening unix socket and its name on disk, which `close` takes away."""

    def __init__(self, path: str, listening: ListeningSocket) -> None:
        self.path = path
        self.listening = listening
        self._file: tuple[int, int] | None = _file(path)

    @classmethod
    def open(cls, path: str) -> Self:
        """Listen at `path`, which only this user may connect to. One that nobody answers at is replaced.

        Raises CannotOpen, and then whatever stands there stays.
        """
        _check(path)
        try:
            _remove_stale(path)
            listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        except OSError as error:
            raise _cannot(path, error) from error
        try:
            # Before it has a name: Linux gives the name the mode of the socket, and there is no moment of another.
            os.fchmod(listening.fileno(), MODE)
            with short_name(path) as name:
                listening.bind(name)
            listening.listen(LISTEN_BACKLOG)
            listening.setblocking(False)
            return cls(path, listening)
        except OSError as error:
            listening.close()
            raise _cannot(path, error) from error
        except BaseException:
            listening.close()
            raise

    def close(self) -> None:
        """Stop listening, and take the name away if it is still this one's. A second time does nothing."""
        self.listening.close()
        with contextlib.suppress(OSError):
            if self._file is not None and _file(self.path) == self._file:
                Path(self.path).unlink()
        self._file = None


def _check(path: str) -> None:
    try:
        size = len(os.fsencode(os.path.basename(path)))
    except UnicodeEncodeError:
        raise CannotOpen(f"{path!r}: is no name that a file can have; choose another state folder") from None
    if size > LAST_BYTES_MAX:
        raise CannotOpen(f"{path}: the name of a socket has at most {LAST_BYTES_MAX} bytes; choose a shorter one")
    if "\0" in path or not Path(path).is_absolute():
        raise CannotOpen(f"{path!r}: is no absolute path; name one within the state folder")


def _remove_stale(path: str) -> None:
    """Remove a socket that a crewd left behind which is no more. Raises CannotOpen where something else stands."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise CannotOpen(f"{path}: something stands there that is no socket; move it away")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as knocking:
        knocking.setblocking(False)
        try:
            with short_name(path) as name:
                knocking.connect(name)
        except ConnectionRefusedError:
            Path(path).unlink()
            return
        except FileNotFoundError:
            return
        except BlockingIOError:
            pass  # somebody is there, and too busy to answer
    raise CannotOpen(f"{path}: somebody answers there; stop that crewd, or use another state folder")


def _file(path: str) -> tuple[int, int]:
    found = os.lstat(path)
    return found.st_dev, found.st_ino


def _cannot(path: str, error: OSError) -> CannotOpen:
    return CannotOpen(f"{path}: cannot be listened on: {error.strerror}; make its folder one that crewd may write")
