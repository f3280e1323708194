"""Processes as the kernel shows them: what bears a pid, whether it is the one meant, and whether it does anything."""

import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from crewd.host import descent
from crewd.host.clock import Clock, SystemClock, boot_id
from crewd.host.proc_stat import Stat, read_proc, read_stat
from crewd.model.process import Activity, Identity, ProcessFacts

# Of argv and of environment, each: a mark stands near the front, and a hostile process may carry megabytes.
MARKS_READ_MAX = 128 * 1024
PID_END = 1 << 31  # pid_t holds no more; whoever writes a claim may write any number
UNSEEN = "?"  # letter of a process that exists, while /proc hides everything else of it


class ActivitySample(msgspec.Struct, frozen=True):
    """Counters of one process at one moment; two of them make a rate."""

    identity: Identity
    at: float  # CLOCK_MONOTONIC, seconds
    cpu_ticks: int
    io_chars: int | None


class Processes(Protocol):
    """Whatever knows the processes of this host."""

    def facts(self, pid: int, marks: Sequence[str] = ()) -> ProcessFacts | None: ...

    def activity(self, identity: Identity, before: ActivitySample | None) -> tuple[Activity, ActivitySample]: ...

    def pidfd(self, identity: Identity) -> int | None: ...

    def namespace(self) -> int: ...

    def boot_id(self) -> str: ...


class ProcProcesses:
    """The processes of /proc (proc(5)). `proc` is where it is mounted."""

    def __init__(self, clock: Clock | None = None, proc: str = "/proc") -> None:
        self._clock = clock or SystemClock()
        self._proc = proc
        self._boot_id = boot_id()
        self._counts_as_we_do = _counts_as_we_do(proc)
        self._ticks_per_second = os.sysconf("SC_CLK_TCK")

    def facts(self, pid: int, marks: Sequence[str] = ()) -> ProcessFacts | None:
        """Tell what bears this pid; None only where the kernel itself says that nothing does.

        A zombie is told with letter "Z". What exists and is hidden (hidepid, ProtectProc=), or stands under another
        number in /proc because that was mounted in another pid namespace (`nsenter -p`), has `visible` False,
        letter "?" and start_ticks 0: it proves nothing either way. Never raises OSError.
        """
        if not 0 < pid < PID_END:
            return None
        found = self._stat(pid) if self._counts_as_we_do else None
        if not _exists(pid):
            return None
        if found is None:
            return self._unseen(pid)
        namespace, mine = self._namespace_of(pid)
        marks_found, whole = self._marks(pid, marks) if marks and not found.is_kernel else ((), True)
        return ProcessFacts(
            identity=Identity(pid, found.start_ticks, self._boot_id, namespace),
            letter=_letter(found),
            parent=found.parent,
            cpu_ticks=found.cpu_ticks,
            started_at=self._wall_of(found.start_ticks),
            mine=mine and whole,
            marks_found=marks_found,
            io_chars=self._io(pid),
        )

    def activity(self, identity: Identity, before: ActivitySample | None) -> tuple[Activity, ActivitySample]:
        """Look for signs of work; rates are since `before`, and 0 without it.

        A process that is gone, or is not the one meant, shows none.
        """
        pid = identity.pid
        now = self._clock.read().mono
        found = self._stat(pid)
        if found is None or found.start_ticks != identity.start_ticks:
            return Activity(), ActivitySample(identity, now, 0, None)
        sample = ActivitySample(identity, now, found.cpu_ticks, self._io(pid))
        cpu, chars = _rates(before, sample)
        return (
            Activity(
                cpu_ticks_per_second=cpu,
                io_chars_per_second=chars,
                tools=descent.living_below(self._proc, pid),
                sockets=descent.established(self._proc, pid),
                wait_channel=self._wait_channel(pid),
            ),
            sample,
        )

    def pidfd(self, identity: Identity) -> int | None:
        """Open a handle that means this process and no other; the caller closes it. None: gone, or not provably it.

        Raises OSError where the kernel cannot give a handle (no descriptor left): that says nothing of the process.
        """
        if identity.boot_id != self._boot_id or not 0 < identity.pid < PID_END or not self._counts_as_we_do:
            return None
        try:
            handle = os.pidfd_open(identity.pid)
        except OSError as error:
            # EINVAL, since 6.9 ENOENT: the number now belongs to a thread.
            if error.errno in (errno.ESRCH, errno.EINVAL, errno.ENOENT):
                return None
            raise
        # The handle pins whatever bears the pid now: what it is can be asked in peace.
        found = self._stat(identity.pid)
        space, _ = self._namespace_of(identity.pid)
        if found is None or found.start_ticks != identity.start_ticks or _differ(space, identity.pid_namespace):
            os.close(handle)
            return None
        return handle

    def namespace(self) -> int:
        """Return the inode that names crewd's own pid namespace; 0 where it may not be read."""
        try:
            return Path(f"{self._proc}/self/ns/pid").stat().st_ino
        except OSError:
            return 0

    def boot_id(self) -> str:
        """Name this boot."""
        return self._boot_id

    def _stat(self, pid: int) -> Stat | None:
        return read_stat(self._proc, pid)

    def _unseen(self, pid: int) -> ProcessFacts:
        identity = Identity(pid, 0, self._boot_id, 0)
        return ProcessFacts(identity, UNSEEN, parent=0, cpu_ticks=0, started_at=0.0, mine=False, visible=False)

    def _namespace_of(self, pid: int) -> tuple[int, bool]:
        """Return the inode of the pid namespace, and whether the process lets itself be read: one permission."""
        try:
            return Path(f"{self._proc}/{pid}/ns/pid").stat().st_ino, True
        except PermissionError:
            return 0, False
        except OSError:  # a zombie has none any more
            return 0, True

    def _wall_of(self, start_ticks: int) -> float:
        now = self._clock.read()
        return now.wall - now.boot + start_ticks / self._ticks_per_second

    def _marks(self, pid: int, marks: Sequence[str]) -> tuple[tuple[str, ...], bool]:
        """Search argv and environment; say also whether what was not found is not there."""
        texts = [self._front(f"{self._proc}/{pid}/{name}") for name in ("cmdline", "environ")]
        found = tuple(mark for mark in marks if any(_carries(text, mark) for text in texts if text))
        whole = all(text is not None and len(text) <= MARKS_READ_MAX for text in texts)
        # Both are empty for a moment inside execve(2), and for good only in zombies.
        return found, (whole and any(texts)) or len(found) == len(marks)

    def _front(self, path: str) -> bytes | None:
        try:
            return read_proc(path, MARKS_READ_MAX + 1)
        except OSError:
            return None

    def _io(self, pid: int) -> int | None:
        try:
            lines = read_proc(f"{self._proc}/{pid}/io").splitlines()
        except OSError:
            return None
        counts = dict(line.split(b": ", 1) for line in lines if b": " in line)
        try:
            return int(counts[b"rchar"]) + int(counts[b"wchar"])
        except (KeyError, ValueError):
            return None

    def _wait_channel(self, pid: int) -> str:
        try:
            text = read_proc(f"{self._proc}/{pid}/wchan").decode("ascii", "replace").strip()
        except OSError:
            return ""
        return "" if text == "0" else text


