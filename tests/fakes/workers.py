"""Attempts of real processes, each in a folder of its own, each ended when its `with` block ends."""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from crewd.host import libc
from crewd.host.remains import Left, kill_all, scan
from crewd.host.shim import ExitRecord, how_it_ended
from crewd.host.signalling import await_ends, reap
from crewd.host.spawning import Held, Spawn, spawn
from crewd.host.subreaper import become_subreaper, children
from crewd.model.failure import Exit

PATIENCE = 20.0  # seconds; only a failing test waits that long
PRELUDE = "import ctypes, os, signal, sys, threading, time\nsay = lambda: os.write(1, b'ready\\n')\n"
PRELUDE += "wait = lambda: time.sleep(30)\n"


def python(code: str) -> tuple[str, ...]:
    """A worker that runs these lines; `say()` tells that it is ready, `wait()` outlasts every test."""
    return (sys.executable, "-ISc", PRELUDE + code)


@dataclass
class Attempt:
    """One attempt: its shim, its folder, and what belongs to it."""

    held: Held
    folder: Path
    mark: str
    reaped: Exit | None = field(default=None)

    @property
    def shim(self) -> int:
        return self.held.identity.pid

    @property
    def since(self) -> int:
        return self.held.identity.start_ticks

    def begin(self) -> "Attempt":
        self.held.open_gate()
        return self

    def ready(self) -> "Attempt":
        """Wait until the worker said so."""
        until(lambda: b"ready" in self.stdout())
        return self

    def end(self) -> ExitRecord | None:
        """Wait until the shim has ended; tells how the command did."""
        await_ends([self.held.pidfd], PATIENCE)
        self.reaped = self.reaped or reap(self.shim)
        return how_it_ended(str(self.folder), self.reaped)

    def left(self) -> list[Left]:
        return scan(self.mark, self.shim, since=self.since)

    def kill(self, known: Container[int] | None = None) -> list[Left]:
        return kill_all(self.mark, self.shim, since=self.since, known=known, patience=PATIENCE)

    def stdout(self) -> bytes:
        return (self.folder / "stdout").read_bytes()

    def stderr(self) -> bytes:
        return (self.folder / "stderr").read_bytes()


@contextlib.contextmanager
def attempt(
    folder: Path,
    argv: tuple[str, ...],
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: Literal["none", "file", "fifo"] = "none",
) -> Iterator[Attempt]:
    """A shim at its gate."""
    folder.mkdir(parents=True, exist_ok=True)
    mark = f"{folder}/{os.getpid()}"
    environ = {"PATH": os.environ["PATH"], "CREWD_ATTEMPT_DIR": mark, **(env or {})}
    held = spawn(Spawn(argv, environ, str(cwd or folder), str(folder), stdin))
    this = Attempt(held, folder, mark)
    try:
        yield this
    finally:
        this.kill()
        if this.reaped is None:
            reap(this.shim)
        held.close()


@contextlib.contextmanager
def subreaper() -> Iterator[set[int]]:
    """Be the parent of orphans; yields the children that were there before. Buries the dead in the end."""
    assert become_subreaper()
    known = set(children())
    try:
        yield known
    finally:
        libc.set_child_subreaper(False)
        for pid in set(children()) - known:
            reap(pid)


def until(condition: Callable[[], bool], seconds: float = PATIENCE) -> None:
    """Wait for something that comes from another process."""
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, "it never came"
        time.sleep(0.002)
