"""The life of a managed task: which step leads from which state to which, and what a step may never do.

    submit              slot, fence n            identity recorded
    -> waiting ----------------> starting(n) ---------------> running(n) ----> ending(n) -> completed
         |  ^                      |  |                                          |  |  |
         |  +---- requeue ---------+--|------------------------------------------+  |  +-> cancelled
         |  |                         +------------ end ---------> ending(n)        |
         |  +---- due ---- retry_wait(n) <------------- retry ----------------------+
         v                                                                          |
      cancelled  skipped  blocked                        dead_lettered <- give up --+

`TABLE` has a cell for every pair of state and step (I25): the name of the next state, or None where it is refused.
A task at work is cancelled through its end: ending -> cancelled, once its processes are proven gone.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import get_args

import msgspec

from crewd.model.managed import (
    AnyState,
    Blocked,
    Cancelled,
    Completed,
    DeadLettered,
    Ending,
    ManagedTask,
    RetryWait,
    Running,
    Skipped,
    Starting,
    State,
    Waiting,
    name_of,
)


class Step(StrEnum):
    """What may happen to a task. Each is taken in one transaction with the event that tells it."""

    PULL = "pull"  # a slot and a new fence are taken; from retry_wait only once it is due
    RUN = "run"  # the identity of the process is recorded
    END = "end"  # the attempt is over; also: more became known of how it ended
    COMPLETE = "complete"
    RETRY = "retry"
    GIVE_UP = "give_up"  # no attempt will follow, by the rules or because a person said so
    DUE = "due"  # the wait for the next attempt is over early: a person said "now"
    REQUEUE = "requeue"  # put back without a failure: interrupted by crewd, or nothing was ever spawned
    CANCEL = "cancel"
    SKIP = "skip"
    BLOCK = "block"  # also: what blocks it is another thing now
    UNBLOCK = "unblock"  # what stood in its way is gone; for what was skipped: its ancestor was redriven
    REDRIVE = "redrive"  # a dead letter is tried again, with a new budget of attempts
    DISCARD = "discard"  # a dead letter is settled; the task stays what it is


_WAITING, _STARTING, _RUNNING, _ENDING, _RETRY_WAIT, _BLOCKED, _COMPLETED, _DEAD, _CANCELLED, _SKIPPED = (
    str(each.__struct_config__.tag)
    for each in (
        Waiting, Starting, Running, Ending, RetryWait, Blocked, Completed, DeadLettered, Cancelled, Skipped
    )
)  # fmt: skip

_ALLOWED: Mapping[str, Mapping[Step, str]] = {
    _WAITING: {
        Step.PULL: _STARTING,
        Step.GIVE_UP: _DEAD,
        Step.CANCEL: _CANCELLED,
        Step.SKIP: _SKIPPED,
        Step.BLOCK: _BLOCKED,
    },
    _STARTING: {Step.RUN: _RUNNING, Step.END: _ENDING, Step.REQUEUE: _WAITING},
    _RUNNING: {Step.END: _ENDING},
    _ENDING: {
        Step.END: _ENDING,
        Step.COMPLETE: _COMPLETED,
        Step.RETRY: _RETRY_WAIT,
        Step.GIVE_UP: _DEAD,
        Step.REQUEUE: _WAITING,
        Step.CANCEL: _CANCELLED,
    },
    _RETRY_WAIT: {
        Step.PULL: _STARTING,
        Step.GIVE_UP: _DEAD,
        Step.DUE: _WAITING,
        Step.CANCEL: _CANCELLED,
    },
    _BLOCKED: {
        Step.GIVE_UP: _DEAD,
        Step.CANCEL: _CANCELLED,
        Step.SKIP: _SKIPPED,
        Step.BLOCK: _BLOCKED,
        Step.UNBLOCK: _WAITING,
    },
    _COMPLETED: {},  # P3: final
    _DEAD: {Step.REDRIVE: _WAITING, Step.DISCARD: _DEAD},
    _CANCELLED: {},
    _SKIPPED: {Step.UNBLOCK: _WAITING},
}

STATES: tuple[str, ...] = tuple(str(each.__struct_config__.tag) for each in get_args(AnyState))

TABLE: Mapping[tuple[str, Step], str | None] = MappingProxyType(
    {(state, step): _ALLOWED[state].get(step) for state in STATES for step in Step}
)


class TransitionRefused(ValueError):
    """A step that the life of a task does not have, or that would break one of its promises. Nothing was changed."""

    def __init__(self, task: ManagedTask, step: Step, why: str) -> None:
        self.run_id = task.run_id
        self.task_id = task.task_id
        self.state = name_of(task.state)
        self.step = step
        self.why = why
        super().__init__(f"{task.run_id}/{task.task_id}: `{step}` is refused in the state {self.state}: {why}")


def step(task: ManagedTask, step: Step, next_state: AnyState) -> ManagedTask:
    """Take one step and return the task as it is afterwards. Raises TransitionRefused.

    The fence of the task follows that of its state. A redrive opens a new budget of attempts: those made so far
    count no more. Everything else of the task (finished attempts, usage) is the caller's to add.
    """
    wanted = TABLE[name_of(task.state), step]
    if wanted is None:
        raise TransitionRefused(task, step, f"possible are {_possible(task.state)}")
    if name_of(next_state) != wanted:
        raise TransitionRefused(task, step, f"it leads to {wanted}, not to {name_of(next_state)}")
    if why := _objection(task, next_state):
        raise TransitionRefused(task, step, why)
    match task.state, next_state:
        case _, Starting(fence=fence):
            return msgspec.structs.replace(task, state=next_state, fence=fence)
        case DeadLettered(), Waiting():
            spent = max(task.attempt, task.state.attempt)
            return msgspec.structs.replace(task, state=next_state, budget_from=spent, first_started_at=None)
        case _:
            return msgspec.structs.replace(task, state=next_state)


def _possible(state: AnyState) -> str:
    allowed = _ALLOWED[name_of(state)]
    return ", ".join(f"`{each}`" for each in allowed) if allowed else "no steps at all: it is final"


def _objection(task: ManagedTask, after: AnyState) -> str:
    """What is wrong with a step that the table allows; "": nothing."""
    match task.state, after:
        case _, Starting():
            return _fresh(task, after)
        case Starting() | Running() | Ending() as before, Running() | Ending():
            return _same_attempt(before, after) or _same_process(before, after)
        case Ending() as before, RetryWait():
            return _same_attempt(before, after)
        case before, Completed() | DeadLettered():
            return _same_number(task, before, after)
        case _:
            return ""


def _fresh(task: ManagedTask, after: Starting) -> str:
    """I4: the fence of a new attempt is above every former one; so is its number."""
    if after.fence <= task.fence:
        return f"fence {after.fence} is not above {task.fence}; take a new one"
    newest = _newest(task)
    if after.attempt <= newest:
        return f"attempt {after.attempt} is not above {newest}, which was made already"
    return ""


def _same_attempt(before: Starting | Running | Ending, after: Running | Ending | RetryWait) -> str:
    if (before.attempt, before.fence) == (after.attempt, after.fence):
        return ""
    return (
        f"attempt {before.attempt} behind fence {before.fence} is at work, "
        f"not attempt {after.attempt} behind fence {after.fence}"
    )


def _same_process(before: Starting | Running | Ending, after: Running | Ending) -> str:
    """A process that was recorded stays recorded: whoever forgot it could prove nobody gone."""
    known = None if isinstance(before, Starting) else before.process
    if known is None or known == after.process:
        return ""
    named = "no process" if after.process is None else f"process {after.process.pid}"
    return f"process {known.pid} was recorded for it, and {named} is named now"


def _same_number(task: ManagedTask, before: State, after: Completed | DeadLettered) -> str:
    if isinstance(before, DeadLettered):
        return "" if after == before else "a settled letter changes nothing about its task"
    newest = _newest(task)
    return "" if after.attempt == newest else f"its newest attempt is {newest}, not {after.attempt}"


def _newest(task: ManagedTask) -> int:
    """The number of the newest attempt, also where its record was not added yet."""
    kept = task.state.attempt if isinstance(task.state, RetryWait | DeadLettered) else 0
    return max(kept, task.attempt)
