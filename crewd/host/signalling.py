"""Signals that reach the process meant and no other, and the ends of our own children."""

import os
import select
import signal
import time
from collections.abc import Sequence

from crewd.host.processes import Processes
from crewd.model.failure import Exit
from crewd.model.process import Identity

PIDFD_SIGNAL_PROCESS_GROUP = 1 << 2  # linux/pidfd.h, since 6.9


def send(identity: Identity, number: int, processes: Processes) -> bool:
    """Send a signal to this process; False: it is gone, or not provably the one meant, and nobody was signalled.

    Raises OSError: EPERM, or no descriptor left.
    """
    handle = processes.pidfd(identity)
    if handle is None:
        return False
    try:
        return deliver(handle, number)
    finally:
        os.close(handle)


def send_group(identity: Identity, number: int, processes: Processes) -> bool:
    """Send a signal to the whole group that this process leads; False as with `send`.

    A leader that is dead, and not reaped, still leads. Raises OSError: EPERM, or no descriptor left.
    """
    handle = processes.pidfd(identity)
    if handle is None:
        return False
    try:
        return deliver_group(handle, identity.pid, number)
    finally:
        os.close(handle)


def deliver(handle: int, number: int) -> bool:
    """Send a signal through a pidfd; False: the process is gone."""
    try:
        signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        return False
    return True


def deliver_group(handle: int, leader: int, number: int) -> bool:
    """Send a signal to the group of this leader, whom the pidfd means; False: nobody is left in it."""
    try:
        signal.pidfd_send_signal(handle, number, None, PIDFD_SIGNAL_PROCESS_GROUP)
    except ProcessLookupError:
        return False
    except OSError:
        # EINVAL, before 6.9. As long as the leader is not reaped its number means its group.
        return deliver(handle, 0) and _kill_group(leader, number)
    return True


def reap(pid: int) -> Exit | None:
    """Take the end of a child of ours, as the kernel tells it; None: it runs, or it is no child of ours."""
    try:
        ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG)
    except ChildProcessError:
        return None
    if ended is None:
        return None
    return Exit(code=ended.si_status) if ended.si_code == os.CLD_EXITED else Exit(signal=ended.si_status)


def await_ends(handles: Sequence[int], seconds: float) -> None:
    """Wait until all of these processes have ended, or the time is over."""
    poll = select.poll()
    for handle in handles:
        poll.register(handle, select.POLLIN)
    waiting = len(handles)
    ends = time.monotonic() + seconds
    while waiting and (left := ends - time.monotonic()) > 0:
        for handle, _ in poll.poll(left * 1000):
            poll.unregister(handle)
            waiting -= 1


def _kill_group(leader: int, number: int) -> bool:
    try:
        os.killpg(leader, number)
    except ProcessLookupError:
        return False
    return True
