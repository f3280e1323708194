"""Transitions: a task as it is, and what happened to it, become the task as it will be and the events that tell it.

Pure. Every change of a task's state passes through `policy.lifecycle.step`, which refuses what may not happen.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from crewd.model.action import GiveUp, RetryAt
from crewd.model.event import Event
from crewd.model.failure import ErrorClass, Failure
from crewd.model.look import DeadLetter
from crewd.model.managed import (
    AnyState,
    AttemptRecord,
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
from crewd.model.plan import RunPlan, TaskPlan
from crewd.model.process import Identity
from crewd.model.run import RunStatus, Usage, added
from crewd.policy.fingerprint import fingerprint
from crewd.policy.lifecycle import Step, step
from crewd.policy.schedule import Fate

RUNTIME = "managed"
RUN_EVENT = {
    RunStatus.RUNNING: "run.started",
    RunStatus.BLOCKED: "run.blocked",
    RunStatus.COMPLETED: "run.completed",
    RunStatus.FAILED: "run.failed",
    RunStatus.CANCELLED: "run.cancelled",
}
Change = tuple[ManagedTask, tuple[Event, ...]]


def event(
    type: str, run: ManagedRun, task: ManagedTask, at: float, data: Mapping[str, Any], attempt: int = 0
) -> Event:
    """Make an event about one task."""
    plan = run.plan
    return Event(type, at, data, plan.run_id, task.task_id, attempt, RUNTIME, plan.crew)


def run_event(type: str, run: ManagedRun, at: float, data: Mapping[str, Any], actor: str = "daemon") -> Event:
    """Make an event about a whole run."""
    return Event(type, at, data, run.plan.run_id, "", 0, RUNTIME, run.plan.crew, actor)


def portrait(plan: RunPlan) -> dict[str, Any]:
    """What a run is, told once, when it is accepted."""
    data: dict[str, Any] = {"status": "queued", "tasks": len(plan.tasks)}
    if plan.name:
        data["goal"] = plan.name
    if plan.labels:
        data["labels"] = dict(plan.labels)
    return data


def queued(run: ManagedRun, plan: TaskPlan, at: float) -> Change:
    """A task that was just accepted."""
    task = ManagedTask(run.plan.run_id, plan.task_id, Waiting(at))
    return task, (event("task.queued", run, task, at, {"state": "waiting", **kind_of(plan)}),)


def kind_of(plan: TaskPlan) -> dict[str, Any]:
    """What a task is grouped by when somebody looks back; what it does not have is left out, but for its type."""
    kind: dict[str, Any] = {"task_type": plan.task_type, "executor": plan.executor}
    if plan.model:
        kind["model"] = plan.model
    if plan.variants:
        kind["variants"] = dict(plan.variants)
    return kind


def queue_seconds(task: ManagedTask, dependencies: Iterable[ManagedTask], at: float) -> float:
    """Seconds for which a task could have been started, had there been a slot: since it, or its retry, was due."""
    if isinstance(task.state, RetryWait):
        return max(0.0, at - task.state.due_at)
    since = max((each.state.since for each in dependencies), default=task.state.since)
    return max(0.0, at - max(since, task.state.since))


def starting(
    run: ManagedRun, plan: TaskPlan, task: ManagedTask, fence: int, at: float, queue_seconds: float
) -> Change:
    """A slot and a fence were taken, `queue_seconds` after the task could have had them."""
    attempt = task.attempt + 1
    after = msgspec.structs.replace(
        _step(task, Step.PULL, Starting(at, attempt, fence)), attempt_usage=None, iterations=0
    )
    if after.first_started_at is None:
        after = msgspec.structs.replace(after, first_started_at=at)
    data = {"state": "starting", "fence": fence, **kind_of(plan), "queue_seconds": queue_seconds}
    return after, (event("attempt.starting", run, after, at, data, attempt),)


def running(
    run: ManagedRun,
    plan: TaskPlan,
    task: ManagedTask,
    process: Identity,
    folder: str,
    mono: float,
    at: float,
    opening: Mapping[str, Any] = {},
) -> Change:
    """The identity of the process is known, and its command has not begun. `opening`: how an agent begins."""
    before = task.state
    assert isinstance(before, Starting)
    after = _step(task, Step.RUN, Running(at, before.attempt, before.fence, process, mono, folder))
    told = {"pid": process.pid, "start_ticks": process.start_ticks, **kind_of(plan), **opening}
    return after, (
        event("attempt.started", run, after, at, {"state": "running", **told}, before.attempt),
        event("task.started", run, after, at, {"task_type": plan.task_type}, before.attempt),
    )


def ending(
    run: ManagedRun,
    task: ManagedTask,
    why: str,
    at: float,
    failure: Failure | None = None,
    cancelled: bool = False,
    interrupted: bool = False,
) -> Change:
    """An attempt is over, and what is left of it is about to be stopped."""
    before = task.state
    assert isinstance(before, Starting | Running)
    process, folder = (before.process, before.folder) if isinstance(before, Running) else (None, "")
    state = Ending(at, before.attempt, before.fence, process, folder, why, failure, cancelled, interrupted)
    after = _step(task, Step.END, state)
    data = {"state": "ending", "why": why} | ({"error_class": failure.error_class.value} if failure else {})
    return after, (event("attempt.ending", run, after, at, data, before.attempt),)


def completed(run: ManagedRun, plan: TaskPlan, task: ManagedTask, record: AttemptRecord, at: float) -> Change:
    """The attempt kept every promise, and nothing of it is left."""
    after = _step(_with_record(task, record), Step.COMPLETE, Completed(at, record.attempt))
    data = {"state": "completed", "task_type": plan.task_type, "duration_seconds": _duration(task, at)}
    return after, (
        _finished(run, after, record, at, "completed"),
        event("task.completed", run, after, at, data, record.attempt),
    )


def cancelled(
    run: ManagedRun,
    plan: TaskPlan,
    task: ManagedTask,
    record: AttemptRecord | None,
    reason: str,
    at: float,
    actor: str,
) -> Change:
    """A person wanted no more of it; nothing of it is left."""
    after = _step(_with_record(task, record), Step.CANCEL, Cancelled(at, reason))
    told = event(
        "task.cancelled",
        run,
        after,
        at,
        {"state": "cancelled", "task_type": plan.task_type, "reason": reason},
        after.attempt,
    )
    told = msgspec.structs.replace(told, actor=actor)
    return after, (*_finished_if(run, after, record, at, "cancelled"), told)


def interrupted(run: ManagedRun, task: ManagedTask, record: AttemptRecord, reason: str, at: float) -> Change:
    """crewd itself ended the attempt: it does not count, and the task waits again."""
    after = _step(_with_record(task, record), Step.REQUEUE, Waiting(at, reason))
    return after, (
        _finished(run, after, record, at, "interrupted"),
        event("task.queued", run, after, at, {"state": "waiting", "reason": reason}, record.attempt),
    )


def retrying(
    run: ManagedRun, plan: TaskPlan, task: ManagedTask, record: AttemptRecord, decision: RetryAt, at: float
) -> Change:
    """The attempt failed, and another follows."""
    assert record.error_class is not None
    state = RetryWait(
        at, record.attempt, record.fence, decision.due_at, decision.delay, record.error_class, decision.reason
    )
    after = _step(_with_record(task, record), Step.RETRY, state)
    data = {
        "state": "retry_wait",
        "error_class": record.error_class.value,
        "error": record.error,
        "executor": plan.executor,
        "delay_seconds": decision.delay,
        "due_at": decision.due_at,
        "reason": decision.reason,
    }
    return after, (
        _finished(run, after, record, at, _outcome(record.error_class), plan.executor),
        event("task.retry_scheduled", run, after, at, data, record.attempt),
    )


def given_up(
    run: ManagedRun,
    plan: TaskPlan,
    task: ManagedTask,
    record: AttemptRecord | None,
    decision: GiveUp,
    failure: Failure,
    evidence: Mapping[str, Any],
    at: float,
    actor: str = "daemon",
) -> tuple[ManagedTask, tuple[Event, ...], DeadLetter]:
    """No other attempt follows: the task becomes a dead letter, with everything that is known of it."""
    task = _with_record(task, record)
    attempt = task.attempt
    key = f"{RUNTIME}:{task.run_id}/{task.task_id}/{attempt}"
    if record is None:
        # By hand, which may happen twice behind the same attempt, and before any: each is a letter of its own.
        key = f"{key}-{at * 1000:.0f}"
    letter = DeadLetter(
        run_id=task.run_id,
        task_id=task.task_id,
        reason=decision.reason,
        words=decision.because,
        attempts=len(task.attempts),
        error=failure.message,
        at=at,
        runtime=RUNTIME,
        key=key,
        crew=run.plan.crew,
        error_class=failure.error_class.value,
        fingerprint=fingerprint(failure.error_class.value, failure.message),
        history=task.attempts,
        evidence={**evidence, "guidance": failure.guidance, "code": failure.code},
    )
    after = _step(task, Step.GIVE_UP, DeadLettered(at, attempt, decision.reason, failure.error_class, key))
    outcome = _outcome(failure.error_class)
    told = {"error_class": failure.error_class.value, "error": failure.message, "reason": decision.reason}
    data = {"state": "dead_lettered", "task_type": plan.task_type, "executor": plan.executor, **told}
    events = (
        *_finished_if(run, after, record, at, outcome, plan.executor),
        event(f"task.{outcome}", run, after, at, {**data, "duration_seconds": _duration(task, at)}, attempt),
        event("task.dead_lettered", run, after, at, {**data, "key": key, "because": decision.because}, attempt),
        event(
            "deadletter.added",
            run,
            after,
            at,
            {
                **told,
                "key": key,
                "words": decision.because,
                "attempts": letter.attempts,
                "fingerprint": letter.fingerprint,
            },
            attempt,
        ),
    )
    if actor != "daemon":
        events = tuple(msgspec.structs.replace(each, actor=actor) for each in events)
    return after, events, letter


def used(run: ManagedRun, plan: TaskPlan, task: ManagedTask, usage: Usage, at: float, attempt: int) -> Change:
    """Note what an attempt used so far, `usage`: told is what is new since it was noted before."""
    more = _more(usage, task.attempt_usage)
    if more is None:
        return task, ()
    model = usage.model or plan.model
    total = more if task.usage is None else added(task.usage, more)
    noted = added(task.attempt_usage or Usage(), more)
    after = msgspec.structs.replace(task, usage=msgspec.structs.replace(total, model=model), attempt_usage=noted)
    data: dict[str, Any] = {
        "model": model,
        "input": more.input,
        "output": more.output,
        "cache_read": more.cache_read,
        "cache_write": more.cache_write,
    }
    if more.cost_usd is not None:
        data["cost_usd"] = more.cost_usd
    return after, (event("usage.recorded", run, after, at, data, attempt),)


def progressed(
    run: ManagedRun, task: ManagedTask, told: Sequence[Mapping[str, Any]], at: float, attempt: int
) -> Change:
    """Iterations of its newest attempt, oldest first, each an event of its own."""
    if not told:
        return task, ()
    after = msgspec.structs.replace(task, iterations=max(task.iterations, told[-1]["iteration"]))
    return after, tuple(event("task.progressed", run, after, at, data, attempt) for data in told)


def fated(run: ManagedRun, plan: TaskPlan, task: ManagedTask, fate: Fate, at: float) -> Change:
    """What a task's dependencies have become decides about it too."""
    match fate.step:
        case Step.SKIP:
            state: AnyState = Skipped(at, fate.reason)
            type, more = "task.skipped", {"error_class": ErrorClass.DEPENDENCY_FAILED.value}
        case Step.BLOCK:
            state, type, more = Blocked(at, fate.reason, fate.on, fate.root), "task.blocked", {}
        case _:
            state, type, more = Waiting(at, fate.reason), "task.unblocked", {}
    after = _step(task, fate.step, state)
    data: dict[str, Any] = {"state": name_of(after.state), "reason": fate.reason, "task_type": plan.task_type, **more}
    if fate.on:
        data |= {"on": list(fate.on), "root": list(fate.root)}
    return after, (event(type, run, after, at, data, task.attempt),)


