"""Starting an attempt: a shim in a session of its own, which waits at a gate until crewd has recorded who it is."""

import errno
import fcntl
import functools
import os
import signal
import stat
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from crewd.host import shim
from crewd.host.brand import brand, brand_of
from crewd.host.clock import boot_id
from crewd.host.proc_stat import read_stat
from crewd.model.process import Identity

SHELL = "/bin/sh"
APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
ABOVE = 10  # no source of a dup2 may lie where the shim's own descriptors come to lie
UNTOUCHABLE = (signal.SIGKILL, signal.SIGSTOP)
DEFAULTS = tuple(number for number in signal.valid_signals() if number not in UNTOUCHABLE)


@dataclass(frozen=True)
class Spawn:
    """What is to be started.

    `argv[0]` is a path, or a name that is looked for as the shell does, with the worker's own PATH. Names in `env`
    that are no shell names (letters, digits, `_`) do not reach the command. `stdin`: "file" is `<folder>/stdin` as it
    is, "fifo" is a FIFO made there.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str  # absolute
    folder: str  # of the attempt; exists
    stdin: Literal["none", "file", "fifo"] = "none"


class Held:
    """A shim at its gate. Whoever holds it owns the gate and the pidfd."""

    def __init__(self, identity: Identity, pidfd: int, gate: int) -> None:
        self.identity = identity
        self.pidfd = pidfd
        self._gate = gate

    def open_gate(self) -> None:
        """Let the command begin. Raises BrokenPipeError where the shim is no more; nothing has begun then."""
        try:
            os.write(self._gate, b"\n")
        finally:
            self._shut()

    def abandon(self) -> None:
        """End the shim, which has run nothing, and reap it. Raises ValueError once the gate was opened."""
        if self._gate < 0:
            raise ValueError(f"the gate of process {self.identity.pid} is open: what began must be stopped")
        self._shut()
        # The end of the pipe would do; a shim that somebody stopped would not notice it.
        signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
        os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED)
        self.close()

    def close(self) -> None:
        """Give the descriptors back, and end a shim that still waits. A second time does nothing."""
        self._shut()
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1

    def _shut(self) -> None:
        if self._gate >= 0:
            os.close(self._gate)
            self._gate = -1


def resolve(argv0: str, cwd: str, path: str) -> str | None:
    """Find a program as the shell would, from `cwd`; None: there is none, or none that may be executed."""
    if not argv0 or "\0" in argv0:
        return None
    folders = [""] if "/" in argv0 else path.split(":")  # an empty part of PATH is the working folder
    for folder in folders:
        candidate = os.path.join(cwd, folder, argv0)
        if _may_be_run(candidate):
            return candidate
    return None


def spawn(spawn: Spawn) -> Held:
    """Start the shim of one attempt; the command begins when its gate is opened, and never if crewd ends before.

    Raises OSError that names what is missing: the program, a file of the folder, a descriptor. Nothing runs then.
    """
    program = resolve(spawn.argv[0], spawn.cwd, spawn.env.get("PATH", os.defpath))
    if program is None:
        raise FileNotFoundError(errno.ENOENT, "no such program, or it may not be executed", spawn.argv[0])
    if any("\0" in text for text in (*spawn.argv, spawn.cwd, *spawn.env, *spawn.env.values())):
        raise OSError(errno.EINVAL, "a NUL byte in an argument, a name or a value of the environment", program)
    opened: list[int] = []
    try:
        reading, gate = os.pipe()
        opened.append(reading)
        try:
            places = {shim.GATE: reading, **_streams(spawn, opened)}
            pid = _start(spawn, program, places)
        except BaseException:
            os.close(gate)
            raise
    finally:
        _close(opened)
    try:
        return _held(pid, gate)
    except BaseException:
        os.close(gate)
        os.kill(pid, signal.SIGKILL)  # our child, not yet reaped: the number is its own
        os.waitpid(pid, 0)
        raise


def keep_descriptors_private() -> None:
    """Let no child inherit a descriptor above stderr, such as those that a service manager handed over."""
    for name in os.listdir("/proc/self/fd"):
        try:
            if int(name) > 2:
                os.set_inheritable(int(name), False)
        except OSError:  # the one through which the folder was listed
            continue


def _may_be_run(path: str) -> bool:
    try:
        # As root, access(2) allows to execute whatever anybody may.
        found = os.stat(path)  # noqa: PTH116 - twice for every start, and a Path costs more than the call
        return stat.S_ISREG(found.st_mode) and os.access(path, os.X_OK, effective_ids=True)
    except OSError:
        return False


def _streams(spawn: Spawn, opened: list[int]) -> dict[int, int]:
    """Open what the shim finds at each of its descriptors; `opened` are to be closed, whatever comes."""

    def keep(path: str, flags: int) -> int:
        opened.append(os.open(path, flags, 0o600))
        return opened[-1]

    places: dict[int, int] = {}
    source = f"{spawn.folder}/stdin"
    match spawn.stdin:
        case "fifo":
            places[shim.HOLD] = _make_fifo(source, keep)
            # Somebody can write now, so that this does not wait.
            places[0] = keep(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        case "file":
            places[0] = keep(source, READ)
            if not stat.S_ISREG(os.fstat(places[0]).st_mode):
                raise OSError(errno.EINVAL, "not a plain file", source)
            os.set_blocking(places[0], True)  # the command shares this flag
        case "none":
            places[0] = keep("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    places[1] = keep(f"{spawn.folder}/stdout", APPEND)
    places[2] = keep(f"{spawn.folder}/stderr", APPEND)
    places[shim.RECORD] = keep(f"{spawn.folder}/{shim.RECORD_NAME}", APPEND)
    return places


def _make_fifo(path: str, keep: Callable[[str, int], int]) -> int:
    os.mkfifo(path, 0o600)
    handle = keep(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISFIFO(os.fstat(handle).st_mode):
        raise OSError(errno.EINVAL, "not a FIFO", path)
    return handle


def _start(spawn: Spawn, program: str, places: Mapping[int, int]) -> int:
    copies: list[int] = []
    try:
        actions = []
        for place, handle in places.items():
            # In a daemon without standard streams the pipe itself may be given number 0.
            if handle < ABOVE:
                handle = fcntl.fcntl(handle, fcntl.F_DUPFD_CLOEXEC, ABOVE)
                copies.append(handle)
            actions.append((os.POSIX_SPAWN_DUP2, handle, place))
        return os.posix_spawn(
            SHELL,
            (SHELL, "-c", shim.SCRIPT, "crewd-shim", spawn.cwd, program, *spawn.argv[1:]),
            spawn.env,
            file_actions=actions,
            setsid=True,
            setsigmask=(),
            setsigdef=DEFAULTS,  # Python itself ignores SIGPIPE, and an ignored signal is inherited
        )
    finally:
        _close(copies)


def _held(pid: int, gate: int) -> Held:
    found = read_stat("/proc", pid)
    if found is None:
        raise OSError(errno.ESRCH, f"process {pid}, just started, cannot be seen in /proc")
    brand(pid, brand_of(pid, found.start_ticks))
    boot, namespace = _here()
    return Held(Identity(pid, found.start_ticks, boot, namespace), os.pidfd_open(pid), gate)


@functools.cache
def _here() -> tuple[str, int]:
    """Name this boot and our pid namespace, in which our children are born."""
    return boot_id(), Path("/proc/self/ns/pid_for_children").stat().st_ino


def _close(handles: Iterable[int]) -> None:
    for handle in handles:
        os.close(handle)
