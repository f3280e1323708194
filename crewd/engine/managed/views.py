"""Views: how a managed run looks to the patrol, and to a person who asks. Pure."""

from collections.abc import Mapping
from typing import Any

import msgspec

from crewd.engine.managed.board import Key, RunEntry
from crewd.engine.managed.conduct import Conductor
from crewd.engine.managed.ladder import profile_of
from crewd.engine.managed.voice import Signs
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
from crewd.model.plan import Mode, TaskPlan
from crewd.model.run import Expectation, Run, RunStatus, Task
from crewd.policy.rollup import ended_at, status_of
from crewd.sources.managed.source import Watched
from crewd.telemetry.plain_text import span

RUNTIME = "managed"
SILENT = Signs()


def run_view(entry: RunEntry) -> Run:
    """The run as every other runtime's runs are shown: its status as these tasks make it."""
    run = entry.run
    status = status_of(run, entry.tasks.values())
    return Run(
        run_id=run.plan.run_id,
        runtime=RUNTIME,
        crew=run.plan.crew,
        status=status,
        status_text=status.value,
        folder=run.plan.source,
        tasks=tuple(task_view(entry.tasks[task_id], plan) for task_id, plan in entry.plans.items()),
        goal=run.plan.name,
        created_at=run.submitted_at,
        updated_at=updated_at(entry, status),
    )


def updated_at(entry: RunEntry, status: RunStatus) -> float:
    """Say when something last became of a run of this status, wall time."""
    latest = max((task.state.since for task in entry.tasks.values()), default=entry.run.submitted_at)
    return ended_at(entry.run, entry.tasks.values(), status) or latest


def task_view(task: ManagedTask, plan: TaskPlan) -> Task:
    """One task as every other runtime's tasks are shown."""
    state = name_of(task.state)
    last = task.attempts[-1] if task.attempts else None
    return Task(
        task_id=task.task_id,
        status=STATUS_OF[state],
        status_text=state,
        attempt=max(1, task.attempt),
        task_type=plan.task_type,
        agent=plan.executor,
        model=plan.model,
        depends_on=plan.depends_on,
        started_at=task.first_started_at,
        finished_at=task.state.since
        if isinstance(task.state, Completed | DeadLettered | Cancelled | Skipped)
        else None,
        error=last.error if last is not None and not isinstance(task.state, Completed) else "",
        usage=task.usage,
        expectation=expectation_of(plan),
    )


def watched(entry: RunEntry, conductor: Conductor) -> tuple[Watched, ...]:
    """Where the signs of life are of those who work on a run."""
    found = []
    for task_id, task in entry.tasks.items():
        if not isinstance(task.state, Running):
            continue
        plan = entry.plans[task_id]
        counts = plan.heartbeat.activity_is_heartbeat
        voice = conductor.voices.get((task.run_id, task_id))
        signs = voice.signs(conductor.clock.read().mono) if voice is not None else SILENT
        found.append(
            Watched(
                task_id=task_id,
                folder=task.state.folder,
                shim=task.state.process,
                output_counts=plan.mode is Mode.COMMAND if counts is None else counts,
                said=signs.said,
                lease=signs.lease,
                tool=signs.tool,
                waiting=signs.waiting,
                hint=signs.hint,
                streams=profile_of(plan) is not None,
            )
        )
    return tuple(found)


