"""Is the process that a record names the one that is meant? A number alone never says so."""

import msgspec

from crewd.model.process import (
    HIDDEN,
    Identity,
    ProcessClaim,
    ProcessFacts,
    ProcessSeen,
    ProcessState,
)

# A process may be named a little before it runs, and wall clocks of record and start are read apart.
START_SLACK = 120.0
# A pid that is gone while the work goes on in so many rounds was never to be seen from here.
ELSEWHERE_BEATS = 2


class Here(msgspec.Struct, frozen=True):
    """The place from which crewd looks."""

    host: str
    boot_id: str
    pid_namespace: int
    booted_at: float  # wall time
    # False: what runs name lives in other containers (sources.processes), unless a record names this very place.
    sees: bool = True


def recognise(
    claim: ProcessClaim | None,
    facts: ProcessFacts | None,
    remembered: Identity | None,
    here: Here,
    beats_after_gone: int = 0,
) -> ProcessSeen:
    """Say what is true of the process that `claim` means, given what the kernel shows of that pid.

    `remembered` is the identity that crewd saw behind this claim before; it outweighs what is written.
    `beats_after_gone` counts rounds with progress while the pid was gone: such a worker lives elsewhere.
    """
    if claim is None:
        return HIDDEN
    if elsewhere := _elsewhere(claim, here, beats_after_gone):
        return ProcessSeen(ProcessState.HIDDEN, elsewhere)
    if claim.boot_id is not None and claim.boot_id != here.boot_id:
        if not claim.local and remembered is None:
            # Machines, and containers even more so, may bear one name: there, it may be of another one.
            return ProcessSeen(
                ProcessState.HIDDEN, f"pid {claim.pid} is of another boot; the folder is on a network filesystem"
            )
        return _exited(f"pid {claim.pid} belongs to a former boot of this machine")
    if facts is None:
        if not claim.local:
            return ProcessSeen(
                ProcessState.HIDDEN, f"pid {claim.pid} is not here; the folder is on a network filesystem"
            )
        return _exited(f"pid {claim.pid} is gone")
    if facts.letter in ("Z", "X", "x") and (claim.local or remembered is not None):
        return _exited(f"pid {claim.pid} is a zombie: it has exited")
    if not facts.visible:
        return ProcessSeen(ProcessState.HIDDEN, f"pid {claim.pid} exists, but what it is may not be seen from here")
    if reused := _reused(claim, facts, remembered, here):
        if not claim.local and remembered is None:
            return ProcessSeen(ProcessState.HIDDEN, f"{reused}; the folder is on a network filesystem")
        return _exited(reused)
    if facts.letter in ("T", "t"):
        return ProcessSeen(ProcessState.STOPPED, f"pid {claim.pid} is stopped", facts.identity, facts.letter)
    return ProcessSeen(ProcessState.ALIVE, f"pid {claim.pid} is alive", facts.identity, facts.letter)


def same_process(one: Identity, other: Identity) -> bool:
    """Whether two sightings are of one process. A namespace that could not be read (0) differs from none."""
    return (
        one.pid == other.pid
        and one.start_ticks == other.start_ticks
        and one.boot_id == other.boot_id
        and (0 in (one.pid_namespace, other.pid_namespace) or one.pid_namespace == other.pid_namespace)
    )


def names_this_place(boot_id: str | None, pid_namespace: int | None, here: Here) -> bool:
    """Whether a record itself means a pid of this namespace. By both numbers: each alone occurs elsewhere too."""
    if not (here.boot_id and here.pid_namespace):
        return False  # neither can be told apart from that of others where it cannot be read
    return (boot_id, pid_namespace) == (here.boot_id, here.pid_namespace)


def _elsewhere(claim: ProcessClaim, here: Here, beats_after_gone: int) -> str:
    named = names_this_place(claim.boot_id, claim.pid_namespace, here)
    # Containers that share a pid namespace have host names of their own.
    if claim.host is not None and claim.host != here.host and not named:
        return f"pid {claim.pid} is on host {claim.host}"
    if claim.pid_namespace and here.pid_namespace and claim.pid_namespace != here.pid_namespace:
        return f"pid {claim.pid} is in another pid namespace"
    if claim.boot_id is not None and claim.boot_id != here.boot_id and claim.host is None:
        return f"pid {claim.pid} is of another boot, perhaps of another machine"
    if not (here.sees or named):
        return f"pid {claim.pid} is of another container, as sources.processes says of every run"
    if beats_after_gone >= ELSEWHERE_BEATS:
        return f"pid {claim.pid} is gone here, yet the work goes on: the worker lives elsewhere"
    return ""


def _reused(claim: ProcessClaim, facts: ProcessFacts, remembered: Identity | None, here: Here) -> str:
    """Why the process behind the pid is another one than meant; "" when it is the one."""
    if remembered is not None:
        if not same_process(remembered, facts.identity):
            return f"pid {claim.pid} belongs to another process since it was first seen"
        return ""
    if claim.start_ticks is not None:
        if claim.start_ticks != facts.identity.start_ticks:
            return f"pid {claim.pid} started at another tick than recorded"
        return ""
    if facts.marks_found:
        # The process says itself whose it is. Wall times, which a stepped clock spoils, need not agree.
        return ""
    if claim.marks and facts.mine:
        return f"pid {claim.pid} is another process: it carries none of {', '.join(claim.marks)}"
    if claim.recorded_at is None:
        return ""
    if claim.recorded_at < here.booted_at - START_SLACK:
        return f"pid {claim.pid} was recorded before this machine started"
    if facts.started_at > claim.recorded_at + START_SLACK:
        return f"pid {claim.pid} started after the record that names it"
    return ""


def _exited(why: str) -> ProcessSeen:
    return ProcessSeen(ProcessState.EXITED, why)
