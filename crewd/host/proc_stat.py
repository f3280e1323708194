"""Files of /proc, read in few system calls, and the line of /proc/PID/stat taken apart (proc(5))."""

import os
from typing import NamedTuple

CHUNK = 1 << 16
PF_KTHREAD = 0x00200000  # linux/sched.h
# ppid, pgrp, session, tty_nr, flags, utime, stime, num_threads, starttime: counted from the state, which is field 3
PLACES = tuple(place - 3 for place in (4, 5, 6, 7, 9, 14, 15, 20, 22))


class Stat(NamedTuple):
    """The fields of /proc/PID/stat that crewd uses."""

    name: str
    letter: str
    parent: int
    cpu_ticks: int  # utime + stime
    start_ticks: int  # since boot
    is_kernel: bool  # a thread of the kernel: never has argv or environment
    threads: int = 1
    group: int = 0  # process group
    session: int = 0
    terminal: int = 0  # device number of the controlling terminal; 0: there is none

    @property
    def is_over(self) -> bool:
        """Whether nothing of it runs any more. The first thread may end before the others: that is no zombie yet."""
        return self.letter in "ZX" and self.threads <= 1


def read_proc(path: str, limit: int = CHUNK) -> bytes:
    """Read a file of /proc up to `limit` bytes. Raises OSError."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = os.read(handle, min(limit, CHUNK))
        # These files come in pieces of the kernel's choosing; only an empty one is the end.
        while len(data) < limit and (piece := os.read(handle, min(limit - len(data), CHUNK))):
            data += piece
        return data
    finally:
        os.close(handle)


def read_stat(proc: str, pid: int) -> Stat | None:
    """Read the line; None where it cannot be read, for whatever reason: that alone proves nothing."""
    try:
        return parse_stat(read_proc(f"{proc}/{pid}/stat"))
    except OSError:
        return None


def parse_stat(data: bytes) -> Stat | None:
    """Take the line apart; None where it is no such line.

    The name in field 2 may hold spaces, parentheses and line breaks: fields count from the last ")".
    """
    head, bracket, tail = data.rpartition(b")")
    fields = tail.split()
    if not bracket or len(fields) < 20:
        return None
    try:
        # fields[0] is field 3, the state.
        parent, group, session, terminal, flags, user, system, threads, start = map(
            int, map(fields.__getitem__, PLACES)
        )
    except ValueError:
        return None
    name = head.partition(b"(")[2].decode("utf-8", "replace")
    letter = fields[0].decode("ascii", "replace")
    return Stat(
        name, letter, parent, user + system, start, bool(flags & PF_KTHREAD), threads, group, session, terminal
    )