def _letter(found: Stat) -> str:
    """The state letter of the process. Its first thread may end before the others: a zombie of them all it is not."""
    return "S" if found.letter == "Z" and found.threads > 1 else found.letter


def _counts_as_we_do(proc: str) -> bool:
    """Whether the numbers in this /proc are those of our own pid namespace: we stand in it under our own."""
    try:
        return Path(f"{proc}/self").readlink() == Path(str(os.getpid()))
    except OSError:
        return True  # none is mounted there: nothing is found in it either


def _exists(pid: int) -> bool:
    """Ask the kernel itself, past whatever /proc hides. The number of a mere thread is no process."""
    try:
        os.close(os.pidfd_open(pid))
    except OSError as error:
        # A thread's number: EINVAL, since 6.9 ENOENT.
        if error.errno in (errno.ESRCH, errno.EINVAL, errno.ENOENT):
            return False
    else:
        return True
    # No descriptor left, or a sandbox without pidfd_open. Signal 0 is sent to nobody (kill(2)).
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # EPERM: it exists
    return True


def _differ(one: int, other: int) -> bool:
    return one != other and one != 0 and other != 0


def _carries(text: bytes, mark: str) -> bool:
    """Search for a mark as a word: `run-1` is not in `run-10`, which a neighbour may carry."""
    wanted = os.fsencode(mark)
    at = text.find(wanted) if wanted else -1
    while at >= 0:
        end = at + len(wanted)
        if not (_joined(text[at - 1 : at], wanted[:1]) or _joined(wanted[-1:], text[end : end + 1])):
            return True
        at = text.find(wanted, at + 1)
    return False


def _joined(left: bytes, right: bytes) -> bool:
    return left.isalnum() and right.isalnum()


def _rates(before: ActivitySample | None, after: ActivitySample) -> tuple[float, float | None]:
    readable = after.io_chars is not None
    if before is None or before.identity != after.identity or after.at <= before.at:
        return 0.0, 0.0 if readable else None
    seconds = after.at - before.at
    cpu = max(0, after.cpu_ticks - before.cpu_ticks) / seconds
    if after.io_chars is None or before.io_chars is None:
        return cpu, 0.0 if readable else None
    return cpu, max(0, after.io_chars - before.io_chars) / seconds
