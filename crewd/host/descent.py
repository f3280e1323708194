"""What hangs on a process: the living processes below it, and its open connections."""

import os
from pathlib import Path

from crewd.host.proc_stat import read_proc, read_stat

# One silent worker may cost this much and no more.
BELOW_MAX = 128
THREADS_MAX = 1024
SCAN_MAX = 65536
DESCRIPTORS_MAX = 4096
TABLE_MAX = 4 << 20  # bytes of one connection table
ESTABLISHED = b"01"  # TCP_ESTABLISHED


def living_below(proc: str, pid: int) -> tuple[str, ...]:
    """Name the living descendants, nearest first; zombies are gone. At most `BELOW_MAX` are looked at."""
    names: list[str] = []
    known = {pid}
    queue = [pid]
    for above in queue:
        for child in _children(proc, above):
            if child in known:
                continue
            if len(known) > BELOW_MAX:
                return tuple(names)
            known.add(child)
            found = read_stat(proc, child)
            if found is not None and found.letter not in "ZX":
                queue.append(child)
                names.append(found.name)
    return tuple(names)


def first_child(proc: str, pid: int) -> int | None:
    """Name the oldest living child of a process; None: it has none."""
    for child in _children(proc, pid):
        found = read_stat(proc, child)
        if found is not None and found.letter not in "ZX":
            return child
    return None


def established(proc: str, pid: int) -> int | None:
    """Count the established TCP connections of a process; None where its descriptors may not be read."""
    try:
        inodes = _socket_inodes(f"{proc}/{pid}/fd")
        if not inodes:
            return 0
        # Of the process itself: another network namespace has other connections.
        return sum(_matching(f"{proc}/{pid}/net/{table}", inodes) for table in ("tcp", "tcp6"))
    except OSError:
        return None


def _children(proc: str, pid: int) -> list[int]:
    try:
        threads = os.listdir(f"{proc}/{pid}/task")[:THREADS_MAX]
    except OSError:
        return []
    children: list[int] = []
    for thread in threads:
        try:
            # Each thread lists the children that it started itself.
            children += map(int, read_proc(f"{proc}/{pid}/task/{thread}/children").split())
        except (OSError, ValueError):
            if not _lists_children(proc):
                return _children_by_scan(proc, pid)
    return children


def _lists_children(proc: str) -> bool:
    # A kernel built without CONFIG_PROC_CHILDREN has no such file anywhere.
    return os.path.exists(f"{proc}/thread-self/children")


def _children_by_scan(proc: str, pid: int) -> list[int]:
    numbers = [int(name) for name in os.listdir(proc) if name.isdigit()][:SCAN_MAX]
    return [number for number in numbers if (found := read_stat(proc, number)) and found.parent == pid]


def _socket_inodes(folder: str) -> set[bytes]:
    inodes: set[bytes] = set()
    for name in os.listdir(folder)[:DESCRIPTORS_MAX]:
        try:
            target = str(Path(folder, name).readlink())
        except FileNotFoundError:  # closed meanwhile
            continue
        if target.startswith("socket:["):
            inodes.add(target[8:-1].encode())
    return inodes


def _matching(path: str, inodes: set[bytes]) -> int:
    try:
        lines = read_proc(path, TABLE_MAX).splitlines()
    except FileNotFoundError:  # a kernel without IPv6
        return 0
    # sl, local, remote, state, queues, timer, retransmissions, uid, timeout, inode
    rows = (line.split() for line in lines[1:])
    return sum(1 for row in rows if len(row) > 9 and row[3] == ESTABLISHED and row[9] in inodes)
