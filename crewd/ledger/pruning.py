"""Retention: forgetting what is old and settled. Nothing open is ever forgotten, and no dead letter."""

from collections.abc import Sequence

import apsw

from crewd.ledger import rows
from crewd.ledger.opening import PRUNED_TO, read_meta
from crewd.model.verdict import Outcome

VACUUM_PAGES = 256  # given back to the file system by one step

_DELETE_VERDICTS = """DELETE FROM verdicts WHERE rowid IN
    (SELECT rowid FROM verdicts WHERE outcome <> ? AND settled_at < ? LIMIT ?)"""
_DELETE_INCIDENTS = """DELETE FROM incidents WHERE rowid IN
    (SELECT rowid FROM incidents WHERE resolved_at < ? LIMIT ?)"""
# A run that is still on disk stays: the next start would take it for a new one.
_DELETE_RUNS = """DELETE FROM runs WHERE rowid IN
    (SELECT rowid FROM runs WHERE updated < ? AND vanished = 1 LIMIT ?)"""


def forget_events(connection: apsw.Connection, seqs: Sequence[int]) -> None:
    """Delete these events, and remember how far that went, so that whoever resumes below hears of the gap."""
    connection.executemany("DELETE FROM events WHERE seq = ?", [(seq,) for seq in seqs])
    pruned_to = max(read_meta(connection).get(PRUNED_TO, 0), *seqs)
    connection.execute(rows.INSERT_META, rows.meta_row(PRUNED_TO, pruned_to))
    _give_back(connection)


def forget_settled(connection: apsw.Connection, before: float, rows_max: int) -> int:
    """Delete at most `rows_max` verdicts, incidents and runs done with before the wall time `before`."""
    deleted = 0
    for sql, bindings in (
        (_DELETE_VERDICTS, (Outcome.OPEN.value, before)),
        (_DELETE_INCIDENTS, (before,)),
        (_DELETE_RUNS, (before,)),
    ):
        if deleted < rows_max:
            connection.execute(sql, (*bindings, rows_max - deleted))
            deleted += connection.changes()
    if deleted:
        _give_back(connection)
    return deleted


def _give_back(connection: apsw.Connection) -> None:
    # One page for each step of the statement: all of them have to be taken.
    connection.execute(f"PRAGMA incremental_vacuum({VACUUM_PAGES})").fetchall()
