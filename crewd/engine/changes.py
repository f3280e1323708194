"""Changes: which events tell how a run differs from what was known of it. Pure."""

from collections.abc import Iterator

from crewd.model.event import Event
from crewd.model.run import RUN_ENDED, TASK_ENDED, Run, RunStatus, Task, TaskStatus

RUN_EVENT = {
    RunStatus.RUNNING: "run.started",
    RunStatus.BLOCKED: "run.blocked",
    RunStatus.COMPLETED: "run.completed",
    RunStatus.FAILED: "run.failed",
    RunStatus.CANCELLED: "run.cancelled",
}
TASK_EVENT = {
    TaskStatus.QUEUED: "task.queued",
    TaskStatus.RUNNING: "task.started",
    TaskStatus.WAITING: "task.waiting",
    TaskStatus.COMPLETED: "task.completed",
    TaskStatus.FAILED: "task.failed",
    TaskStatus.NEEDS_ATTENTION: "task.failed",
    TaskStatus.CANCELLED: "task.cancelled",
    TaskStatus.SKIPPED: "task.skipped",
}

GOAL_MAX = 500  # characters


def changes(before: Run | None, now: Run, at: float) -> Iterator[Event]:
    """Tell what happened to a run since it was last known: it starts before its tasks, and ends after them.

    A run that has already ended when it is first met is told in one event: its history is not crewd's to invent.
    """
    if before is None:
        portrait = _portrait(now)
        if now.status in RUN_ENDED and now.updated_at is not None:
            portrait["finished_at"] = now.updated_at
        yield run_event("run.discovered", now, at, portrait)
        if now.status in RUN_ENDED:
            return
        if now.status in RUN_EVENT:
            yield run_event(RUN_EVENT[now.status], now, at, {"first_sight": True})
    moved = before is not None and before.status is not now.status
    if before is not None and moved and now.status not in RUN_ENDED:
        yield _status_change(before, now, at)
    known = {task.task_id: task for task in before.tasks} if before is not None else {}
    for task in now.tasks:
        yield from _task_changes(known.get(task.task_id), task, now, at)
    if before is not None and moved and now.status in RUN_ENDED:
        yield _status_change(before, now, at)


def run_event(type: str, run: Run, at: float, data: dict[str, object] | None = None) -> Event:
    """Make an event about a whole run."""
    return Event(type, at, data or {}, run.run_id, runtime=run.runtime, crew=run.crew)


def task_event(type: str, run: Run, task: Task, at: float, data: dict[str, object] | None = None) -> Event:
    """Make an event about one task."""
    return Event(type, at, data or {}, run.run_id, task.task_id, task.attempt, run.runtime, run.crew)


def _status_change(before: Run, now: Run, at: float) -> Event:
    data: dict[str, object] = {"from_status": before.status_text, "status": now.status_text}
    if before.status in RUN_ENDED and now.status not in RUN_ENDED:
        return run_event("run.resumed", now, at, data)
    if before.status is RunStatus.BLOCKED and now.status is RunStatus.RUNNING:
        return run_event("run.resumed", now, at, data)
    if now.status in RUN_ENDED:
        data |= _portrait(now)
        if now.created_at is not None and now.updated_at is not None:
            data["duration_seconds"] = max(0.0, now.updated_at - now.created_at)
        if now.updated_at is not None:
            data["finished_at"] = now.updated_at
    return run_event(RUN_EVENT.get(now.status, "run.status_changed"), now, at, data)


def _task_changes(before: Task | None, now: Task, run: Run, at: float) -> Iterator[Event]:
    moved = before is None or before.status is not now.status
    if moved or (before is not None and before.attempt != now.attempt and now.status is TaskStatus.RUNNING):
        data: dict[str, object] = {"task_type": now.task_type}
        if now.agent:
            data["executor"] = now.agent
        if now.model:
            data["model"] = now.model
        if now.started_at is not None and now.status is not TaskStatus.QUEUED:
            data["started_at"] = now.started_at
        if now.finished_at is not None and now.status in TASK_ENDED:
            data["finished_at"] = now.finished_at
        if now.status_text != now.status.value:
            data["status"] = now.status_text
        if before is None and now.status in TASK_ENDED:
            data["first_sight"] = True
        if now.error:
            data["error"] = now.error
        if now.waiting is not None:
            data["reason"] = now.waiting.reason
        if now.status in TASK_ENDED and now.started_at is not None and now.finished_at is not None:
            data["duration_seconds"] = max(0.0, now.finished_at - now.started_at)
        yield task_event(TASK_EVENT.get(now.status, "task.status_changed"), run, now, at, data)
    yield from _usage_changes(before, now, run, at)


def _usage_changes(before: Task | None, now: Task, run: Run, at: float) -> Iterator[Event]:
    """Tell once, when a task has ended, what it used; while it runs the figures only grow."""
    usage = now.usage
    if usage is None or now.status not in TASK_ENDED or (before is not None and before.status in TASK_ENDED):
        return
    data: dict[str, object] = {
        "model": usage.model or now.model,
        "input": usage.input,
        "output": usage.output,
        "cache_read": usage.cache_read,
        "cache_write": usage.cache_write,
    }
    if usage.cost_usd is not None:
        data["cost_usd"] = usage.cost_usd
    yield task_event("usage.recorded", run, now, at, data)


def _portrait(run: Run) -> dict[str, object]:
    counts: dict[str, int] = {}
    for task in run.tasks:
        counts[task.status.value] = counts.get(task.status.value, 0) + 1
    data: dict[str, object] = {"status": run.status_text, "tasks": counts, "folder": run.folder}
    if run.status_text != run.status.value:
        data["run_status"] = run.status.value
    if run.goal:
        data["goal"] = run.goal[:GOAL_MAX]
    if run.created_at is not None:
        data["created_at"] = run.created_at
    return data