def redriven(run: ManagedRun, task: ManagedTask, at: float, actor: str) -> Change:
    """A dead letter gets a new budget of attempts; what was tried stays on record."""
    before = task.state
    key = before.letter if isinstance(before, DeadLettered) else ""
    after = _step(task, Step.REDRIVE, Waiting(at, f"redriven from {key}"))
    told = event("task.queued", run, after, at, {"state": "waiting", "redriven_from": key}, task.attempt)
    return after, (msgspec.structs.replace(told, actor=actor),)


def _step(task: ManagedTask, taken: Step, state: AnyState) -> ManagedTask:
    return step(task, taken, state)


def _with_record(task: ManagedTask, record: AttemptRecord | None) -> ManagedTask:
    """Close the attempt: it passes through ENDING even where its end and the proof came in one look."""
    if record is None:
        return task
    if isinstance(task.state, Starting | Running):
        state = task.state
        process, folder = (state.process, state.folder) if isinstance(state, Running) else (None, "")
        task = _step(task, Step.END, Ending(record.ended_at, state.attempt, state.fence, process, folder, "it ended"))
    return msgspec.structs.replace(task, attempts=(*task.attempts, record))


def _finished_if(
    run: ManagedRun, task: ManagedTask, record: AttemptRecord | None, at: float, outcome: str, executor: str = ""
) -> tuple[Event, ...]:
    return () if record is None else (_finished(run, task, record, at, outcome, executor),)


