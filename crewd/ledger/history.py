"""Questions about the past: pages of attempts, tasks and runs, newest first; how much there is, and whether it holds.

A page ends at a number, not at a count: what is added meanwhile is newer than every page that follows.
"""

import heapq
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import apsw

from crewd.ledger import cells, history_rows, log, schema
from crewd.ledger.cells import Row
from crewd.ledger.opening import LAST_SEQ, PRUNED_TO, read_meta
from crewd.model.history import (
    LIMIT_MAX,
    OUTCOMES,
    AttemptRow,
    HistoryPage,
    HistoryQuery,
    HistoryStats,
    RunRow,
    TaskRow,
)

V = TypeVar("V")
AT_WORK = "at_work"
PROBLEMS_MAX = 20  # that are named
ENDLESS = 2**62  # above every number of an event
# What came back after a failure told how much had been given up meanwhile.
_DROPPED = "SELECT sum(json_extract(data, '$.events_dropped')) FROM events WHERE type = 'daemon.recovered'"
TABLES = ("attempts", "outcomes", "run_history")


class _Where(NamedTuple):
    """Conditions that must all hold, with their bindings."""

    sql: list[str]
    bindings: list[Any]

    def add(self, sql: str, *bindings: Any) -> None:
        self.sql.append(sql)
        self.bindings.extend(bindings)

    def text(self) -> str:
        return " AND ".join(("TRUE", *self.sql))


def attempts(connection: apsw.Connection, query: HistoryQuery) -> HistoryPage[AttemptRow]:
    """Raises apsw.Error, cells.Unsound."""
    return _page(_of_tasks(connection, "attempts", query), history_rows.read_attempt, query.limit)


def tasks(connection: apsw.Connection, query: HistoryQuery) -> HistoryPage[TaskRow]:
    """Raises apsw.Error, cells.Unsound."""
    return _page(_of_tasks(connection, "outcomes", query), history_rows.read_task, query.limit)


def past_runs(connection: apsw.Connection, query: HistoryQuery) -> HistoryPage[RunRow]:
    """Runs; what a run has not itself must hold for one of its tasks. Raises apsw.Error, cells.Unsound."""
    where = _Where([], [])
    _narrow(where, query, ("crew", "runtime", "run_id"), "created_at")
    of_task = _Where(["run_id = run_history.run_id"], [])
    for name in ("task_id", "task_type", "executor", "model"):
        if value := getattr(query, name):
            of_task.add(f"{name} = ?", value)
    if query.variant is not None:
        _member(of_task, "variants", query.variant)
    if len(of_task.sql) > 1:
        where.add(f"EXISTS (SELECT 1 FROM outcomes WHERE {of_task.text()})", *of_task.bindings)
    if query.label is not None:
        _member(where, "labels", query.label)
    if query.states:
        marks = ",".join("?" * len(query.states))
        going = " OR (ended_at IS NULL AND vanished = 0)" if AT_WORK in query.states else ""
        where.add(f"(status IN ({marks}){going})", *query.states)
    found = connection.execute(*_select("run_history", where, _size(query)))
    return _page(found, history_rows.read_run, query.limit)


def stats(connection: apsw.Connection, path: Path) -> HistoryStats:
    """Raises apsw.Error, cells.Unsound."""
    with connection:
        meta = read_meta(connection)
        first, first_at = connection.execute("SELECT seq, at FROM events ORDER BY seq LIMIT 1").get or (0, None)
        _, last_at = connection.execute("SELECT seq, at FROM events ORDER BY seq DESC LIMIT 1").get or (0, None)
        counts = [int(connection.execute(f"SELECT count(*) FROM {table}").get) for table in TABLES]
        events = int(connection.execute("SELECT count(*) FROM events").get)
        dropped = connection.execute(_DROPPED).get or 0
        corrupt = sum(1 for table in TABLES for _ in _damaged(connection, table))
    return HistoryStats(
        files=1,
        bytes=path.stat().st_size + log.size(path),
        events=events,
        first_seq=first,
        last_seq=meta.get(LAST_SEQ, 0),
        pruned_to=meta.get(PRUNED_TO, 0),
        first_at=first_at,
        last_at=last_at,
        runs=counts[2],
        tasks=counts[1],
        attempts=counts[0],
        corrupt=corrupt,
        dropped=dropped,
    )


def problems(connection: apsw.Connection) -> list[str]:
    """Fold the events anew into a file of its own, that nobody else sees, and compare; PROBLEMS_MAX are named.

    A row that began with an event that is no longer there cannot be made anew: of it only its check is looked at.
    Raises apsw.Error.
    """
    aside = apsw.Connection("")  # a temporary file, for what does not fit into SQLite's cache
    try:
        schema.history_tables(aside)
        with connection, aside:  # one state of the ledger, whatever is written meanwhile
            pruned_to = read_meta(connection).get(PRUNED_TO, 0)
            history_rows.refold(aside, history_rows.sound_events(connection))
            found = (problem for table in TABLES for problem in _differences(connection, aside, table, pruned_to))
            said = list(islice(found, PROBLEMS_MAX))
    finally:
        aside.close()
    return said


