"""Noticing which of many files were written: one system call for each, and nothing else where nothing was."""

import os
from collections.abc import Iterable, Mapping

# A name beneath a folder, and what was last seen of it: mtime in nanoseconds, size, inode. All 0: it was not there.
Mark = tuple[bytes, int, int, int]


class Folder:
    """A folder that is held open. Names are taken from it on, so that its path is walked once and not for each."""

    def __init__(self, handle: int) -> None:
        self._handle = handle

    def moved(self, watched: Mapping[str, Iterable[Mark]]) -> list[str]:
        """Name those of whose files one is no longer as it was. What cannot be told counts as moved.

        The loop is as flat as it is because it runs for every file of every run in every round.
        """
        found: list[str] = []
        lstat, handle = os.lstat, self._handle
        for key, marks in watched.items():
            for name, mtime_ns, size, inode in marks:
                try:
                    seen = lstat(name, dir_fd=handle)
                except FileNotFoundError:
                    if inode:
                        found.append(key)
                        break
                except OSError:
                    found.append(key)
                    break
                else:
                    if seen.st_mtime_ns != mtime_ns or seen.st_size != size or seen.st_ino != inode:
                        found.append(key)
                        break
        return found