def details(
    run: ManagedRun,
    tasks: Mapping[str, ManagedTask],
    held: Mapping[Key, str],
    now: float | None,
    agents: Mapping[Key, Mapping[str, Any]] = {},
) -> dict[str, Any]:
    """Lay a managed run out for a person: states, attempts, and why each task waits. `now` None: not known.

    `agents`: what those at work show of themselves.
    """
    status = status_of(run, tasks.values())
    ended = ended_at(run, tasks.values(), status)
    counts: dict[str, int] = {}
    for task in tasks.values():
        counts[name_of(task.state)] = counts.get(name_of(task.state), 0) + 1
    plans = {plan.task_id: plan for plan in run.plan.tasks}
    return {
        "run_id": run.plan.run_id,
        "crew": run.plan.crew,
        "name": run.plan.name,
        "labels": dict(run.plan.labels),
        "status": status.value,
        "key": run.key,
        "source": run.plan.source,
        "submitted_at": rfc3339(run.submitted_at),
        "ended_at": rfc3339(ended) if ended is not None else None,
        "submitted_by": run.actor,
        "counts": counts,
        "tasks": [
            {
                **_task_details(tasks[each], plans[each], tasks, held, now),
                "agent": agents.get((run.plan.run_id, each)),
            }
            for each in plans
            if each in tasks
        ],
        "held": {task_id: why for (run_id, task_id), why in held.items() if run_id == run.plan.run_id},
    }


def why(
    task: ManagedTask, plan: TaskPlan, tasks: Mapping[str, ManagedTask], held: Mapping[Key, str], now: float | None
) -> str:
    """Say in one sentence why a task stands where it stands."""
    match task.state:
        case Waiting() as state:
            missing = [each for each in plan.depends_on if not isinstance(tasks[each].state, Completed)]
            if missing:
                return f"waits for {', '.join(missing[:5])}{' and more' if len(missing) > 5 else ''}"
            return held.get((task.run_id, task.task_id)) or state.reason or "waits for its turn"
        case Starting():
            return held.get((task.run_id, task.task_id)) or "is being started"
        case Running(process=process):
            return f"runs as process {process.pid}"
        case Ending() as state:
            return f"is being ended: {state.why}"
        case RetryWait() as state:
            left = f"in {span(round(state.due_at - now))}" if now is not None else f"at {rfc3339(state.due_at)}"
            return f"tries again {left} after {state.error_class.value}: {state.reason}"
        case Blocked() as state:
            return state.reason
        case DeadLettered() as state:
            return f"was given up ({state.reason}): {task.attempts[-1].error if task.attempts else ''}".rstrip(": ")
        case Cancelled() as state:
            return state.reason or "was cancelled"
        case Skipped() as state:
            return state.reason
        case Completed():
            return "is done"


def _task_details(
    task: ManagedTask, plan: TaskPlan, tasks: Mapping[str, ManagedTask], held: Mapping[Key, str], now: float | None
) -> dict[str, Any]:
    state = task.state
    return {
        "task_id": task.task_id,
        "state": name_of(state),
        "since": rfc3339(state.since),
        "attempt": task.attempt,
        "fence": task.fence,
        "why": why(task, plan, tasks, held, now),
        "due_at": rfc3339(state.due_at) if isinstance(state, RetryWait) else None,
        "on": list(state.on) if isinstance(state, Blocked) else [],
        "root": list(state.root) if isinstance(state, Blocked) else [],
        "letter": state.letter if isinstance(state, DeadLettered) else None,
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
        "late_results": task.late,
        "executor": plan.executor,
        "profile": plan.profile,
        "provider": plan.provider,
        "mode": plan.mode.value,
        "priority": plan.priority,
        "depends_on": list(plan.depends_on),
        "max_attempts": plan.retry.max_attempts,
        "pid": state.process.pid if isinstance(state, Running) else None,
        "folder": state.folder if isinstance(state, Running | Ending) else None,
    }


def expectation_of(plan: TaskPlan) -> Expectation | None:
    """How silent its worker may be. An agent waits in silence for its model, longer than other workers do."""
    wanted, profile = plan.heartbeat, profile_of(plan)
    warn, stale = wanted.warn_after, wanted.stale_after
    if profile is not None:
        stale = plan.watch.stream_hang_after if stale is None else stale
        warn = min(profile.silent_after, stale / 2) if warn is None else warn
    if warn is stale is wanted.dead_after is wanted.hung_after is None:
        return None
    return Expectation(warn, stale, wanted.dead_after, wanted.hung_after)
