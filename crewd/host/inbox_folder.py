"""The folder into which people put run files: what lies in it, and where it goes."""

import os
import stat
from pathlib import Path
from typing import NamedTuple

from crewd.host.reading import Signature

SUFFIXES = (".toml", ".json", ".yaml", ".yml")
FOLDERS = ("accepted", "refused")
NAMES_MAX = 1000  # in one look
NAME_BYTES_MAX = 200  # of a file moved aside: 255 is the most (NAME_MAX), and more is added to it


class Found(NamedTuple):
    """A run file that waits."""

    name: str
    signature: Signature


def make(folder: str) -> None:
    """Make the folder and those beside it. Raises OSError."""
    for name in ("", *FOLDERS):
        os.makedirs(os.path.join(folder, name), 0o700, exist_ok=True)


def look(folder: str) -> list[Found]:
    """Name the plain files that look like run files, by name. Raises OSError."""
    found = []
    # What is no run file must not stand in the way of those that are, however much of it there is.
    names = sorted(name for name in os.listdir(folder) if name.endswith(SUFFIXES) and not name.startswith("."))
    for name in names[:NAMES_MAX]:
        try:
            seen = os.lstat(f"{folder}/{name}")
        except OSError:
            continue  # moved away meanwhile
        if stat.S_ISREG(seen.st_mode):
            found.append(Found(name, Signature(seen.st_mtime_ns, seen.st_size, seen.st_ino)))
    return found


def move(folder: str, name: str, where: str, prefix: str) -> str:
    """Move a file aside, replacing nothing; returns its new path. Raises OSError."""
    base = f"{folder}/{where}/{_fitting(f'{prefix}.{name}' if prefix else name)}"
    path, number = base, 1
    while os.path.lexists(path):
        number += 1
        path = f"{base}.{number}"
    Path(f"{folder}/{name}").rename(path)
    return path


def _fitting(name: str) -> str:
    """Cut a long name before its suffix, so that there is room for what is added to it."""
    whole = os.fsencode(name)
    if len(whole) <= NAME_BYTES_MAX:
        return name
    stem, dot, suffix = whole.rpartition(b".")
    return os.fsdecode(stem[: NAME_BYTES_MAX - len(dot + suffix)] + dot + suffix)
