"""Disks that fail on demand, or remember every write so that a loss of power can be replayed (an apsw VFS)."""

import errno
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import apsw

SECTOR = 512


class Fault(NamedTuple):
    """The `at`-th write, sync or truncation fails; if `sticky` all later ones too."""

    kind: str  # ENOSPC, EIO, short
    at: int
    sticky: bool
    only: str = ""  # the file that is hit, or the kind of step; "" = any


class Step(NamedTuple):
    """Something done to one file."""

    what: str  # write, truncate, sync
    name: str
    offset: int = 0
    data: bytes = b""


class Disk(apsw.VFS):
    """SQLite's default disk behind a door that counts. A sync is only noted: nobody here pulls the plug for real."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.fault: Fault | None = None
        self.count = 0
        self.steps: list[Step] | None = None
        self.turning = threading.Event()  # a sync waits while this is clear
        self.turning.set()
        super().__init__(name, "")

    def xOpen(self, name: Any, flags: list[int]) -> "_File":
        return _File(self, name, flags)

    def excepthook(self, kind: Any, error: Any, trace: Any) -> None:
        """Errors that SQLite has no way to pass on: it chose to go on, and so do we."""

    def arm(self, fault: Fault | None) -> None:
        self.fault, self.count = fault, 0

    def strikes(self, *names: str) -> str:
        """Count one step; name the fault that hits it, "" for none."""
        fault = self.fault
        if fault is not None and fault.only not in ("", *names):
            return ""
        self.count += 1
        if fault is None or self.count < fault.at or (self.count > fault.at and not fault.sticky):
            return ""
        return fault.kind

    def note(self, step: Step) -> None:
        if self.steps is not None:
            self.steps.append(step)


class _File(apsw.VFSFile):
    def __init__(self, disk: Disk, name: Any, flags: list[int]) -> None:
        self._disk = disk
        self._name = Path(name if isinstance(name, str) else name.filename()).name
        super().__init__("", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:
        kind = self._disk.strikes(self._name, "write")
        if kind == "short":
            super().xWrite(bytes(data[: len(data) // 2]), offset)
            raise apsw.FullError(errno.ENOSPC)
        _fail(kind, apsw.SQLITE_IOERR_WRITE)
        super().xWrite(data, offset)
        self._disk.note(Step("write", self._name, offset, bytes(data)))

    def xSync(self, flags: int) -> None:
        self._disk.turning.wait()
        _fail("EIO" if self._disk.strikes(self._name, "sync") else "", apsw.SQLITE_IOERR_FSYNC)
        self._disk.note(Step("sync", self._name))

    def xTruncate(self, size: int) -> None:
        _fail("EIO" if self._disk.strikes(self._name, "truncate") else "", apsw.SQLITE_IOERR_TRUNCATE)
        super().xTruncate(size)
        self._disk.note(Step("truncate", self._name, size))


def _fail(kind: str, code: int) -> None:
    if kind == "ENOSPC":
        raise apsw.FullError(errno.ENOSPC)
    if kind:
        error = apsw.IOError(errno.EIO)
        error.extendedresult = code
        raise error


def after_power_loss(before: dict[str, bytes], steps: list[Step], chance: random.Random) -> dict[str, bytes]:
    """Files as a loss of power after `steps` may leave them: what was synced, and any sectors of what was not."""
    files = {name: bytearray(data) for name, data in before.items()}
    waiting: dict[str, list[Step]] = {}
    for step in steps:
        files.setdefault(step.name, bytearray())
        if step.what == "sync":
            for each in waiting.pop(step.name, []):
                _carry_out(files[step.name], each, lambda: True)
        else:
            waiting.setdefault(step.name, []).append(step)
    keep = chance.random()
    for name, unsynced in waiting.items():
        for each in unsynced:
            _carry_out(files[name], each, lambda: chance.random() < keep)
    return {name: bytes(data) for name, data in files.items()}


def _carry_out(file: bytearray, step: Step, kept: Callable[[], bool]) -> None:
    if step.what == "truncate":
        if kept():
            del file[step.offset :]
        return
    start = step.offset
    while start < step.offset + len(step.data):
        end = min(step.offset + len(step.data), (start // SECTOR + 1) * SECTOR)
        if kept():
            if len(file) < end:
                file.extend(bytes(end - len(file)))
            file[start:end] = step.data[start - step.offset : end - step.offset]
        start = end
