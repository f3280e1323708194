"""History from events alone: what became of each attempt, task and run. Pure.

A row is a fold: it can be made anew from the events at any time, and comes out the same however they are grouped. An
event read twice counts once. Whatever an event lacks, or says in a way that cannot be understood, stays unknown.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace

from crewd.model.event import Event
from crewd.model.history import AttemptRow, RunRow, TaskRow
from crewd.model.moment import MOMENT_MAX, MOMENT_MIN
from crewd.model.run import RunStatus, Usage, added

MANAGED = "managed"  # the runtime whose attempts tell of themselves; of others only their tasks do
AT_WORK = "at_work"  # in a run's counts: tasks that have not ended
TEXT_MAX = 500  # characters of an error or a goal
NUMBER_MAX = 2.0**53  # beyond it numbers are no longer told apart
FORMERS_MAX = 100  # numbers that are looked back for attempts before

_TASK_ENDS: Mapping[str, str] = {
    "task.completed": "completed",
    "task.failed": "failed",
    "task.timed_out": "timed_out",
    "task.cancelled": "cancelled",
    "task.skipped": "skipped",
}
_TASK_GOES_ON = frozenset({"task.queued", "task.started", "task.waiting", "task.retry_scheduled", "task.unblocked"})
_RUN_GOES_ON: Mapping[str, str] = {
    "run.started": "running",
    "run.resumed": "running",
    "run.blocked": "blocked",
}
_RUN_ENDS: Mapping[str, str] = {
    "run.completed": "completed",
    "run.failed": "failed",
    "run.cancelled": "cancelled",
}
_STATUSES = frozenset(status.value for status in RunStatus)
_OF_ATTEMPTS = frozenset({"attempt.starting", "attempt.started", "attempt.finished"})
_OF_BOTH = frozenset({"usage.recorded", "task.progressed"})
_OF_RUNS = frozenset({"run.discovered", "run.vanished", "run.status_changed", *_RUN_GOES_ON, *_RUN_ENDS})
_OF_TASKS = frozenset({*_TASK_ENDS, *_TASK_GOES_ON, "task.dead_lettered"})

# Every other type, known or not, changes no row.
TYPES = _OF_ATTEMPTS | _OF_BOTH | _OF_RUNS | _OF_TASKS

AttemptKey = tuple[str, str, int]  # run id, task id, number
TaskKey = tuple[str, str]


@dataclass(slots=True)
class History:
    """Rows as they become, event by event. Those that it does not hold are asked for, once each."""

    find_attempt: Callable[[AttemptKey], AttemptRow | None] = lambda key: None
    find_task: Callable[[TaskKey], TaskRow | None] = lambda key: None
    find_run: Callable[[str], RunRow | None] = lambda run_id: None
    attempts: dict[AttemptKey, AttemptRow | None] = field(default_factory=dict)
    tasks: dict[TaskKey, TaskRow | None] = field(default_factory=dict)
    runs: dict[str, RunRow | None] = field(default_factory=dict)

    def take(self, event: Event) -> None:
        """Let one event change what it changes."""
        if event.type not in TYPES or not event.run_id:
            return
        new_attempt, before, task = False, None, None
        if event.task_id and event.type not in _OF_RUNS:
            if follows_another(event):
                self._end_former(event)
            new_attempt = bool(event.attempt) and self._take_attempt(event)
            if event.type == "task.progressed" and not new_attempt:
                return  # there may be many, and nobody counts them but their attempt
            before, task = self._take_task(event, new_attempt)
        run_id = _text(event.run_id)
        if run_id not in self.runs:
            self.runs[run_id] = self.find_run(run_id)
        self.runs[run_id] = run_after(self.runs[run_id], event, before, task, new_attempt)

    def _take_attempt(self, event: Event) -> bool:
        """Fold it into its attempt; says whether that is heard of for the first time."""
        key = (_text(event.run_id), _text(event.task_id), _whole(event.attempt))
        if key not in self.attempts:
            self.attempts[key] = self.find_attempt(key)
        before = self.attempts[key]
        after = self.attempts[key] = attempt_after(before, event)
        return before is None and after is not None

    def _end_former(self, event: Event) -> None:
        """End every attempt before it that is at work: those between two looks are never told, so numbers have gaps.

        All of them, and not the nearest: what becomes of a row must not depend on whether others were forgotten.
        """
        newest = _whole(event.attempt) - 1
        for number in range(newest, max(0, newest - FORMERS_MAX), -1):
            key = (_text(event.run_id), _text(event.task_id), number)
            if key not in self.attempts:
                self.attempts[key] = self.find_attempt(key)
            if (former := self.attempts[key]) is not None:
                self.attempts[key] = attempt_after(former, event)

    def _take_task(self, event: Event, new_attempt: bool) -> tuple[TaskRow | None, TaskRow | None]:
        key = (_text(event.run_id), _text(event.task_id))
        if key not in self.tasks:
            self.tasks[key] = self.find_task(key)
        before = self.tasks[key]
        after = self.tasks[key] = task_after(before, event, new_attempt)
        return before, after


def begins_attempt(event: Event) -> bool:
    """Whether it tells that an attempt of a runtime that is not crewd's own begins."""
    return event.type == "task.started" and event.runtime != MANAGED


