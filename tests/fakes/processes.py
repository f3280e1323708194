"""Processes that live, stop, die and leave their pids to others, as far as crewd can tell them from real ones."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from crewd.host.processes import UNSEEN, ActivitySample
from crewd.model.process import Activity, Identity, ProcessFacts
from tests.fakes.clock import FakeClock

TICKS_PER_SECOND = 100


@dataclass
class FakeProcess:
    """One process; a test changes its fields as it goes."""

    start_ticks: int
    letter: str = "S"
    marks: tuple[str, ...] = ()
    parent: int = 1
    namespace: int = 1
    mine: bool = True
    visible: bool = True
    started_at: float | None = None  # None: follows from start_ticks and the clock, as in /proc
    cpu_ticks: int = 0
    io_chars: int | None = 0
    tools: tuple[str, ...] = ()
    sockets: int | None = 0
    wait_channel: str = ""
    handles: list[int] = field(default_factory=list)  # write ends: closed at the exit


class FakeProcesses:
    """A host's processes. `pidfd` gives real descriptors, which become readable at the exit, as pidfds do."""

    def __init__(self, clock: FakeClock, boot: str = "boot-1", namespace: int = 1) -> None:
        self._clock = clock
        self._boot = boot
        self._namespace = namespace
        self._table: dict[int, FakeProcess] = {}

    def add(self, pid: int, start_ticks: int | None = None, letter: str = "S", **more: object) -> Identity:
        """Start a process, now unless `start_ticks` says otherwise; `more` are fields of FakeProcess."""
        present = self._table.get(pid)
        if present is not None:
            raise ValueError(f"pid {pid} is taken, as long as it is not reaped")
        ticks = self._now_ticks() if start_ticks is None else start_ticks
        more.setdefault("namespace", self._namespace)
        self._table[pid] = FakeProcess(ticks, letter, **more)  # type: ignore[arg-type]
        return self.identity(pid)

    def process(self, pid: int) -> FakeProcess:
        """The record of a pid, to be changed by a test."""
        return self._table[pid]

    def identity(self, pid: int) -> Identity:
        process = self._table[pid]
        return Identity(pid, process.start_ticks, self._boot, process.namespace)

    def kill(self, pid: int, reaped: bool = True) -> None:
        """End a process. Not reaped by its parent, it keeps its pid: state Z, without argv and environment."""
        process = self._table[pid]
        process.letter = "Z"
        process.marks, process.tools, process.sockets, process.wait_channel = (), (), None, ""
        _close(process.handles)
        if reaped:
            del self._table[pid]

    def reap(self, pid: int) -> None:
        """Take a zombie away."""
        if self._table[pid].letter != "Z":
            raise ValueError(f"pid {pid} lives: only a zombie can be reaped")
        del self._table[pid]

    def stop(self, pid: int) -> None:
        """SIGSTOP."""
        self._alive(pid).letter = "T"

    def resume(self, pid: int) -> None:
        """SIGCONT."""
        self._alive(pid).letter = "S"

    def reuse(self, pid: int, **more: object) -> Identity:
        """End the process, if there still is one, and give its pid to a new one: never with the same start."""
        former = self._table.get(pid)
        if former is not None:
            self.kill(pid)
        ticks = max(self._now_ticks(), former.start_ticks + 1 if former else 0)
        more.setdefault("start_ticks", ticks)
        return self.add(pid, **more)  # type: ignore[arg-type]  # one of several fields, by name

    def work(self, pid: int, cpu_ticks: int = 0, io_chars: int = 0) -> None:
        """Let a running process use CPU and move bytes; a stopped or dead one cannot."""
        process = self._alive(pid)
        if process.letter in "Tt":
            raise ValueError(f"pid {pid} is stopped: it does nothing until resumed")
        process.cpu_ticks += cpu_ticks
        if process.io_chars is not None:
            process.io_chars += io_chars

    def hide(self, pid: int) -> None:
        """Hide everything but the existence, as hidepid= does."""
        self._alive(pid).visible = False

    def reboot(self, boot: str) -> None:
        """Start the machine anew: everyone is gone, and so is the meaning of every start time."""
        for pid in list(self._table):
            self.kill(pid)
        self._boot = boot

    def facts(self, pid: int, marks: Sequence[str] = ()) -> ProcessFacts | None:
        process = self._table.get(pid)
        if process is None:
            return None
        if not process.visible:
            return ProcessFacts(Identity(pid, 0, self._boot, 0), UNSEEN, 0, 0, 0.0, mine=False, visible=False)
        namespace = process.namespace if process.mine else 0
        return ProcessFacts(
            identity=Identity(pid, process.start_ticks, self._boot, namespace),
            letter=process.letter,
            parent=process.parent,
            cpu_ticks=process.cpu_ticks,
            started_at=self._started_at(process),
            mine=process.mine,
            marks_found=tuple(mark for mark in marks if mark in process.marks) if process.mine else (),
            io_chars=process.io_chars if process.mine else None,
        )

    def activity(self, identity: Identity, before: ActivitySample | None) -> tuple[Activity, ActivitySample]:
        process = self._meant(identity)
        if process is None:
            return Activity(), ActivitySample(identity, self._clock.mono, 0, None)
        sample = ActivitySample(identity, self._clock.mono, process.cpu_ticks, process.io_chars)
        cpu, chars = 0.0, None if sample.io_chars is None else 0.0
        if before is not None and before.identity == identity and sample.at > before.at:
            seconds = sample.at - before.at
            cpu = (sample.cpu_ticks - before.cpu_ticks) / seconds
            if sample.io_chars is not None and before.io_chars is not None:
                chars = (sample.io_chars - before.io_chars) / seconds
        return Activity(cpu, chars, process.tools, process.sockets, process.wait_channel), sample

    def pidfd(self, identity: Identity) -> int | None:
        process = self._meant(identity)
        if process is None or _differ(process.namespace, identity.pid_namespace):
            return None
        read_end, write_end = os.pipe()
        if process.letter == "Z":
            os.close(write_end)
        else:
            process.handles.append(write_end)
        return read_end

    def namespace(self) -> int:
        return self._namespace

    def boot_id(self) -> str:
        return self._boot

    def close(self) -> None:
        """Close what the processes still alive hold open."""
        for process in self._table.values():
            _close(process.handles)

    def _meant(self, identity: Identity) -> FakeProcess | None:
        process = self._table.get(identity.pid)
        if process is None or not process.visible or identity.boot_id != self._boot:
            return None
        return process if process.start_ticks == identity.start_ticks else None

    def _alive(self, pid: int) -> FakeProcess:
        process = self._table[pid]
        if process.letter == "Z":
            raise ValueError(f"pid {pid} is dead")
        return process

    def _now_ticks(self) -> int:
        return int(self._clock.boot * TICKS_PER_SECOND)

    def _started_at(self, process: FakeProcess) -> float:
        if process.started_at is not None:
            return process.started_at
        return self._clock.wall - self._clock.boot + process.start_ticks / TICKS_PER_SECOND


def _differ(one: int, other: int) -> bool:
    return one != other and one != 0 and other != 0


def _close(handles: list[int]) -> None:
    while handles:
        os.close(handles.pop())
