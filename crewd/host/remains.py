"""What is left of an attempt: every process that belongs to it, wherever it went, and the end of them all.

A process belongs to an attempt if it carries the attempt's mark in its environment or its brand, if it is of the
shim's session, or if it descends from one of those. crewd itself, everything above crewd, and process 1 never do.
"""

import functools
import os
import signal
import time
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from crewd.host.brand import brand_of, read_brand
from crewd.host.clock import boot_id
from crewd.host.proc_stat import Stat, read_proc, read_stat
from crewd.host.signalling import await_ends, deliver, deliver_group
from crewd.host.subreaper import orphans, reap_orphans
from crewd.model.process import Identity

PROC = "/proc"
MARK = "CREWD_ATTEMPT_DIR"  # RUN/TASK/ATTEMPT is not unique: two crewds on a host may have runs of one id
ENVIRON_READ_MAX = 4 << 20  # above what execve(2) takes with the usual stack limit
HANDLES_MAX = 256  # held open at one time
PATIENCE = 2.0  # seconds
SHIM_GRACE = 0.2  # for a shim to record what became of its command, once that is dead
STEP = 0.05
LOOKS_BEFORE_CHASE = 2
LOOKS_EMPTY = 40  # that find nobody, while somebody always vanishes before their eyes
LOOKS_STANDING = 6  # while everything is being stopped
CHASED = 4  # newest pids tried at once


class Left(msgspec.Struct, frozen=True):
    """One living process of an attempt."""

    identity: Identity
    name: str
    letter: str  # of /proc/PID/stat
    session: int
    group: int
    parent: int
    marked: bool  # carries the mark or the brand; otherwise found by session or descent
    readable: bool  # False: its environment may not be read


def scan(
    mark: str, session: int, roots: Sequence[int] = (), since: int = 0, among: Iterable[int] | None = None
) -> list[Left]:
    """Find what is left of one attempt, in one walk over /proc: oldest first. Never raises OSError.

    `mark` is the worth of CREWD_ATTEMPT_DIR, `session` the pid of the shim (0: none is known), `since` its start
    ticks: nothing older belongs to the attempt, and without it the brand is unknown. What descends from `roots`
    belongs to it as well; they themselves do not. `among`: look at these and what is below them only.

    To find nobody once proves little: processes that fork and end live for less than a walk. See `prove_gone`.
    """
    return _look(_Kin(mark, session, tuple(roots), since), among).left


def prove_gone(
    mark: str, session: int, roots: Sequence[int] = (), since: int = 0, known: Container[int] | None = None
) -> list[Left]:
    """Find what is left of an attempt whose shim has ended; nothing: it is proven that nothing is.

    `known`: crewd is a subreaper, the shim was its child, and these are its other shims (see `orphans`). Then the
    kernel's list of our children is the proof, and costs microseconds. Without it, walks over /proc follow each
    other until one finds nobody, and nobody who died before its eyes, at most `LOOKS_EMPTY` times: on a machine
    where something always dies, that is as much of a proof as can be had.
    """
    kin = _Kin(mark, session, tuple(roots), since)
    return _look_around(kin) if known is None else _look_below(kin, known)


def below(roots: Iterable[int]) -> list[int]:
    """List these processes and everything below them, by the kernel's lists of children."""
    queue = list(roots)
    known = set(queue)
    for pid in queue:
        new = [child for child in _children(pid) if child not in known]
        known.update(new)
        queue += new
    return queue


def signal_all(lefts: Iterable[Left], number: int) -> int:
    """Send a signal to each, if it is still the one that was seen; returns how many took it.

    A process that may not be signalled is passed over: the next look finds it again.
    """
    taken = 0
    for left in lefts:
        with _handle(left) as handle:
            if handle >= 0:
                with suppress(PermissionError):
                    taken += deliver(handle, number)
    return taken


def kill_all(
    mark: str,
    session: int,
    roots: Sequence[int] = (),
    since: int = 0,
    known: Container[int] | None = None,
    patience: float = PATIENCE,
) -> list[Left]:
    """End everything that is left of an attempt, and prove it (`prove_gone`); returns what still lives: nothing.

    First all are stopped, until a look finds nobody new: what stands still neither forks nor takes the place of what
    dies. Then all are killed, the shim last, so that it can record the end of its command. Blocks, for `patience`
    seconds at most. Never raises OSError.
    """
    kin = _Kin(mark, session, tuple(roots), since)
    ends = time.monotonic() + patience
    shim_until = 0.0
    looks = 0
    while left := _left(kin, known):
        now = time.monotonic()
        if now >= ends:
            return left
        others = [each for each in left if each.identity.pid != session]
        if others:
            looks += 1
            _kill(_stand_still(kin, others, ends))
            if looks >= LOOKS_BEFORE_CHASE:
                _kill_group(kin)
                _chase(kin, min(ends, time.monotonic() + STEP))
        elif not shim_until:
            shim_until = now + SHIM_GRACE
            signal_all(left, signal.SIGCONT)  # somebody may have stopped it
            _await(left, SHIM_GRACE)
        else:
            _kill(left)
    return []


