"""What the states of its tasks make of a managed run (docs/guarantees.md)."""

from collections import Counter
from collections.abc import Iterable
from typing import get_args

from crewd.model.managed import AnyState, ManagedTask, name_of
from crewd.model.run import RunStatus

CAN_RUN = frozenset({"waiting", "starting", "running", "ending", "retry_wait"})
STATES: tuple[str, ...] = tuple(str(each.__struct_config__.tag) for each in get_args(AnyState))


def roll_up(tasks: Iterable[ManagedTask]) -> RunStatus:
    """Say how a run stands. What waits counts as able to run: let `schedule.fate` settle first who no longer is.

    While anything can run: running once an attempt was ever started, before that queued. Then: any dead-lettered,
    failed; else any blocked, blocked; else all cancelled, cancelled; else completed. A task that was skipped for a
    cancelled one follows it: it is no reason to call a run completed of which nothing was done.
    """
    everyone = tuple(tasks)
    states = {name_of(task.state) for task in everyone}
    if states & CAN_RUN:
        # The fence, not the attempt: a start that came to nothing is put back, and the run does not become queued.
        begun = bool(states & CAN_RUN - {"waiting"}) or any(task.fence or task.attempt for task in everyone)
        return RunStatus.RUNNING if begun else RunStatus.QUEUED
    if "dead_lettered" in states:
        return RunStatus.FAILED
    if "blocked" in states:
        return RunStatus.BLOCKED
    if "cancelled" in states and "completed" not in states:
        return RunStatus.CANCELLED
    return RunStatus.COMPLETED


def counts(tasks: Iterable[ManagedTask]) -> dict[str, int]:
    """Count the tasks in each state. Every state is named, and the sum is the number of tasks (I10)."""
    found = Counter(name_of(task.state) for task in tasks)
    return {state: found[state] for state in STATES}
