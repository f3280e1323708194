"""Where an agent keeps its session: the file is found by a pattern for each level beneath a root."""

import os
import stat
from collections.abc import Generator, Sequence
from contextlib import closing, suppress
from fnmatch import fnmatchcase

from crewd.host.beneath import FOLDER

PATTERN = frozenset("*?[")


def find(root: str, parts: Sequence[str], entries_max: int = 10_000) -> list[str]:
    """List the plain files beneath `root` that `parts` name, the newest first. Never raises OSError.

    `parts`: a pattern for each level, as fnmatch(3) has it, the last for the file: ("projects", "*", "ID.jsonl").
    Links in `root` itself are followed, and none beneath it. What cannot be read is passed over; after `entries_max`
    names nothing further is looked at, those that sort last (the newest dates) having come first on every level.
    """
    found = [(seen.st_mtime_ns, path) for path, seen in _beneath(root, parts, entries_max)]
    return [path for _, path in sorted(found, reverse=True)]


def exists(root: str, parts: Sequence[str], entries_max: int = 10_000) -> bool:
    """Say whether `find` would find any. Never raises OSError."""
    with closing(_beneath(root, parts, entries_max)) as found:
        return next(found, None) is not None


def _beneath(root: str, parts: Sequence[str], entries_max: int) -> Generator[tuple[str, os.stat_result]]:
    if not parts or any(part in ("", ".", "..") or "/" in part or "\0" in part for part in parts):
        return
    try:
        handle = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (OSError, ValueError):
        return
    try:
        yield from _Search(entries_max).within(handle, root.rstrip("/"), list(parts))
    finally:
        os.close(handle)


class _Search:
    """One search, and how many names it may still look at."""

    def __init__(self, entries_max: int) -> None:
        self._left = entries_max

    def within(self, handle: int, path: str, parts: list[str]) -> Generator[tuple[str, os.stat_result]]:
        part, *deeper = parts
        for name in self._names(handle, part):
            if not deeper:
                with suppress(OSError):
                    seen = os.stat(name, dir_fd=handle, follow_symlinks=False)
                    if stat.S_ISREG(seen.st_mode):
                        yield f"{path}/{name}", seen
                continue
            try:
                inner = os.open(name, FOLDER, dir_fd=handle)
            except OSError:  # a link or a file, or it may not be read
                continue
            try:
                yield from self.within(inner, f"{path}/{name}", deeper)
            finally:
                os.close(inner)

    def _names(self, handle: int, part: str) -> list[str]:
        if not PATTERN & set(part):
            self._left -= 1
            return [part] if self._left >= 0 else []
        names: list[str] = []
        with suppress(OSError), os.scandir(handle) as entries:
            for entry in entries:
                self._left -= 1
                if self._left < 0:
                    break
                if fnmatchcase(entry.name, part):
                    names.append(entry.name)
        return sorted(names, reverse=True)
