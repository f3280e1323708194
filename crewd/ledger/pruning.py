"""Retention: forgetting what is old and settled. Nothing open is ever forgotten, and no dead letter.

What became of runs, tasks and attempts is kept longer than the events that tell it, and forgotten run by run.

The idempotency key of a managed run is kept as long as the run: until the retention after its end.
"""

from collections.abc import Sequence

import apsw

from crewd.ledger import cells, rows
from crewd.ledger.opening import PRUNED_TO, read_meta
from crewd.model.verdict import Outcome

VACUUM_PAGES = 256  # given back to the file system by one step

_DELETE_VERDICTS = """DELETE FROM verdicts WHERE rowid IN
    (SELECT rowid FROM verdicts WHERE outcome <> ? AND settled_at < ? LIMIT ?)"""
_DELETE_INCIDENTS = """DELETE FROM incidents WHERE rowid IN
    (SELECT rowid FROM incidents WHERE resolved_at < ? LIMIT ?)"""
_SELECT_ENDED = """SELECT * FROM managed_runs AS run WHERE ended_at < ?
    AND NOT EXISTS (SELECT 1 FROM letters WHERE run_id = run.run_id AND state = 'open')
    AND NOT EXISTS (SELECT 1 FROM work WHERE state = 'leased' AND key > run.run_id || '/' AND key < run.run_id || '0')
    ORDER BY ended_at LIMIT 1"""
# A row is not forgotten before all its events are: verifying would miss it. A run that is gone from disk never ends,
# and of one of which nothing but that was heard, nobody knows when it began.
_PAST = "(ended_at < ?1 OR (ended_at IS NULL AND vanished = 1 AND coalesce(created_at, 0) < ?1))"
_PAST_IDS = f"SELECT run_id FROM run_history WHERE {_PAST}"
_SELECT_PAST = f"SELECT * FROM run_history WHERE {_PAST} AND last_seq <= ?2 ORDER BY first_seq LIMIT 1"
_DELETE_LOGS = """DELETE FROM logs WHERE (log, position) IN
    (SELECT log, position FROM logs WHERE log = ?1 OR (log > ?2 AND log < ?3) ORDER BY log, position LIMIT ?4)"""
# A run that is still on disk stays: the next start would take it for a new one.
_DELETE_RUNS = """DELETE FROM runs WHERE rowid IN
    (SELECT rowid FROM runs WHERE updated < ? AND vanished = 1 LIMIT ?)"""

# The plan of an interruption that is still there stays as well: it would be made anew.
_DELETE_RECOVERIES = """DELETE FROM recoveries WHERE rowid IN
    (SELECT rowid FROM recoveries AS plan WHERE created_at < ?
        AND state NOT IN ('planned', 'approved', 'applied')
        AND NOT EXISTS (SELECT 1 FROM runs WHERE run_id = plan.run_id AND vanished = 0) LIMIT ?)"""


def forget_events(connection: apsw.Connection, seqs: Sequence[int]) -> None:
    """Delete these events, and remember how far that went, so that whoever resumes below hears of the gap."""
    connection.executemany("DELETE FROM events WHERE seq = ?", [(seq,) for seq in seqs])
    pruned_to = max(read_meta(connection).get(PRUNED_TO, 0), *seqs)
    connection.execute(rows.INSERT_META, rows.meta_row(PRUNED_TO, pruned_to))
    _give_back(connection)


def forget_settled(connection: apsw.Connection, before: float, rows_max: int) -> int:
    """Delete at most `rows_max` verdicts, incidents, runs, plans of recovery done with before the time `before`."""
    deleted = 0
    for sql, bindings in (
        (_DELETE_VERDICTS, (Outcome.OPEN.value, before)),
        (_DELETE_INCIDENTS, (before,)),
        (_DELETE_RUNS, (before,)),
        (_DELETE_RECOVERIES, (before,)),
    ):
        if deleted < rows_max:
            connection.execute(sql, (*bindings, rows_max - deleted))
            deleted += connection.changes()
    if deleted:
        _give_back(connection)
    return deleted


def forget_run(connection: apsw.Connection, before: float, rows_max: int) -> int:
    """Delete the managed run that ended first before the wall time `before`, with all that is its own.

    A long log goes first, `rows_max` records at a time; the rest goes together, so that nobody meets half a run.
    """
    row = connection.execute(_SELECT_ENDED, (before,)).get
    if row is None:
        return 0
    run_id = row[0]
    cells.verify("managed run", run_id, row)  # an end that crewd did not write forgets nothing
    # What belongs to a run is named RUN or RUN/...; no id holds a "/", and "0" is the character behind it.
    own = (run_id, f"{run_id}/", f"{run_id}0")
    deleted = _delete(connection, _DELETE_LOGS, (*own, rows_max))
    if deleted < rows_max:
        deleted += _delete(connection, "DELETE FROM managed_tasks WHERE run_id = ?", (run_id,))
        deleted += _delete(connection, "DELETE FROM work WHERE key > ? AND key < ?", own[1:])
        deleted += _delete(connection, "DELETE FROM managed_runs WHERE run_id = ?", (run_id,))
    _give_back(connection)
    return deleted


def would_forget(connection: apsw.Connection, before: float) -> dict[str, int]:
    """Count by kind what is older than the wall time `before` and would go; of managed runs only themselves."""
    counts = {
        "events": ("events WHERE at < ?", (before,)),
        "verdicts": ("verdicts WHERE outcome <> ? AND settled_at < ?", (Outcome.OPEN.value, before)),
        "incidents": ("incidents WHERE resolved_at < ?", (before,)),
        "runs": ("runs WHERE updated < ? AND vanished = 1", (before,)),
        "managed_runs": (f"({_SELECT_ENDED.replace('LIMIT 1', '')})", (before,)),
        "history_runs": (f"run_history WHERE {_PAST}", (before,)),
        "history_tasks": (f"outcomes WHERE run_id IN ({_PAST_IDS})", (before,)),
        "history_attempts": (f"attempts WHERE run_id IN ({_PAST_IDS})", (before,)),
    }
    return {
        name: int(connection.execute(f"SELECT count(*) FROM {rows}", bindings).get)
        for name, (rows, bindings) in counts.items()
    }


def forget_past(connection: apsw.Connection, before: float, rows_max: int) -> int:
    """Delete the oldest run of history that ended before the wall time `before`, with its tasks and attempts.

    Of one with very many of them `rows_max` go at a time, and the run itself with the last.
    """
    pruned_to = read_meta(connection).get(PRUNED_TO, 0)
    row = connection.execute(_SELECT_PAST, (before, pruned_to)).get
    if row is None:
        return 0
    run_id = row[1]
    cells.verify("run of history", run_id, row)  # an end that crewd did not write forgets nothing
    deleted = 0
    for table in ("attempts", "outcomes", "run_history"):
        if deleted < rows_max:
            sql = f"DELETE FROM {table} WHERE rowid IN (SELECT rowid FROM {table} WHERE run_id = ? LIMIT ?)"
            deleted += _delete(connection, sql, (run_id, rows_max - deleted))
    _give_back(connection)
    return deleted


def _delete(connection: apsw.Connection, sql: str, bindings: tuple[object, ...]) -> int:
    connection.execute(sql, bindings)
    return connection.changes()


def _give_back(connection: apsw.Connection) -> None:
    # One page for each step of the statement: all of them have to be taken.
    connection.execute(f"PRAGMA incremental_vacuum({VACUUM_PAGES})").fetchall()