class _Kin(NamedTuple):
    """What tells the processes of one attempt."""

    mark: str
    session: int
    roots: tuple[int, ...]
    since: int

    @property
    def brand(self) -> int:
        return brand_of(self.session, self.since) if self.session and self.since else 0


class _Seen(NamedTuple):
    left: list[Left]
    vanished: bool  # somebody was listed, and gone when the look came to him: he may have left a child
    dead: frozenset[int]  # and not yet reaped: of the attempt, or among those asked for


def _left(kin: _Kin, known: Container[int] | None) -> list[Left]:
    if known is None:
        return _look_around(kin)
    reap_orphans(known)  # a bomb leaves thousands of dead: each of them makes a walk longer
    return _look(kin).left or _look_below(kin, known)


def _look_around(kin: _Kin) -> list[Left]:
    dead_before: frozenset[int] = frozenset()
    fresh: frozenset[int] = frozenset()
    for _ in range(LOOKS_EMPTY):
        left, vanished, dead = _look(kin)
        fresh = dead - dead_before
        if left or not (vanished or fresh):
            return left
        dead_before = dead
    # Strangers may die as they like. Where it was the attempt's own that died until now, there are more.
    stats = ((pid, read_stat(PROC, pid)) for pid in fresh)
    return [_told(pid, stat, True, False) for pid, stat in stats if stat is not None]


def _look_below(kin: _Kin, known: Container[int]) -> list[Left]:
    living: list[int] = []
    for _ in range(LOOKS_EMPTY):
        living = orphans(known)
        if not living:
            return []
        left, vanished, dead = _look(kin, living)
        if left or not (vanished or dead.intersection(living)):
            return left
    # They end as fast as they come, and no look was enough to tell whose they are.
    stats = ((pid, read_stat(PROC, pid)) for pid in living)
    return [_told(pid, stat, False, False) for pid, stat in stats if stat is not None]


def _look(kin: _Kin, among: Iterable[int] | None = None) -> _Seen:
    """Walk over the processes, the newest first: they are the ones that may soon be gone."""
    listed = [int(name) for name in os.listdir(PROC) if name.isdigit()] if among is None else below(among)
    table: dict[int, Stat] = {}
    marks: dict[int, tuple[bool, bool]] = {}
    brand = kin.brand
    dead: set[int] = set()
    vanished = False
    for pid in sorted(listed, reverse=True):
        stat = read_stat(PROC, pid)
        if stat is None:
            vanished = True
            continue
        table[pid] = stat
        if stat.is_over:
            if among is not None or (brand and read_brand(pid) == brand):
                dead.add(pid)
        elif stat.start_ticks >= kin.since and not stat.is_kernel:
            marks[pid] = _marked(pid, kin.mark, brand)
            vanished = vanished or not (marks[pid][1] or _exists(pid))
    spared = _above_us(table)
    by_session = kin.session and _is_ours(table.get(kin.session), kin)
    found = {
        pid
        for pid, (marked, _) in marks.items()
        if (marked or (by_session and table[pid].session == kin.session)) and pid not in spared
    }
    found.update(_descendants(table, (*found, *kin.roots), spared))
    left = [_told(pid, table[pid], *(marks.get(pid) or (False, False))) for pid in found]
    return _Seen(
        sorted(left, key=lambda each: (each.identity.start_ticks, each.identity.pid)), vanished, frozenset(dead)
    )


def _stand_still(kin: _Kin, lefts: list[Left], ends: float) -> list[Left]:
    """Stop these, and whoever is found beside them meanwhile, but for the shim; returns all that were stopped."""
    stopped: dict[Identity, Left] = {}
    for _ in range(LOOKS_STANDING):
        new = [each for each in lefts if each.identity not in stopped]
        if not new or time.monotonic() >= ends:
            break
        signal_all(reversed(new), signal.SIGSTOP)  # the newest are those that may soon have forked
        stopped.update((each.identity, each) for each in new)
        lefts = [each for each in _look(kin).left if each.identity.pid != kin.session]
    return list(stopped.values())


def _kill_group(kin: _Kin) -> None:
    """Strike everybody who never left the shim's group at once, past any fork. The shim dies with them."""
    with suppress(OSError):
        handle = os.pidfd_open(kin.session)
        try:
            stat = read_stat(PROC, kin.session)
            if stat is not None and stat.start_ticks == kin.since:
                deliver_group(handle, kin.session, signal.SIGKILL)
        finally:
            os.close(handle)


