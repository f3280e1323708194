"""What the states of its tasks make of a managed run (docs/guarantees.md)."""

from collections import Counter
from collections.abc import Iterable
from typing import get_args

from crewd.model.managed import AnyState, Cancelled, ManagedRun, ManagedTask, name_of
from crewd.model.run import RUN_ENDED, RunStatus

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


def status_of(run: ManagedRun, tasks: Iterable[ManagedTask]) -> RunStatus:
    """Say how a run stands by these states of its tasks, whatever was last written of the run itself.

    Of a run that somebody cancelled not all is called completed because some of it was.
    """
    everyone = tuple(tasks)
    status = roll_up(everyone)
    some_cancelled = run.cancelled and any(isinstance(each.state, Cancelled) for each in everyone)
    return RunStatus.CANCELLED if status is RunStatus.COMPLETED and some_cancelled else status


def ended_at(run: ManagedRun, tasks: Iterable[ManagedTask], status: RunStatus) -> float | None:
    """Say when a run of this status ended, wall time; None: it has not. Before it is written, its tasks say when."""
    if status not in RUN_ENDED:
        return None
    return run.ended_at or max((task.state.since for task in tasks), default=run.submitted_at)


def counts(tasks: Iterable[ManagedTask]) -> dict[str, int]:
    """Count the tasks in each state. Every state is named, and the sum is the number of tasks (I10)."""
    found = Counter(name_of(task.state) for task in tasks)
    return {state: found[state] for state in STATES}