def follows_another(event: Event) -> bool:
    """Whether it tells of an attempt of another runtime before which there were others, which are over by then.

    One that begins and ends between two looks is told by its end alone.
    """
    begins_or_ends = event.type == "task.started" or event.type in _TASK_ENDS
    return begins_or_ends and event.runtime != MANAGED and event.attempt > 1


def attempt_after(row: AttemptRow | None, event: Event) -> AttemptRow | None:
    """The attempt's row once `event` is known; None: it tells of no attempt, or of none that ran.

    Of an attempt that another one followed without a word about its end only this is known: it did not do.
    """
    if row is not None and event.seq <= row.last_seq:
        return row
    if row is not None and row.attempt < event.attempt:
        if row.outcome:
            return row
        return _attempt_ended(row, event, "failed", None)
    if event.runtime == MANAGED and event.type not in _OF_ATTEMPTS and event.type not in _OF_BOTH:
        return row  # its attempts have events of their own
    if row is None:
        if not _tells_of_attempt(event):
            return None
        row = AttemptRow(
            run_id=_text(event.run_id),
            task_id=_text(event.task_id),
            attempt=_whole(event.attempt),
            first_seq=event.seq,
            last_seq=event.seq,
        )
    data = event.data
    row = replace(row, **_told_of(row, event))
    match event.type:
        case "attempt.starting":
            waited = _seconds(data, "queue_seconds")
            return replace(row, started_at=_at(event), queue_seconds=waited, ended_at=None, outcome="")
        case "attempt.started":
            return replace(row, started_at=_at(event))  # its command begins; before, it had a slot
        case "attempt.finished":
            return _attempt_ended(row, event, _outcome(event), _seconds(data, "duration_seconds"))
        case "usage.recorded":
            return replace(row, usage=_more_usage(row.usage, event))
        case "task.progressed":
            return replace(row, iterations=min(row.iterations + 1, int(NUMBER_MAX)))
    if event.type == "task.started":
        return _observed_begin(row, event)
    if event.type in _TASK_ENDS:
        started = _moment(data, "started_at")
        if started is not None:
            row = replace(row, started_at=started)
        return _attempt_ended(row, event, _TASK_ENDS[event.type], _seconds(data, "duration_seconds"))
    return row


def task_after(row: TaskRow | None, event: Event, new_attempt: bool = False) -> TaskRow | None:
    """The task's row once `event` is known. `new_attempt`: it is the first to tell of one. Its newest end counts."""
    if row is not None and event.seq <= row.last_seq:
        return row
    if row is None:
        row = TaskRow(
            run_id=_text(event.run_id),
            task_id=_text(event.task_id),
            first_seq=event.seq,
            last_seq=event.seq,
        )
    row = replace(row, **_told_of(row, event), attempts=row.attempts + new_attempt)
    if event.type == "usage.recorded":
        return replace(row, usage=_more_usage(row.usage, event))
    if event.type in ("attempt.starting", "attempt.started") or begins_attempt(event):
        return _task_began(row, event)
    if event.type in _TASK_GOES_ON:
        return replace(row, outcome="", error_class="", ended_at=None, duration_seconds=None)
    if event.type in _TASK_ENDS:
        return _task_ended(row, event, _TASK_ENDS[event.type])
    if event.type == "task.dead_lettered" and not row.outcome:
        return _task_ended(row, event, "failed")
    return row


def run_after(
    row: RunRow | None,
    event: Event,
    before: TaskRow | None = None,
    task: TaskRow | None = None,
    new_attempt: bool = False,
) -> RunRow:
    """The run's row once `event` is known, which made of the task's row `before` the row `task`."""
    if row is not None and event.seq <= row.last_seq:
        return row
    if row is None:
        row = RunRow(
            run_id=_text(event.run_id),
            first_seq=event.seq,
            last_seq=event.seq,
            status=RunStatus.UNKNOWN.value,
        )
    row = replace(
        row,
        last_seq=event.seq,
        runtime=row.runtime or _text(event.runtime),
        crew=row.crew or _text(event.crew),
        attempts=row.attempts + new_attempt,
    )
    if event.type not in _OF_RUNS:
        usage = _more_usage(row.usage, event) if event.type == "usage.recorded" else row.usage
        return replace(row, usage=usage, tasks=_recounted(row.tasks, before, task))
    return _run_told(row, event)


