"""Ending processes that are no children of ours: asked first, then killed, each through a handle that proves it."""

import os
import select
import signal
from collections.abc import Iterator, Sequence
from enum import StrEnum

from crewd.host.processes import Processes
from crewd.host.signalling import await_ends, deliver
from crewd.model.process import Identity

AT_ONCE = 256  # handles held open at one time
AFTER_KILL = 2.0  # seconds


class Ended(StrEnum):
    """What became of one process."""

    ENDED = "ended"  # after SIGTERM
    KILLED = "killed"  # after SIGKILL
    GONE = "gone"  # before it was signalled, or its pid belongs to another process by now
    REFUSED = "refused"  # it may not be signalled
    REMAINS = "remains"  # SIGKILL was sent, and it is still there: it waits inside the kernel


def end(identities: Sequence[Identity], processes: Processes, grace: float) -> Iterator[tuple[Identity, Ended]]:
    """Send SIGTERM to each, and SIGKILL to those who are there `grace` seconds later; tell what became of each.

    The identity is compared right before the first signal, behind a pidfd: from there on that handle means this
    process and no other, whoever bears its number. A stopped process is continued, or it could not hear SIGTERM.
    """
    for start in range(0, len(identities), AT_ONCE):
        yield from _end(identities[start : start + AT_ONCE], processes, grace)


def _end(identities: Sequence[Identity], processes: Processes, grace: float) -> Iterator[tuple[Identity, Ended]]:
    outcomes: dict[Identity, Ended] = {}
    handles: dict[Identity, int] = {}
    try:
        for identity in identities:
            outcome, handle = _ask(identity, processes)
            if handle >= 0:
                handles[identity] = handle
            outcomes[identity] = outcome
        await_ends(list(handles.values()), grace)
        late = {identity: handle for identity, handle in handles.items() if not _is_over(handle)}
        for identity, handle in late.items():
            outcomes[identity] = Ended.KILLED if deliver(handle, signal.SIGKILL) else Ended.ENDED
        await_ends(list(late.values()), AFTER_KILL)
        for identity, handle in late.items():
            if not _is_over(handle):
                outcomes[identity] = Ended.REMAINS
    finally:
        for handle in handles.values():
            os.close(handle)
    for identity in identities:
        yield identity, outcomes[identity]


def _ask(identity: Identity, processes: Processes) -> tuple[Ended, int]:
    """Send SIGTERM; return the handle of whoever heard it, -1 of nobody."""
    try:
        handle = processes.pidfd(identity)
    except OSError:
        return Ended.REFUSED, -1
    if handle is None:
        return Ended.GONE, -1
    try:
        if deliver(handle, signal.SIGTERM):
            deliver(handle, signal.SIGCONT)
            return Ended.ENDED, handle
        outcome = Ended.GONE
    except PermissionError:
        outcome = Ended.REFUSED
    os.close(handle)
    return outcome, -1


def _is_over(handle: int) -> bool:
    """Whether the process of this handle has ended; whether somebody took note of it is another matter."""
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    return bool(poll.poll(0))
