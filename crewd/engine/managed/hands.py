"""Hands: everything that is done to real processes, in one place, so that the rest can be tried without any."""

import asyncio
import contextlib
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from crewd.host import remains, shim, spawning, subreaper
from crewd.host.attempt_folder import make_folder
from crewd.host.cgroup import Cgroup, Cgroups
from crewd.host.limits import apply
from crewd.host.machine import close_handle
from crewd.host.processes import Processes
from crewd.host.remains import Left
from crewd.host.shim import ExitRecord
from crewd.host.signalling import reap
from crewd.host.spawning import Spawn
from crewd.host.tails import tail
from crewd.model.failure import Exit
from crewd.model.plan import Limits
from crewd.model.process import Identity

KILL_PATIENCE = 2.0  # seconds for one go at everything that is left
CHECK_TAIL = 4096  # bytes of what a check wrote to stderr
log = structlog.get_logger("crewd.tasks")


class Held(Protocol):
    """A shim that waits at its gate."""

    @property
    def identity(self) -> Identity: ...

    @property
    def pidfd(self) -> int: ...

    def open_gate(self) -> None: ...

    def abandon(self) -> None: ...

    def close(self) -> None: ...


@dataclass(slots=True, eq=False)
class Grip:
    """A hold on one shim: its identity, and the descriptor that becomes readable when it ends."""

    identity: Identity
    pidfd: int
    mine: bool  # our own child: a zombie until it is reaped, so that its pid cannot be reused meanwhile
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    reaped: Exit | None = None  # how the shim itself ended, as the kernel told us


class Hands(Protocol):
    """What the conductor of attempts may do to processes. `mark` tells those of one attempt: see `Attempt`."""

    def spawn(self, spawn: Spawn) -> Held:
        """Start a shim that waits at its gate. Raises OSError."""
        ...

    def limit(self, mark: str, identity: Identity, limits: Limits) -> list[str]:
        """Set limits from outside, before the gate is opened; returns what could not be set."""
        ...

    def grip(self, held: Held, exited: Callable[[], None]) -> Grip:
        """Follow a shim of our own; `exited` is called, in the event loop, when it has ended."""
        ...

    def adopt(self, mark: str, identity: Identity, exited: Callable[[], None]) -> Grip | None:
        """Follow the shim of a predecessor; None: it has ended."""
        ...

    def abandon(self, held: Held, grip: Grip | None) -> None:
        """End a shim whose gate was never opened: nothing of it ran."""
        ...

    def let_go(self, grip: Grip) -> None:
        """Follow it no more. It goes on."""
        ...

    def read_exit(self, folder: str, grip: Grip | None) -> ExitRecord | None:
        """How the command ended; None: nobody could record it."""
        ...

    async def left(self, mark: str, grip: Grip | None) -> Sequence[Left]:
        """What lives of an attempt, its shim included."""
        ...

    def signal(self, left: Sequence[Left], number: int) -> None: ...

    async def kill(self, mark: str, grip: Grip | None) -> Sequence[Left]:
        """SIGKILL to everything that lives of an attempt; returns what still does."""
        ...

    def clear(self, mark: str) -> None:
        """Take away what held an attempt together, once it is gone."""
        ...

    async def run_check(self, spawn: Spawn, mark: str, seconds: float, limits: Limits) -> tuple[Exit, str]:
        """Run a command to its end, within so many seconds, and leave nothing of it."""
        ...


