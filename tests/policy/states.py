"""Managed tasks in every state, and plans, as small as can be."""

from typing import Any

from crewd.model.failure import ErrorClass
from crewd.model.managed import (
    AnyState,
    AttemptRecord,
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
    Waiting,
)
from crewd.model.plan import RetryPolicy, RunPlan, TaskPlan
from crewd.model.process import Identity

RUN = "run-1"
SHIM = Identity(pid=4711, start_ticks=900, boot_id="boot-1", pid_namespace=1)
OTHER = Identity(pid=4712, start_ticks=901, boot_id="boot-1", pid_namespace=1)

# The word of each state, and the state itself: attempt 2 behind fence 7 where it has one.
STATES: dict[str, AnyState] = {
    "waiting": Waiting(100.0),
    "starting": Starting(100.0, attempt=2, fence=7),
    "running": Running(100.0, attempt=2, fence=7, process=SHIM, started_mono=5.0, folder="/a"),
    "ending": Ending(100.0, attempt=2, fence=7, process=SHIM, folder="/a", why="it exited"),
    "retry_wait": RetryWait(
        100.0, attempt=2, fence=7, due_at=110.0, delay=10.0, error_class=ErrorClass.TIMEOUT, reason="late"
    ),
    "blocked": Blocked(100.0, reason="a gate"),
    "completed": Completed(100.0, attempt=2),
    "dead_lettered": DeadLettered(
        100.0, attempt=2, reason="max-retries", error_class=ErrorClass.TIMEOUT, letter="run-1/a/2"
    ),
    "cancelled": Cancelled(100.0),
    "skipped": Skipped(100.0),
}
AT_WORK = ("starting", "running", "ending")


def record(attempt: int, fence: int | None = None, **more: Any) -> AttemptRecord:
    return AttemptRecord(attempt, attempt if fence is None else fence, 10.0, 20.0, **more)


def task_in(name: str, **more: Any) -> ManagedTask:
    """A task with attempt 2 at work or behind it: its record is there unless the attempt is still at work."""
    over = (record(1, 3),) if name in AT_WORK else (record(1, 3), record(2, 7))
    return ManagedTask(RUN, "a", STATES[name], **{"fence": 7, "attempts": over, **more})


def simply(task_id: str, state: AnyState | str, **more: Any) -> ManagedTask:
    return ManagedTask(RUN, task_id, STATES[state] if isinstance(state, str) else state, **more)


def task_plan(task_id: str, *depends_on: str, **more: Any) -> TaskPlan:
    return TaskPlan(task_id=task_id, command=("true",), cwd="/", depends_on=depends_on, **more)


def run_plan(*tasks: TaskPlan, **more: Any) -> RunPlan:
    return RunPlan(run_id=RUN, crew="crew", tasks=tasks, **more)


ONE_TASK = run_plan(task_plan("a", retry=RetryPolicy(max_attempts=3)))