def _of_tasks(connection: apsw.Connection, table: str, query: HistoryQuery) -> Iterator[Row]:
    where = _Where([], [])
    _narrow(where, query, ("crew", "runtime", "run_id", "task_id", "task_type", "executor", "model"), "started_at")
    if query.variant is not None:
        _member(where, "variants", query.variant)
    if query.label is not None:
        labelled = _Where([], [])
        _member(labelled, "labels", query.label)
        where.add(f"run_id IN (SELECT run_id FROM run_history WHERE {labelled.text()})", *labelled.bindings)
    states = tuple("" if state == AT_WORK else state for state in dict.fromkeys(query.states))
    if not states and query.executor and not query.run_id:
        states = ("", *OUTCOMES)
    if not states or query.run_id:
        if states:
            where.add(f"outcome IN ({','.join('?' * len(states))})", *states)
        return connection.execute(*_select(table, where, _size(query)))
    # One question for each outcome: the indexes end with what rows are ordered by, and nothing has to be sorted.
    found = []
    for state in states:
        each = _Where([*where.sql], [*where.bindings])
        each.add("outcome = ?", state)
        found.append(connection.execute(*_select(table, each, _size(query))))
    return heapq.merge(*found, key=lambda row: -row[0])


def _narrow(where: _Where, query: HistoryQuery, names: tuple[str, ...], began: str) -> None:
    for name in names:
        if value := getattr(query, name):
            where.add(f"{name} = ?", value)
    if query.since is not None:
        where.add(f"coalesce(ended_at, {began}) >= ?", query.since)
    if query.until is not None:
        where.add(f"coalesce(ended_at, {began}) < ?", query.until)
    if query.before_seq is not None:
        where.add("first_seq < ?", query.before_seq)


def _member(where: _Where, mapping: str, pair: tuple[str, str]) -> None:
    """Of a body: its mapping has this name with this value."""
    where.add(f"EXISTS (SELECT 1 FROM json_each(body, '$.{mapping}') WHERE key = ? AND value = ?)", *pair)


def _size(query: HistoryQuery) -> int:
    return max(1, min(query.limit, LIMIT_MAX))


def _select(table: str, where: _Where, size: int) -> tuple[str, list[Any]]:
    """One row more than a page has: whether there is another page."""
    sql = f"SELECT * FROM {table} WHERE {where.text()} ORDER BY first_seq DESC LIMIT ?"
    return sql, [*where.bindings, size + 1]


def _page(found: Iterator[Row], read: Callable[[Row], V], limit: int) -> HistoryPage[V]:
    size = max(1, min(limit, LIMIT_MAX))
    rows = list(islice(found, size + 1))
    more = len(rows) > size
    return HistoryPage(tuple(read(row) for row in rows[:size]), rows[size - 1][0] if more else None)


def _damaged(connection: apsw.Connection, table: str) -> Iterator[str]:
    for row in connection.execute(f"SELECT * FROM {table}"):
        try:
            cells.verify("row", row[0], row)
        except (cells.Unsound, UnicodeDecodeError):
            yield f"{table}: the row of event {row[0]} is not what was written"


def _differences(connection: apsw.Connection, aside: apsw.Connection, table: str, pruned_to: int) -> Iterator[str]:
    yield from _damaged(connection, table)
    sql = f"SELECT * FROM {table} WHERE first_seq > ? ORDER BY first_seq"
    held, folded = connection.execute(sql, (pruned_to,)), aside.execute(sql, (pruned_to,))
    one, other = next(held, None), next(folded, None)
    while one is not None or other is not None:
        if one is not None and (other is None or one[0] < other[0]):
            # Forgotten, and begun anew, while an event of before was left: one from a time when the clock was ahead.
            if not _older(aside, table, one):
                yield f"{table}: {_name(one)} is kept, and no event tells of it"
            one = next(held, None)
        elif other is not None and (one is None or other[0] < one[0]):
            if not _older(connection, table, other):
                yield f"{table}: {_name(other)} is told by events, and not kept"
            other = next(folded, None)
        else:
            if one is not None and one != other:
                yield f"{table}: {_name(one)} is not what the events tell"
            one, other = next(held, None), next(folded, None)


def _older(connection: apsw.Connection, table: str, row: Row) -> bool:
    """Whether the same thing stands there under an event from before, so that it was made of more."""
    names = {"attempts": 3, "outcomes": 2, "run_history": 1}[table]
    key = ("run_id", "task_id", "attempt")[:names]
    where = " AND ".join(f"{name} = ?" for name in key)
    held = connection.execute(f"SELECT first_seq FROM {table} WHERE {where}", row[1 : 1 + names]).get
    return held is not None and held < row[0]


def _name(row: Row) -> str:
    return "/".join(str(part) for part in row[1:4])