@dataclass(slots=True, eq=False)
class SystemHands:
    """The kernel's processes."""

    processes: Processes
    cgroups: Cgroups | None = None
    _mine: set[int] = field(default_factory=set)  # pids of our own shims, not reaped yet
    _groups: dict[str, Cgroup] = field(default_factory=dict)
    _stale: list[Cgroup] = field(default_factory=list)  # of attempts that are gone; not taken away yet

    def spawn(self, spawn: Spawn) -> Held:
        held = spawning.spawn(spawn)
        self._mine.add(held.identity.pid)
        return held

    def limit(self, mark: str, identity: Identity, limits: Limits) -> list[str]:
        complaints = apply(identity.pid, limits)
        if self.cgroups is not None:
            try:
                group = self.cgroups.make(_group_name(mark))
                complaints += group.limit(limits.memory_bytes, limits.processes)
                group.add(identity.pid)
                self._groups[mark] = group
            except OSError as error:
                complaints.append(f"no cgroup for {mark}: {error}; its processes are found by session and mark")
        return complaints

    def grip(self, held: Held, exited: Callable[[], None]) -> Grip:
        return self._follow(Grip(held.identity, held.pidfd, mine=True), exited)

    def adopt(self, mark: str, identity: Identity, exited: Callable[[], None]) -> Grip | None:
        if self.cgroups is not None and (group := self.cgroups.adopt(_group_name(mark))) is not None:
            self._groups[mark] = group
        pidfd = self.processes.pidfd(identity)
        if pidfd is None:
            return None
        facts = self.processes.facts(identity.pid)
        if facts is None or facts.letter in "ZX":
            close_handle(pidfd)
            return None
        return self._follow(Grip(identity, pidfd, mine=False), exited)

    def abandon(self, held: Held, grip: Grip | None) -> None:
        if grip is not None and grip.gone.is_set():
            held.close()  # somebody else ended it, and it was buried
        else:
            if grip is not None:
                asyncio.get_running_loop().remove_reader(grip.pidfd)
                grip.gone.set()
            held.abandon()
        if grip is not None:
            grip.pidfd = -1
        self._mine.discard(held.identity.pid)

    def let_go(self, grip: Grip) -> None:
        if grip.pidfd >= 0:
            asyncio.get_running_loop().remove_reader(grip.pidfd)
            close_handle(grip.pidfd)
            grip.pidfd = -1

    def read_exit(self, folder: str, grip: Grip | None) -> ExitRecord | None:
        try:
            return shim.how_it_ended(folder, grip.reaped if grip is not None else None)
        except OSError as error:
            log.warning("attempt.exit_unreadable", folder=folder, error=str(error))
            reaped = grip.reaped if grip is not None else None
            if reaped is None or reaped.code is None:
                return None if reaped is None else ExitRecord(reaped)
            return ExitRecord(shim.told_by_shell(reaped.code))

    async def left(self, mark: str, grip: Grip | None) -> Sequence[Left]:
        """Whatever a shim of our own leaves behind hangs below it, or below us: no orphan, nothing left."""
        session, since = _known(grip)
        if grip is None or not grip.mine:
            return await asyncio.to_thread(remains.prove_gone, mark, session, (), since)
        orphans = subreaper.orphans(self._mine)
        if session in self._mine:  # it has not ended: whatever is found is enough
            return await asyncio.to_thread(remains.scan, mark, session, (), since, [session, *orphans])
        if not orphans:
            return ()
        return await asyncio.to_thread(remains.prove_gone, mark, session, (), since, self._mine)

    def signal(self, left: Sequence[Left], number: int) -> None:
        remains.signal_all(left, number)

    async def kill(self, mark: str, grip: Grip | None) -> Sequence[Left]:
        group = self._groups.get(mark)
        if group is not None:
            try:
                group.kill()
            except OSError as error:
                log.warning("cgroup.kill_failed", folder=mark, error=str(error))
        session, since = _known(grip)
        # The set itself: whoever is started meanwhile is no orphan, and its exit is not for a thread to take.
        known = self._mine if grip is not None and grip.mine else None
        left = await asyncio.to_thread(remains.kill_all, mark, session, (), since, known, KILL_PATIENCE)
        subreaper.reap_orphans(self._mine)
        return left

    def clear(self, mark: str) -> None:
        group = self._groups.pop(mark, None)
        if group is not None and not group.remove():
            self._stale.append(group)  # the kernel buries its last process a moment later

    def tidy(self) -> None:
        """Take away the groups of attempts that are gone, also those of a predecessor. Whoever lives keeps his."""
        self._stale = [group for group in self._stale if not group.remove()]

    def inherit(self) -> None:
        """Find the groups that a predecessor left, once everyone that lives is adopted."""
        if self.cgroups is None:
            return
        kept = {group.folder for group in self._groups.values()}
        try:
            left = [self.cgroups.adopt(name) for name in self.cgroups.names()]
        except OSError as error:
            log.warning("cgroup.not_listed", error=str(error))
            return
        self._stale += [group for group in left if group is not None and group.folder not in kept]

    async def run_check(self, spawn: Spawn, mark: str, seconds: float, limits: Limits) -> tuple[Exit, str]:
        try:
            make_folder(spawn.folder)
            held = self.spawn(spawn)
            apply(held.identity.pid, limits)
        except OSError as error:
            return Exit(), f"cannot be started: {error.filename or spawn.argv[0]}: {error.strerror}"
        ended = asyncio.Event()
        grip = self.grip(held, ended.set)
        try:
            with contextlib.suppress(BrokenPipeError):  # it was ended just now, which its exit will tell
                held.open_gate()
            async with asyncio.timeout(seconds):
                await ended.wait()
        except TimeoutError:
            return Exit(), f"it was not done after {seconds:g} s"
        finally:
            while await self.left(mark, grip):
                await self.kill(mark, grip)
            self.let_go(grip)
        record = self.read_exit(spawn.folder, grip)
        try:
            words = tail(f"{spawn.folder}/stderr", CHECK_TAIL).decode("utf-8", "replace").strip()
        except OSError:
            words = ""  # whatever it checks, it may also have taken away
        return (record.exit if record is not None else Exit()), words

    def _follow(self, grip: Grip, exited: Callable[[], None]) -> Grip:
        loop = asyncio.get_running_loop()

        def ended() -> None:
            loop.remove_reader(grip.pidfd)
            if grip.mine:
                grip.reaped = reap(grip.identity.pid)
                self._mine.discard(grip.identity.pid)
            grip.gone.set()
            exited()

        loop.add_reader(grip.pidfd, ended)
        return grip


def _group_name(mark: str) -> str:
    """Name the control group of an attempt after its run: ids may be longer than a name of a folder."""
    run_id = mark.rsplit("/", 2)[0].rpartition("/")[2]
    return f"{run_id[:40]}-{hashlib.sha256(mark.encode()).hexdigest()[:16]}"


def _known(grip: Grip | None) -> tuple[int, int]:
    return (grip.identity.pid, grip.identity.start_ticks) if grip is not None else (0, 0)
