"""What the daemon would tell of its own runs, made from its ledger while it is down.

The daemon's own laying out lives beside its scheduler, which costs a command more to import than all of its answer.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from crewd.ledger.reader import Reader
from crewd.model.look import DeadLetter
from crewd.model.managed import (
    STATUS_OF,
    Blocked,
    Cancelled,
    Completed,
    DeadLettered,
    Ending,
    ManagedRun,
    ManagedTask,
    RetryWait,
    Running,
    Skipped,
    Starting,
    Waiting,
    name_of,
)
from crewd.model.moment import rfc3339
from crewd.model.plan import TaskPlan
from crewd.model.run import Run, Task
from crewd.policy.rollup import ended_at, status_of
from crewd.telemetry.redact import Redactor


def past_managed(reader: Reader, run_id: str, redactor: Redactor) -> dict[str, Any] | None:
    """Tell one managed run as it was last written; None: there is none of that name."""
    run = reader.managed(run_id)
    if run is None:
        return None
    tasks = {task.task_id: task for task in reader.managed_tasks(run_id)}
    # Tasks are written before what becomes of their run, and a crewd may have been killed in between.
    status = status_of(run, tasks.values())
    ended = ended_at(run, tasks.values(), status)
    whole: dict[str, Any] = {
        "runtime": "managed",
        "run_id": run_id,
        "crew": run.plan.crew,
        "name": run.plan.name,
        "status": status.value,
        "key": run.key,
        "submitted_at": rfc3339(run.submitted_at),
        "ended_at": rfc3339(ended) if ended is not None else None,
        "counts": dict(Counter(name_of(task.state) for task in tasks.values())),
        # Why a task is held only the scheduler knows, and it is down.
        "held": {},
    }
    told = [_task(tasks[plan.task_id], plan, tasks) for plan in run.plan.tasks if plan.task_id in tasks]
    # A task at a time: what is too large to be walked is a task, never the run.
    return {**redactor.value(whole), "tasks": [redactor.value(task) for task in told]}


def managed_as_run(run: ManagedRun, tasks: Iterable[ManagedTask]) -> Run:
    """Tell a managed run in the words of every other one, as it was last written."""
    tasks = tuple(tasks)
    status = status_of(run, tasks)
    return Run(
        run_id=run.plan.run_id,
        runtime="managed",
        crew=run.plan.crew,
        status=status,
        status_text=status.value,
        folder=run.plan.source,
        goal=run.plan.name,
        created_at=run.submitted_at,
        updated_at=ended_at(run, tasks, status) or run.submitted_at,
        tasks=tuple(Task(task.task_id, STATUS_OF[name_of(task.state)], name_of(task.state)) for task in tasks),
    )


def past_letter(letter: DeadLetter, redactor: Redactor) -> dict[str, Any]:
    """Tell one dead letter."""
    return {**redactor.value(msgspec.to_builtins(letter)), "key": letter.key}


def _task(task: ManagedTask, plan: TaskPlan, tasks: Mapping[str, ManagedTask]) -> dict[str, Any]:
    state = task.state
    return {
        "task_id": task.task_id,
        "state": name_of(state),
        "since": rfc3339(state.since),
        "attempt": task.attempt,
        "fence": task.fence,
        "why": _why(task, plan, tasks),
        "due_at": rfc3339(state.due_at) if isinstance(state, RetryWait) else None,
        "attempts": [
            {
                **msgspec.to_builtins(each),
                "started_at": rfc3339(each.started_at),
                "ended_at": rfc3339(each.ended_at),
            }
            for each in task.attempts
        ],
        "usage": msgspec.to_builtins(task.usage),
        "artifacts": msgspec.to_builtins(task.artifacts),
        "executor": plan.executor,
        "profile": plan.profile,
        "priority": plan.priority,
        "depends_on": list(plan.depends_on),
        "max_attempts": plan.retry.max_attempts,
    }


def _why(task: ManagedTask, plan: TaskPlan, tasks: Mapping[str, ManagedTask]) -> str:
    match task.state:
        case Waiting(reason=reason):
            missing = [
                each for each in plan.depends_on if each not in tasks or not isinstance(tasks[each].state, Completed)
            ]
            return f"waits for {', '.join(missing)}" if missing else reason or "waits for its turn"
        case Starting():
            return "was being started"
        case Running(process=process):
            return f"runs as process {process.pid}, as far as was recorded"
        case Ending(why=why):
            return f"was being ended: {why}"
        case DeadLettered(reason=reason):
            return f"was given up ({reason})"
        case RetryWait(reason=reason) | Blocked(reason=reason) | Cancelled(reason=reason) | Skipped(reason=reason):
            return reason
    return ""
