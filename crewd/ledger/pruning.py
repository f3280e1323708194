"""Retention: forgetting what is old and settled. Nothing open is ever forgotten, and no dead letter."""

import apsw

from crewd.ledger import rows
from crewd.ledger.opening import PRUNED_TO, read_meta
from crewd.model.verdict import Outcome

VACUUM_PAGES = 256

_DELETE_VERDICTS = """DELETE FROM verdicts WHERE rowid IN
    (SELECT rowid FROM verdicts WHERE outcome <> ? AND settled_at < ? LIMIT ?)"""
_DELETE_INCIDENTS = """DELETE FROM incidents WHERE rowid IN
    (SELECT rowid FROM incidents WHERE resolved_at < ? LIMIT ?)"""
# A run that is still on disk stays: the next start would take it for a new one.
_DELETE_RUNS = """DELETE FROM runs WHERE rowid IN
    (SELECT rowid FROM runs WHERE updated < ? AND vanished = 1 LIMIT ?)"""


def prune(connection: apsw.Connection, before: float, rows_max: int) -> int:
    """Delete at most `rows_max` rows older than the wall time `before`; returns how many."""
    deleted = _prune_events(connection, before, rows_max)
    for sql, bindings in (
        (_DELETE_VERDICTS, (Outcome.OPEN.value, before)),
        (_DELETE_INCIDENTS, (before,)),
        (_DELETE_RUNS, (before,)),
    ):
        if deleted < rows_max:
            connection.execute(sql, (*bindings, rows_max - deleted))
            deleted += connection.changes()
    if deleted:
        connection.execute(f"PRAGMA incremental_vacuum({VACUUM_PAGES})").fetchall()
    return deleted


def _prune_events(connection: apsw.Connection, before: float, rows_max: int) -> int:
    """Delete from the oldest on, and remember how far, so that whoever resumes below hears of the gap.

    Numbers grow with time but for steps of the wall clock, so a stretch without anything old ends the search.
    """
    oldest = connection.execute("SELECT seq, at FROM events ORDER BY seq LIMIT ?", (rows_max,)).fetchall()
    old = [(seq,) for seq, at in oldest if at < before]
    if old:
        connection.executemany("DELETE FROM events WHERE seq = ?", old)
        pruned_to = max(read_meta(connection).get(PRUNED_TO, 0), old[-1][0])
        connection.execute(rows.INSERT_META, rows.meta_row(PRUNED_TO, pruned_to))
    return len(old)
