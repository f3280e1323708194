"""Processes: what a runtime's record claims, what the kernel shows, and what follows from both."""

from enum import StrEnum

import msgspec


class Identity(msgspec.Struct, frozen=True, gc=False):
    """What makes a process this one and no other, for as long as the machine is up: a pid alone never does."""

    pid: int
    start_ticks: int  # field 22 of /proc/PID/stat (proc(5)), clock ticks since boot
    boot_id: str
    pid_namespace: int  # inode of /proc/PID/ns/pid; 0 where it may not be read


class ProcessClaim(msgspec.Struct, frozen=True, gc=False):
    """What a runtime's files say about the process that does the work."""

    pid: int
    recorded_at: float | None = None  # wall time at which the record that names it was written
    marks: tuple[str, ...] = ()  # texts of which the process carries one in argv or environment; () = unmarked
    start_ticks: int | None = None  # where the runtime recorded it
    boot_id: str | None = None
    pid_namespace: int | None = None
    host: str | None = None
    # False where a missing pid proves nothing: the folder lies on a network filesystem.
    local: bool = True
    role: str = "worker"  # or "runner", where the runtime names only the process above the worker


class ProcessFacts(msgspec.Struct, frozen=True, gc=False):
    """What the kernel shows of one pid, at one moment. None in a field: it may not be read."""

    identity: Identity
    letter: str  # state letter of /proc/PID/stat: R S D T t Z X I
    parent: int
    cpu_ticks: int  # utime + stime
    started_at: float  # wall time of the start, from the boot clock; moves when the wall clock is stepped
    mine: bool  # False where argv and environment may not be read (another user's process)
    marks_found: tuple[str, ...] = ()  # those of the marks asked for that argv or environment carry
    io_chars: int | None = None  # rchar + wchar of /proc/PID/io: bytes through read(2) and write(2), sockets too
    # False: it exists, and /proc hides everything else of it (hidepid, ProtectProc=): letter "?", start_ticks 0.
    visible: bool = True


class ProcessState(StrEnum):
    """What crewd holds to be true of the process that a claim means."""

    ALIVE = "alive"
    STOPPED = "stopped"  # state T or t: exists, and does nothing until continued
    EXITED = "exited"  # gone, a zombie, or its pid belongs to another process
    HIDDEN = "hidden"  # cannot be seen from here: no pid, other host, other pid namespace


class Activity(msgspec.Struct, frozen=True, gc=False):
    """Cheap signs that an otherwise silent, living process still does something (docs/detection.md)."""

    cpu_ticks_per_second: float = 0.0
    io_chars_per_second: float | None = 0.0  # None: may not be read
    tools: tuple[str, ...] = ()  # names of living processes below it
    sockets: int | None = None  # established connections
    wait_channel: str = ""


class ProcessSeen(msgspec.Struct, frozen=True, gc=False):
    """The process of one worker, as judged this round: its state, and why crewd thinks so."""

    state: ProcessState
    why: str
    identity: Identity | None = None
    letter: str = ""
    activity: Activity | None = None  # looked for only when the worker is silent


HIDDEN = ProcessSeen(ProcessState.HIDDEN, "no process is named")
