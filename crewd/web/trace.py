"""A run as a trace: a span for the run, one for each task, one for each attempt, and in each what happened in it.

Ids are derived (model/event.py), so that they are the same after every restart, in events, here and in what is sent
to a collector. The span of a task is that of its attempt 0, that of the run belongs to no task.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from crewd.model.event import Event, span_id, trace_id
from crewd.model.history import LIMIT_MAX, AttemptRow, HistoryPage, HistoryQuery, RunRow, TaskRow
from crewd.model.moment import rfc3339
from crewd.web.history_shapes import Redact
from crewd.web.state import Past

EVENTS_MAX = 5000  # of a run that are looked at, from its beginning
SPAN_EVENTS_MAX = 100  # of one span that are told
ATTEMPTS_MAX = 10_000
_PAGE = 1000
_STATUS = {"completed": "ok", "failed": "error", "timed_out": "error"}


def trace(past: Past, run: RunRow, redact: Redact) -> dict[str, Any]:
    """Lay a run out as a tree of spans, without secrets."""
    attempts, more_attempts = _taken(_rows(past.attempts, run.run_id), ATTEMPTS_MAX)
    tasks, more_tasks = _taken(_rows(past.tasks, run.run_id), ATTEMPTS_MAX)
    events, more_events = _taken(_events(past, run.run_id), EVENTS_MAX)
    of_task = _grouped(attempts, lambda row: row.task_id)
    told = _grouped(events, lambda event: (event.task_id, event.attempt))
    needs = dependencies(past, run.run_id)
    newest = {task_id: max(row.attempt for row in rows) for task_id, rows in of_task.items()}
    root = span_id(run.run_id, "", 0)

    def links(task_id: str) -> list[dict[str, Any]]:
        return [
            {"task_id": other, "span_id": span_id(run.run_id, other, newest.get(other, 0))}
            for other in needs.get(task_id, ())
        ]

    def attempt(row: AttemptRow) -> dict[str, Any]:
        return _span(row.outcome, row.started_at, row.ended_at, told.get((row.task_id, row.attempt), ())) | {
            "attempt": row.attempt,
            "span_id": span_id(row.run_id, row.task_id, row.attempt),
            "parent_span_id": span_id(row.run_id, row.task_id, 0),
            "error_class": row.error_class or None,
            "error": row.error,
            "links": links(row.task_id),
        }

    def task(row: TaskRow) -> dict[str, Any]:
        return _span(row.outcome, row.started_at, row.ended_at, told.get((row.task_id, 0), ())) | {
            "task_id": row.task_id,
            "span_id": span_id(row.run_id, row.task_id, 0),
            "parent_span_id": root,
            "depends_on": list(needs.get(row.task_id, ())),
            "links": links(row.task_id),
        }

    def tree(row: TaskRow) -> dict[str, Any]:
        # Redacted span by span: what is too large to be walked is an attempt, never a run.
        return redact(task(row)) | {
            "attempts": [redact(attempt(each)) for each in of_task.get(row.task_id, ())[::-1]]
        }

    whole = _span(run.status, run.created_at, run.ended_at, told.get(("", 0), ())) | {
        "run_id": run.run_id,
        "trace_id": trace_id(run.run_id),
        "span_id": root,
        "parent_span_id": None,
        "runtime": run.runtime,
        "crew": run.crew,
        "truncated": more_attempts or more_tasks or more_events,
    }
    return redact(whole) | {"tasks": [tree(row) for row in reversed(tasks)]}


def dependencies(past: Past, run_id: str) -> Mapping[str, Sequence[str]]:
    """Say which tasks each task of a run needs, as far as the run itself is still known."""
    managed = past.managed(run_id)
    if managed is not None:
        return {task.task_id: task.depends_on for task in managed.plan.tasks}
    run = past.run(run_id)
    return {task.task_id: task.depends_on for task in run.tasks} if run is not None else {}


def _span(outcome: str, start: float | None, end: float | None, events: Sequence[Event]) -> dict[str, Any]:
    return {
        "outcome": outcome or None,
        "status": _STATUS.get(outcome, "unset"),
        "start": None if start is None else rfc3339(start),
        "end": None if end is None else rfc3339(end),
        "events": [
            {"seq": event.seq, "ts": rfc3339(event.at), "name": event.type, "data": event.data}
            for event in events[:SPAN_EVENTS_MAX]
        ],
        "events_left_out": max(0, len(events) - SPAN_EVENTS_MAX),
    }


def _rows(ask: Callable[[HistoryQuery], HistoryPage[Any]], run_id: str) -> Iterator[Any]:
    before: int | None = None
    while True:
        page = ask(HistoryQuery(run_id=run_id, before_seq=before, limit=LIMIT_MAX))
        yield from page.rows
        before = page.next_before
        if before is None:
            return


def _events(past: Past, run_id: str) -> Iterator[Event]:
    after = 0
    while True:
        found = past.events(after, _PAGE, (), run_id)
        yield from found
        if len(found) < _PAGE:
            return
        after = found[-1].seq


def _taken(rows: Iterator[Any], many: int) -> tuple[list[Any], bool]:
    """Take so many at most; also says whether there are more."""
    taken: list[Any] = []
    for row in rows:
        if len(taken) == many:
            return taken, True
        taken.append(row)
    return taken, False


def _grouped(rows: Iterable[Any], key: Callable[[Any], Any]) -> dict[Any, list[Any]]:
    groups: dict[Any, list[Any]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups
