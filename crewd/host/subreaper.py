"""crewd as the parent of whatever loses its own: nothing that an attempt leaves behind can hang anywhere else."""

import os
from collections.abc import Container

from crewd.host import libc
from crewd.host.proc_stat import Stat, read_proc, read_stat
from crewd.host.signalling import reap

PROC = "/proc"
LOOKS_MAX = 200  # at children that die as fast as they come


def become_subreaper() -> bool:
    """Be the one to whom orphans below come, instead of init; False where the kernel does not allow it."""
    try:
        libc.set_child_subreaper()
    except (OSError, AttributeError):
        return False
    return True


def children() -> list[int]:
    """List our children, zombies included, whichever thread started them."""
    folder = f"{PROC}/self/task"
    try:
        # Each thread lists those that it started itself.
        return [pid for thread in os.listdir(folder) for pid in _listed(f"{folder}/{thread}/children")]
    except OSError:
        return _by_scan()


def orphans(known: Container[int]) -> list[int]:
    """List the living children that crewd did not start: what attempts left behind. Buries the dead among them.

    `known` are the shims, and any other child with a session of its own; a child in crewd's own session is crewd's.
    Needs `become_subreaper`. Where a shim was our child and has ended, and this is empty, nothing of it is left: what
    it left became ours before its end was told, and nobody can leave the tree below us.

    Where they die as fast as they come it may name some that are dead by now.
    """
    own = os.getsid(0)
    strange: list[tuple[int, Stat | None]] = []
    before: list[int] | None = None
    for _ in range(LOOKS_MAX):
        listed = _listed_orphans()
        strange = [(pid, read_stat(PROC, pid)) for pid in listed if pid not in known]
        strange = [(pid, stat) for pid, stat in strange if stat is None or stat.session != own]
        dead = [pid for pid, stat in strange if stat is None or stat.is_over]
        # The kernel's list may skip an entry while another thread of ours reaps: believed when told twice alike.
        if listed == before and not dead:
            break
        before = listed
        # Who died since the list was made may have had children, which are ours now and not on it.
        for pid in dead:
            reap(pid)
    return [pid for pid, _ in strange]


def reap_orphans(known: Container[int]) -> int:
    """Bury the dead among the children that crewd did not start; returns how many."""
    own = os.getsid(0)
    strange = (pid for pid in _listed_orphans() if pid not in known)
    return sum(1 for pid in strange if _is_dead_orphan(pid, own) and reap(pid) is not None)


def _listed_orphans() -> list[int]:
    # Orphans come to the first living thread of a subreaper, the main one (find_new_reaper in kernel/exit.c).
    try:
        return _listed(f"{PROC}/self/task/{os.getpid()}/children")
    except OSError:
        return _by_scan()


def _listed(path: str) -> list[int]:
    return [int(pid) for pid in read_proc(path).split()]


def _by_scan() -> list[int]:
    # A kernel without CONFIG_PROC_CHILDREN has no such lists, or a thread ended just now.
    own = os.getpid()
    numbers = [int(name) for name in os.listdir(PROC) if name.isdigit()]
    return [pid for pid in numbers if (found := read_stat(PROC, pid)) is not None and found.parent == own]


def _is_dead_orphan(pid: int, own: int) -> bool:
    found = read_stat(PROC, pid)
    return found is not None and found.session != own and found.is_over