def _told_of(row: AttemptRow | TaskRow, event: Event) -> dict[str, Any]:
    """Fields that every event about an attempt or a task may tell anew."""
    return {
        "last_seq": event.seq,
        "runtime": row.runtime or _text(event.runtime),
        "crew": row.crew or _text(event.crew),
        "task_type": _name(event.data, "task_type") or row.task_type,
        "executor": _name(event.data, "executor") or row.executor,
        "model": _model(row.model, event),
        "variants": _names(event.data.get("variants")) or row.variants,
    }


def _tells_of_attempt(event: Event) -> bool:
    """Whether an attempt that nobody heard of before must have run, by this event."""
    if event.attempt < 1:
        return False
    if event.type in _OF_ATTEMPTS or event.type in _OF_BOTH:
        return True
    if event.type in ("task.started", "task.completed", "task.failed", "task.timed_out"):
        return True
    # What was cancelled or skipped ran only if its runtime says when it began.
    return event.type in _TASK_ENDS and _moment(event.data, "started_at") is not None


def _observed_begin(row: AttemptRow, event: Event) -> AttemptRow:
    """A runtime that resumes may begin the same attempt again: it is one attempt, with its newest end."""
    started = _moment(event.data, "started_at")
    if started is None:
        started = _at(event) if row.started_at is None else row.started_at
    return replace(
        row,
        outcome="",
        error_class="",
        error="",
        started_at=started,
        ended_at=None,
        queue_seconds=_seconds(event.data, "queue_seconds") if row.queue_seconds is None else row.queue_seconds,
        duration_seconds=None,
    )


def _attempt_ended(row: AttemptRow, event: Event, outcome: str, duration: float | None) -> AttemptRow:
    own = row.attempt == event.attempt  # else it is told of its successor
    ended = _moment(event.data, "finished_at" if own else "started_at")
    if not own and ended is not None and row.started_at is not None and ended <= row.started_at:
        ended = None  # a start that its successor has from itself
    # It ended no later than its successor began, however late that is seen.
    ended = _at(event) if ended is None else ended
    if duration is None and row.started_at is not None:
        duration = max(0.0, ended - row.started_at)
    return replace(
        row,
        last_seq=event.seq,
        outcome=outcome,
        error_class=_name(event.data, "error_class") if own else "",
        error=_name(event.data, "error") if own else "",
        ended_at=ended,
        duration_seconds=duration,
    )


def _outcome(event: Event) -> str:
    """How an attempt of crewd's own ended. Events from before it was told say enough to conclude it."""
    data = event.data
    told = _name(data, "outcome")
    if told:
        return told
    if data.get("interrupted") is True:
        return "interrupted"
    error_class = _name(data, "error_class")
    if error_class:
        return {"timeout": "timed_out", "cancelled": "cancelled"}.get(error_class, "failed")
    return "completed" if data.get("signal") is None else "cancelled"


def _task_began(row: TaskRow, event: Event) -> TaskRow:
    started, waited = row.started_at, row.queue_seconds
    if started is None:
        told = _moment(event.data, "started_at")
        started = _at(event) if told is None else told
        waited = _seconds(event.data, "queue_seconds") if waited is None else waited
    return replace(
        row,
        outcome="",
        error_class="",
        started_at=started,
        ended_at=None,
        queue_seconds=waited,
        duration_seconds=None,
    )


def _task_ended(row: TaskRow, event: Event, outcome: str) -> TaskRow:
    data = event.data
    told = _moment(data, "finished_at")
    ended = _at(event) if told is None else told
    started = _moment(data, "started_at") if row.started_at is None else row.started_at
    duration = _seconds(data, "duration_seconds") if started is None else max(0.0, ended - started)
    return replace(
        row,
        outcome=outcome,
        error_class=_name(data, "error_class"),
        started_at=started,
        ended_at=ended,
        duration_seconds=duration,
    )


