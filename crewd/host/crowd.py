"""Every living process of this user, and what its environment says of a run: one bounded walk over /proc."""

import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from crewd.host.clock import Clock, SystemClock, boot_id
from crewd.host.proc_stat import Stat, read_proc, read_stat
from crewd.model.orphan import Bystander
from crewd.model.process import Identity

PROC = "/proc"
PROCESSES_MAX = 65_536  # looked at in one walk
ENVIRON_READ_MAX = 8 << 20  # bytes: above what execve(2) ever takes (6 MiB)
ARGUMENTS_READ_MAX = 128 * 1024
VALUE_MAX = 4096  # bytes of one variable, PATH_MAX: a longer one names no folder
VALUES_MAX = 32  # marks kept of one process, which may carry thousands of the same name
RUN_ARGUMENT = b"--run-id"


class Crowd(NamedTuple):
    """What one walk found."""

    processes: tuple[Bystander, ...]
    cut: int  # processes that were not looked at for their number


def crowd(names: Collection[str], clock: Clock | None = None, proc: str = PROC, most: int = PROCESSES_MAX) -> Crowd:
    """Look at every process of this user. `names`: variables of an environment that are told. Never raises OSError.

    Another user's process is left out, also for root: who may signal everybody must not. So are kernel threads.
    """
    pids = sorted(int(name) for name in _names(proc) if name.isdigit())
    wanted = {os.fsencode(name): name for name in names}
    booted_at, boot = _booted_at(clock or SystemClock()), boot_id()
    found = [_bystander(proc, pid, wanted, booted_at, boot) for pid in pids[:most]]
    return Crowd(tuple(each for each in found if each is not None), max(0, len(pids) - most))


def above(pid: int, proc: str = PROC) -> set[int]:
    """Name a process, everything above it, and process 1."""
    found = {1}
    while pid > 0 and pid not in found:
        found.add(pid)
        stat = read_stat(proc, pid)
        pid = stat.parent if stat is not None else 0
    return found


def booted_at(clock: Clock | None = None) -> float:
    """Say when this machine started, by its wall clock as it stands now."""
    return _booted_at(clock or SystemClock())


def _names(proc: str) -> list[str]:
    try:
        return os.listdir(proc)
    except OSError:
        return []


def _booted_at(clock: Clock) -> float:
    now = clock.read()
    return now.wall - now.boot


def _bystander(proc: str, pid: int, wanted: dict[bytes, str], booted: float, boot: str) -> Bystander | None:
    try:
        if Path(f"{proc}/{pid}").stat().st_uid != os.geteuid():
            return None
    except OSError:
        return None
    stat = read_stat(proc, pid)
    if stat is None or stat.is_kernel or stat.is_over:
        return None
    marks, readable = _marks(f"{proc}/{pid}/environ", wanted)
    argument = _run_argument(f"{proc}/{pid}/cmdline")
    rss, namespace = _rss(proc, pid), _namespace(proc, pid)
    after = read_stat(proc, pid)
    if after is None or after.start_ticks != stat.start_ticks:
        return None  # another process took the number while this one was looked at
    started_at = booted + stat.start_ticks / os.sysconf("SC_CLK_TCK")
    identity = Identity(pid, stat.start_ticks, boot, namespace)
    letter = _letter(stat)
    return Bystander(
        identity, stat.name, letter, stat.parent, started_at, rss, marks, argument, readable, stat.session,
        stat.terminal,
    )  # fmt: skip


def _letter(stat: Stat) -> str:
    # The first thread may have ended before the others: the process goes on.
    return "S" if stat.letter in "ZX" else stat.letter


def _marks(path: str, wanted: dict[bytes, str]) -> tuple[tuple[tuple[str, str], ...], bool]:
    """Pick the variables that are asked for; say also whether the environment was read to its end."""
    try:
        environ = read_proc(path, ENVIRON_READ_MAX + 1)
    except OSError:
        return (), False
    found = tuple(_picked(environ, wanted))
    whole = len(environ) <= ENVIRON_READ_MAX and len(found) <= VALUES_MAX
    return found[:VALUES_MAX], whole


def _picked(environ: bytes, wanted: dict[bytes, str]) -> Iterator[tuple[str, str]]:
    for entry in environ.split(b"\0"):
        name, equals, value = entry.partition(b"=")
        if equals and name in wanted:
            yield wanted[name], os.fsdecode(value[:VALUE_MAX])


def _run_argument(path: str) -> str:
    """Read what follows `--run-id` in the arguments; "": there is no such argument, or they cannot be read."""
    try:
        arguments = read_proc(path, ARGUMENTS_READ_MAX).split(b"\0")
    except OSError:
        return ""
    for at, argument in enumerate(arguments):
        if argument == RUN_ARGUMENT and at + 1 < len(arguments):
            return os.fsdecode(arguments[at + 1][:VALUE_MAX])
        if argument.startswith(RUN_ARGUMENT + b"="):
            return os.fsdecode(argument[len(RUN_ARGUMENT) + 1 :][:VALUE_MAX])
    return ""


def _rss(proc: str, pid: int) -> int:
    """Read field 2 of /proc/PID/statm (proc(5)), in bytes; 0 where it cannot be told."""
    try:
        return int(read_proc(f"{proc}/{pid}/statm", 256).split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def _namespace(proc: str, pid: int) -> int:
    try:
        return Path(f"{proc}/{pid}/ns/pid").stat().st_ino
    except OSError:
        return 0
