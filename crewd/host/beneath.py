"""Going down from a folder name by name, so that no link, and no swap of one for another, can lead outside."""

import errno
import os
from types import TracebackType

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Parent:
    """A handle of the folder that holds the last part of a name, for the length of a `with` block."""

    def __init__(self, root: int, parts: list[str]) -> None:
        self._root = root
        self._parts = parts
        self._handle = -1

    def __enter__(self) -> tuple[int, str]:
        *folders, name = self._parts
        handle = self._root
        for folder in folders:
            try:
                deeper = os.open(folder, FOLDER, dir_fd=handle)
            finally:
                if handle != self._root:
                    os.close(handle)
            handle = deeper
        self._handle = handle
        return handle, name

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._handle != self._root:
            os.close(self._handle)


def parts_of(relative: str) -> list[str]:
    *folders, name = relative.split("/")
    bad = any(part in ("", ".", "..") for part in folders) or name in ("", "..") or "\0" in relative
    if not bad:
        try:
            os.fsencode(relative)
        except UnicodeEncodeError:
            bad = True
    if bad:
        raise OSError(errno.EINVAL, "a name that is empty, absolute, not plain or leads outside", relative)
    return [*folders, name]