def _run_told(row: RunRow, event: Event) -> RunRow:
    data, type = event.data, event.type
    row = replace(
        row,
        goal=_name(data, "goal") or row.goal,
        labels=_names(data.get("labels")) or row.labels,
        created_at=_first(_moment(data, "created_at"), row.created_at),
    )
    if type == "run.vanished":
        return replace(row, vanished=True)
    row = replace(row, vanished=False)
    if type in _RUN_ENDS:
        return _run_ended(row, event, _RUN_ENDS[type])
    if type in _RUN_GOES_ON:
        status = _RUN_GOES_ON[type]
        created = row.created_at
        return replace(
            row,
            status=status,
            created_at=_at(event) if created is None else created,
            ended_at=None,
            duration_seconds=None,
        )
    status = _name(data, "run_status") or _name(data, "status")
    status = status if status in _STATUSES else RunStatus.UNKNOWN.value
    if status in _RUN_ENDS.values():
        return _run_ended(row, event, status)
    created = _at(event) if row.created_at is None else row.created_at
    return replace(row, status=status, created_at=created, ended_at=None, duration_seconds=None)


def _run_ended(row: RunRow, event: Event, status: str) -> RunRow:
    told = _moment(event.data, "finished_at")
    ended = _at(event) if told is None else told
    duration = _seconds(event.data, "duration_seconds")
    if duration is None and row.created_at is not None:
        duration = max(0.0, ended - row.created_at)
    return replace(
        row,
        status=status,
        ended_at=ended,
        duration_seconds=duration,
        tasks=_counts(event.data.get("tasks")) or row.tasks,
    )


def _counts(told: object) -> Mapping[str, int]:
    """How many tasks of a run that has ended stood where, as its runtime had them; {}: that is not told."""
    counts: dict[str, int] = {}
    if isinstance(told, Mapping):
        for status, number in told.items():
            if isinstance(status, str) and isinstance(number, int) and 0 < number < NUMBER_MAX:
                name = _text("failed" if status == "needs_attention" else status)
                name = name if name in _TASK_ENDS.values() else AT_WORK
                counts[name] = counts.get(name, 0) + number
    return counts


def _recounted(counts: Mapping[str, int], before: TaskRow | None, task: TaskRow | None) -> Mapping[str, int]:
    was = None if before is None else before.outcome or AT_WORK
    now = None if task is None else task.outcome or AT_WORK
    if was == now:
        return counts
    after = dict(counts)
    if was is not None:
        after[was] = after.get(was, 0) - 1
    if now is not None:
        after[now] = after.get(now, 0) + 1
    return {name: number for name, number in after.items() if number > 0}


def _more_usage(usage: Usage | None, event: Event) -> Usage:
    data = event.data
    cost = _number(data.get("cost_usd"))
    more = Usage(
        input=_whole(data.get("input")),
        output=_whole(data.get("output")),
        cache_read=_whole(data.get("cache_read")),
        cache_write=_whole(data.get("cache_write")),
        cost_usd=None if cost is None or cost < 0 else cost,
        model=_name(data, "model"),
    )
    total = more if usage is None else added(usage, more)
    limit = int(NUMBER_MAX)
    return replace(
        total,
        input=min(total.input, limit),
        output=min(total.output, limit),
        cache_read=min(total.cache_read, limit),
        cache_write=min(total.cache_write, limit),
        cost_usd=None if total.cost_usd is None else min(total.cost_usd, NUMBER_MAX),
    )


def _model(known: str, event: Event) -> str:
    """The model that was asked for; that which was used, where nobody asked for one."""
    told = _name(event.data, "model")
    return known or told if event.type == "usage.recorded" else told or known


def _first(*values: float | None) -> float | None:
    return next((value for value in values if value is not None), None)


def _at(event: Event) -> float:
    return _number(event.at) or 0.0


def _moment(data: Mapping[str, Any], name: str) -> float | None:
    """Read a wall time; None where it is none, or none that could be written as a date."""
    value = _number(data.get(name))
    return value if value is not None and MOMENT_MIN <= value <= MOMENT_MAX else None


def _seconds(data: Mapping[str, Any], name: str) -> float | None:
    value = _number(data.get(name))
    return None if value is None or value < 0 else value


def _number(value: object) -> float | None:
    """A number that survives being written; None: it is none. `+ 0.0`: a zero has no sign."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) + 0.0 if -NUMBER_MAX <= value <= NUMBER_MAX and math.isfinite(value) else None


def _whole(value: object) -> int:
    number = _number(value)
    return 0 if number is None or number < 0 else int(number)


def _names(value: object) -> Mapping[str, str]:
    if not isinstance(value, Mapping):
        return {}
    pairs = value.items()
    return {_text(name): _text(word) for name, word in pairs if isinstance(name, str) and isinstance(word, str)}


def _name(data: Mapping[str, Any], name: str) -> str:
    value = data.get(name)
    return _text(value)[:TEXT_MAX] if isinstance(value, str) else ""


def _text(value: str) -> str:
    """As a ledger keeps it: what is no Unicode is spelled out."""
    return value if value.isascii() else value.encode("utf-8", "backslashreplace").decode()
