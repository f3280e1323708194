"""History's rows to tables and back, and the events that make them: in the transaction that writes the events."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import apsw
import msgspec

from crewd.ledger import cells, rows
from crewd.ledger.cells import Row, checked
from crewd.model.event import Event
from crewd.model.history import AttemptRow, RunRow, TaskRow
from crewd.model.run import Usage
from crewd.policy.history import TYPES, AttemptKey, History, TaskKey

V = TypeVar("V")

_MARKS = ",".join("?" * 21)
_COLUMNS = (
    "runtime = excluded.runtime, crew = excluded.crew, task_type = excluded.task_type, executor = excluded.executor, "
    "model = excluded.model, outcome = excluded.outcome, error_class = excluded.error_class, "
    "started_at = excluded.started_at, ended_at = excluded.ended_at, queue_seconds = excluded.queue_seconds, "
    "duration_seconds = excluded.duration_seconds, input = excluded.input, output = excluded.output, "
    "cache_read = excluded.cache_read, cache_write = excluded.cache_write, cost_usd = excluded.cost_usd, "
    'body = excluded.body, "check" = excluded."check"'
)
INSERT_ATTEMPT = f"INSERT INTO attempts VALUES ({_MARKS},?) ON CONFLICT (first_seq) DO UPDATE SET {_COLUMNS}"
INSERT_TASK = (
    f"INSERT INTO outcomes VALUES ({_MARKS},?) ON CONFLICT (first_seq) DO UPDATE SET "
    f"attempts = excluded.attempts, {_COLUMNS}"
)
INSERT_RUN = (
    "INSERT INTO run_history VALUES (?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT (first_seq) DO UPDATE SET "
    "last_seq = excluded.last_seq, runtime = excluded.runtime, crew = excluded.crew, status = excluded.status, "
    "created_at = excluded.created_at, ended_at = excluded.ended_at, vanished = excluded.vanished, "
    'body = excluded.body, "check" = excluded."check"'
)
FIND_ATTEMPT = "SELECT * FROM attempts WHERE run_id = ? AND task_id = ? AND attempt = ?"
FIND_TASK = "SELECT * FROM outcomes WHERE run_id = ? AND task_id = ?"
FIND_RUN = "SELECT * FROM run_history WHERE run_id = ?"
_TYPE = 2  # of rows.EVENT_COLUMNS
CHUNK = 2000  # events between two writings of a long fold: bounds its memory

read_attempt = cells.body_reader(AttemptRow)
read_task = cells.body_reader(TaskRow)
read_run = cells.body_reader(RunRow)


class Spoiled(Exception):
    """A row of history is not what was written."""


def follow(connection: apsw.Connection, events: Iterable[Event]) -> int:
    """Fold events into the tables, within the transaction that is open; returns how many could not be.

    A row that is damaged is left alone: a new check would hide the damage. History is not worth refusing to write
    what happened, so it is counted instead. Raises apsw.Error.
    """
    missed = 0
    history = _history(connection)
    for event in events:
        if event.type in TYPES:
            try:
                history.take(event)
            except apsw.Error:
                raise  # the disk's
            except Exception:  # noqa: BLE001 -- Spoiled, or a defect: counted
                missed += 1
    _write(connection, history)
    return missed


def refold(connection: apsw.Connection, events: Iterable[Event]) -> None:
    """Fold a long history into empty tables, in bounded memory. Raises apsw.Error."""
    history = _history(connection)
    for number, event in enumerate(events, start=1):
        with contextlib.suppress(Spoiled):  # as `follow` has it
            history.take(event)
        if number % CHUNK == 0:
            _write(connection, history)
            history = _history(connection)
    _write(connection, history)


def sound_events(connection: apsw.Connection, after: int = 0) -> Iterator[Event]:
    """Events that history is made of, above a number, the oldest first. Damaged ones tell nothing."""
    for row in connection.execute(f"SELECT {rows.EVENT_COLUMNS} FROM events WHERE seq > ? ORDER BY seq", (after,)):
        if row[_TYPE] in TYPES:
            with contextlib.suppress(cells.Unsound):
                yield rows.read_event(row)


def attempt_row(row: AttemptRow) -> Row:
    key = (row.first_seq, row.run_id, row.task_id, row.attempt)
    return _laid_out(key, row)


def task_row(row: TaskRow) -> Row:
    key = (row.first_seq, row.run_id, row.task_id, row.attempts)
    return _laid_out(key, row)


def run_row(row: RunRow) -> Row:
    key = (row.first_seq, row.run_id, row.last_seq, row.runtime, row.crew, row.status)
    return checked(*key, row.created_at, row.ended_at, int(row.vanished), cells.json(row))


def _laid_out(key: tuple[int | str, ...], row: AttemptRow | TaskRow) -> Row:
    names = (row.runtime, row.crew, row.task_type, row.executor, row.model, row.outcome, row.error_class)
    times = (row.started_at, row.ended_at, row.queue_seconds, row.duration_seconds)
    return checked(*key, *names, *times, *_figures(row.usage), cells.json(row))


def _figures(usage: Usage | None) -> Row:
    if usage is None:
        return None, None, None, None, None
    return usage.input, usage.output, usage.cache_read, usage.cache_write, usage.cost_usd


def _history(connection: apsw.Connection) -> History:
    return History(
        _finder(connection, FIND_ATTEMPT, read_attempt),
        _finder(connection, FIND_TASK, read_task),
        lambda run_id: _found(connection, FIND_RUN, (run_id,), read_run),
    )


def _finder(
    connection: apsw.Connection, sql: str, read: Callable[[Row], V]
) -> Callable[[AttemptKey | TaskKey], V | None]:
    return lambda key: _found(connection, sql, key, read)


def _found(connection: apsw.Connection, sql: str, key: tuple[object, ...], read: Callable[[Row], V]) -> V | None:
    row = connection.execute(sql, key).get
    if row is None:
        return None
    try:
        return read(row)
    except (cells.Unsound, msgspec.MsgspecError) as error:
        raise Spoiled(str(error)) from error


def _write(connection: apsw.Connection, history: History) -> None:
    for sql, written in (
        (INSERT_ATTEMPT, [attempt_row(row) for row in history.attempts.values() if row is not None]),
        (INSERT_TASK, [task_row(row) for row in history.tasks.values() if row is not None]),
        (INSERT_RUN, [run_row(row) for row in history.runs.values() if row is not None]),
    ):
        if written:
            connection.executemany(sql, written)