def _kill(lefts: Sequence[Left]) -> None:
    for start in range(0, len(lefts), HANDLES_MAX):
        batch = lefts[start : start + HANDLES_MAX]
        signal_all(batch, signal.SIGKILL)
        _await(batch, STEP)


def _await(lefts: Iterable[Left], seconds: float) -> None:
    with ExitStack() as stack:
        handles = [stack.enter_context(_handle(left)) for left in lefts]
        await_ends([handle for handle in handles if handle >= 0], seconds)


def _chase(kin: _Kin, until: float) -> None:
    """Strike what is never where a look saw it: a chain of processes that each fork and end sooner than a walk does.

    The newest pid of all is in /proc/loadavg; asking who bears it takes microseconds.
    """
    brand = kin.brand
    spared = {kin.session, *_above_us({})}
    figures = os.open(f"{PROC}/loadavg", os.O_RDONLY | os.O_CLOEXEC)
    try:
        while time.monotonic() < until:
            newest = int(os.pread(figures, 128, 0).split()[-1])
            for pid in range(newest, max(0, newest - CHASED), -1):
                if pid not in spared:
                    _strike(pid, kin, brand)
    finally:
        os.close(figures)


def _strike(pid: int, kin: _Kin, brand: int) -> None:
    with suppress(OSError):
        handle = os.pidfd_open(pid)
        try:
            if _marked(pid, kin.mark, brand)[0]:
                deliver(handle, signal.SIGKILL)
        finally:
            os.close(handle)


def _above_us(table: Mapping[int, Stat]) -> set[int]:
    """Name process 1, crewd, and everything above it: a crewd may itself run below another one's attempt."""
    spared = {1}
    pid = os.getpid()
    while pid > 0 and pid not in spared:
        spared.add(pid)
        stat = table.get(pid) or read_stat(PROC, pid)
        pid = stat.parent if stat is not None else 0
    return spared


def _is_ours(leader: Stat | None, kin: _Kin) -> bool:
    """Say whether the session of that number is the attempt's: the number is free once all of a session are gone."""
    if leader is None:
        return True  # nobody can have taken the number for a new session and still lead it
    if kin.since:
        return leader.start_ticks == kin.since
    return leader.is_over or _marked(kin.session, kin.mark, 0)[0]


def _marked(pid: int, mark: str, brand: int) -> tuple[bool, bool]:
    """Say whether a process carries the brand or the mark, and whether its environment may be read."""
    if brand and read_brand(pid) == brand:
        return True, True
    try:
        environ = read_proc(f"{PROC}/{pid}/environ", ENVIRON_READ_MAX)
    except OSError:
        return False, False
    return f"\0{MARK}={mark}\0".encode() in b"\0" + environ + b"\0", True


def _descendants(table: Mapping[int, Stat], roots: Iterable[int], spared: Container[int]) -> Iterator[int]:
    """Name every living process below these. What hangs below crewd hangs below it alone."""
    families: dict[int, list[int]] = {}
    for pid, stat in table.items():
        if not stat.is_over:
            families.setdefault(stat.parent, []).append(pid)
    queue = [pid for pid in roots if pid not in spared]
    known = set(queue)
    for pid in queue:
        for child in families.get(pid, ()):
            if child not in known and child not in spared:
                known.add(child)
                queue.append(child)
                yield child


def _told(pid: int, stat: Stat, marked: bool, readable: bool) -> Left:
    identity = Identity(pid, stat.start_ticks, _boot(), _namespace(pid))
    return Left(identity, stat.name, stat.letter, stat.session, stat.group, stat.parent, marked, readable)


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with suppress(OSError):
        for thread in os.listdir(f"{PROC}/{pid}/task"):
            with suppress(OSError):
                found += map(int, read_proc(f"{PROC}/{pid}/task/{thread}/children").split())
    return found


@contextmanager
def _handle(left: Left) -> Iterator[int]:
    """Hold a pidfd of exactly the process that was seen; -1: it is gone, or no handle can be had just now."""
    try:
        handle = os.pidfd_open(left.identity.pid)
    except OSError:
        yield -1
        return
    try:
        found = read_stat(PROC, left.identity.pid)
        yield handle if found is not None and found.start_ticks == left.identity.start_ticks else -1
    finally:
        os.close(handle)


def _exists(pid: int) -> bool:
    stat = read_stat(PROC, pid)
    return stat is not None and not stat.is_over


def _namespace(pid: int) -> int:
    try:
        return Path(f"{PROC}/{pid}/ns/pid").stat().st_ino
    except OSError:
        return 0


@functools.cache
def _boot() -> str:
    return boot_id()