def _finished(
    run: ManagedRun, task: ManagedTask, record: AttemptRecord, at: float, outcome: str, executor: str = ""
) -> Event:
    data: dict[str, Any] = {
        "outcome": outcome,
        "exit_code": record.exit.code,
        "signal": record.exit.signal,
        "output_bytes": record.output_bytes,
        "duration_seconds": max(0.0, record.ended_at - record.started_at),
        "interrupted": record.interrupted,
    }
    if record.error_class is not None:
        data |= {"error_class": record.error_class.value, "error": record.error, "executor": executor}
    return event("attempt.finished", run, task, at, data, record.attempt)


def _outcome(error_class: ErrorClass | None) -> str:
    return "timed_out" if error_class is ErrorClass.TIMEOUT else "failed"


def _duration(task: ManagedTask, at: float) -> float:
    return max(0.0, at - (task.first_started_at or at))


def _more(usage: Usage, noted: Usage | None) -> Usage | None:
    """What is new of a usage that only grows; None: nothing is."""
    before = noted or Usage()
    cost = usage.cost_usd
    if cost is not None:
        # A counter never falls: an estimate that was corrected downwards has been told already.
        cost = max(0.0, cost - (before.cost_usd or 0.0))
    more = Usage(
        input=max(0, usage.input - before.input),
        output=max(0, usage.output - before.output),
        cache_read=max(0, usage.cache_read - before.cache_read),
        cache_write=max(0, usage.cache_write - before.cache_write),
        cost_usd=cost,
        model=usage.model,
    )
    is_news = more.input or more.output or more.cache_read or more.cache_write or more.cost_usd
    return more if is_news or (noted is None) else None
