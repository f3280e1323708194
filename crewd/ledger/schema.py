"""The tables, as a list of steps: version n of the schema is what the first n steps make."""

from collections.abc import Callable, Sequence

import apsw

from crewd.ledger import cells, history_rows
from crewd.model.look import DeadLetter

PAGE_SIZE = 4096
Migration = Callable[[apsw.Connection], None]


def migrate(connection: apsw.Connection, migrations: Sequence[Migration]) -> None:
    """Carry out the steps that the file has not seen yet, each in a transaction of its own."""
    for version in range(version_of(connection), len(migrations)):
        with connection:
            migrations[version](connection)
            connection.pragma("user_version", version + 1)


def version_of(connection: apsw.Connection) -> int:
    """Version of the schema in the file; 0 where crewd never wrote it."""
    return int(connection.pragma("user_version"))


def blank(migrations: Sequence[Migration]) -> bytes:
    """Make the whole content of a new ledger in memory, so that it appears on disk complete or not at all."""
    connection = apsw.Connection(":memory:")
    try:
        connection.pragma("page_size", PAGE_SIZE)
        connection.pragma("auto_vacuum", "INCREMENTAL")  # can be chosen only before the first table
        migrate(connection, migrations)
        return connection.serialize("main")
    finally:
        connection.close()


def differences(connection: apsw.Connection, migrations: Sequence[Migration]) -> str:
    """Name the first table or index that is not as the steps make it; "" where all are."""
    expected = apsw.Connection(":memory:")
    try:
        migrate(expected, migrations)
        wanted, found = _definitions(expected), _definitions(connection)
    finally:
        expected.close()
    return next((name for name in sorted(wanted | found) if wanted.get(name) != found.get(name)), "")


def history_tables(connection: apsw.Connection) -> None:
    """Make the tables of history, empty."""
    connection.execute(_VERSION_4)


def _definitions(connection: apsw.Connection) -> dict[str, str | None]:
    # Tables whose names begin with sqlite_ are SQLite's own (sqlite_stat1 appears after an ANALYZE).
    rows = connection.execute(
        "SELECT type || ' ' || name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
    )
    return {str(name): None if sql is None else str(sql) for name, sql in rows}


def _first_tables(connection: apsw.Connection) -> None:
    connection.execute(_VERSION_1)


def _managed_tables(connection: apsw.Connection) -> None:
    connection.execute(_VERSION_2)
    # A row that is not what was written must not become sound by being copied: then nothing is brought forward.
    read = cells.body_reader(DeadLetter)
    for row in connection.execute("SELECT * FROM letters_1 ORDER BY rowid"):
        read(row)
        key, run_id, crew, at, body, _ = row
        copy = cells.checked(key, run_id, crew, at, "open", body)
        connection.execute("INSERT INTO letters VALUES (?,?,?,?,?,?,?)", copy)
    connection.execute("DROP TABLE letters_1")


def _recovery_tables(connection: apsw.Connection) -> None:
    connection.execute(_VERSION_3)


def _history_tables(connection: apsw.Connection) -> None:
    history_tables(connection)
    history_rows.refold(connection, history_rows.sound_events(connection))


# `check` is the CRC-32 of the row's own content (cells.py): SQLite guards the structure of its file, not its content.
# `body` is the value as JSON; the columns beside it are those that queries select by.
_VERSION_1 = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL, "check" INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE cursors (name TEXT PRIMARY KEY, value TEXT NOT NULL, "check" INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE events (
    seq INTEGER PRIMARY KEY, at REAL NOT NULL, type TEXT NOT NULL, run_id TEXT NOT NULL, task_id TEXT NOT NULL,
    attempt INTEGER NOT NULL, runtime TEXT NOT NULL, crew TEXT NOT NULL, actor TEXT NOT NULL, data TEXT NOT NULL,
    "check" INTEGER NOT NULL
) STRICT;
CREATE INDEX events_by_run ON events (run_id);
CREATE INDEX events_by_type ON events (type);
CREATE TABLE runs (
    run_id TEXT PRIMARY KEY, runtime TEXT NOT NULL, crew TEXT NOT NULL, status TEXT NOT NULL, folder TEXT NOT NULL,
    updated REAL NOT NULL, vanished INTEGER NOT NULL, body TEXT NOT NULL, "check" INTEGER NOT NULL
) STRICT;
CREATE INDEX runs_by_status ON runs (status);
CREATE INDEX runs_vanished ON runs (updated) WHERE vanished = 1;
CREATE TABLE standings (
    run_id TEXT NOT NULL, task_id TEXT NOT NULL, level TEXT NOT NULL, body TEXT NOT NULL, "check" INTEGER NOT NULL,
    PRIMARY KEY (run_id, task_id)
) STRICT;
CREATE TABLE verdicts (
    run_id TEXT NOT NULL, task_id TEXT NOT NULL, attempt INTEGER NOT NULL, outcome TEXT NOT NULL,
    opened_at REAL NOT NULL, settled_at REAL, body TEXT NOT NULL, "check" INTEGER NOT NULL,
    PRIMARY KEY (run_id, task_id, attempt)
) STRICT;
CREATE INDEX verdicts_by_outcome ON verdicts (outcome, opened_at);
CREATE TABLE incidents (
    subject TEXT NOT NULL, cause TEXT NOT NULL, opened_at REAL NOT NULL, resolved_at REAL, body TEXT NOT NULL,
    "check" INTEGER NOT NULL, PRIMARY KEY (subject, cause, opened_at)
) STRICT;
CREATE INDEX incidents_by_resolved_at ON incidents (resolved_at);
CREATE TABLE letters (
    key TEXT PRIMARY KEY, run_id TEXT NOT NULL, crew TEXT NOT NULL, at REAL, body TEXT NOT NULL,
    "check" INTEGER NOT NULL
) STRICT;
"""

# At most one attempt of a task is at work: a task has one row, and a row one state. `work` is what is handed out
# (work.py); its rowid says which of two items is the older. A log's positions are given without gaps.
_VERSION_2 = """
CREATE TABLE managed_runs (
    run_id TEXT PRIMARY KEY, key TEXT NOT NULL, crew TEXT NOT NULL, status TEXT NOT NULL, submitted_at REAL NOT NULL,
    ended_at REAL, body TEXT NOT NULL, "check" INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX managed_runs_by_key ON managed_runs (key) WHERE key <> '';
CREATE INDEX managed_runs_by_submitted_at ON managed_runs (submitted_at);
CREATE INDEX managed_runs_by_ended_at ON managed_runs (ended_at);
CREATE TABLE managed_tasks (
    run_id TEXT NOT NULL, task_id TEXT NOT NULL, state TEXT NOT NULL, attempt INTEGER NOT NULL,
    fence INTEGER NOT NULL, body TEXT NOT NULL, "check" INTEGER NOT NULL, PRIMARY KEY (run_id, task_id)
) STRICT;
CREATE INDEX managed_tasks_by_state ON managed_tasks (state);
CREATE TABLE circuits (
    name TEXT PRIMARY KEY, state TEXT NOT NULL, body TEXT NOT NULL, "check" INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE pauses (scope TEXT PRIMARY KEY, body TEXT NOT NULL, "check" INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE work (
    key TEXT PRIMARY KEY, queue TEXT NOT NULL, priority INTEGER NOT NULL, due_at REAL NOT NULL, state TEXT NOT NULL,
    fence INTEGER NOT NULL, lease_until REAL, reason TEXT NOT NULL, result TEXT, body TEXT NOT NULL,
    "check" INTEGER NOT NULL
) STRICT;
CREATE INDEX work_open ON work (state, priority DESC) WHERE state <> 'done';
CREATE TABLE logs (
    log TEXT NOT NULL, position INTEGER NOT NULL, id TEXT NOT NULL, data TEXT NOT NULL, "check" INTEGER NOT NULL,
    PRIMARY KEY (log, position)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX logs_by_id ON logs (log, id);
ALTER TABLE letters RENAME TO letters_1;
CREATE TABLE letters (
    key TEXT PRIMARY KEY, run_id TEXT NOT NULL, crew TEXT NOT NULL, at REAL, state TEXT NOT NULL, body TEXT NOT NULL,
    "check" INTEGER NOT NULL
) STRICT;
CREATE INDEX letters_by_state ON letters (state);
CREATE INDEX letters_by_run ON letters (run_id);
"""

_VERSION_3 = """
CREATE TABLE recoveries (
    plan_id TEXT PRIMARY KEY, run_id TEXT NOT NULL, state TEXT NOT NULL, created_at REAL NOT NULL,
    body TEXT NOT NULL, "check" INTEGER NOT NULL
) STRICT;
CREATE INDEX recoveries_by_created_at ON recoveries (created_at);
"""

# History (policy/history.py). What pages are turned by is the order in which events first told of a row: the rowid.
_VERSION_4 = """
CREATE TABLE attempts (
    first_seq INTEGER PRIMARY KEY, run_id TEXT NOT NULL, task_id TEXT NOT NULL, attempt INTEGER NOT NULL,
    runtime TEXT NOT NULL, crew TEXT NOT NULL, task_type TEXT NOT NULL, executor TEXT NOT NULL, model TEXT NOT NULL,
    outcome TEXT NOT NULL, error_class TEXT NOT NULL, started_at REAL, ended_at REAL, queue_seconds REAL,
    duration_seconds REAL, input INTEGER, output INTEGER, cache_read INTEGER, cache_write INTEGER, cost_usd REAL,
    body TEXT NOT NULL, "check" INTEGER NOT NULL, UNIQUE (run_id, task_id, attempt)
) STRICT;
CREATE INDEX attempts_by_ended_at ON attempts (ended_at);
CREATE INDEX attempts_by_outcome ON attempts (outcome);
CREATE INDEX attempts_by_executor ON attempts (executor, outcome);
CREATE TABLE outcomes (
    first_seq INTEGER PRIMARY KEY, run_id TEXT NOT NULL, task_id TEXT NOT NULL, attempts INTEGER NOT NULL,
    runtime TEXT NOT NULL, crew TEXT NOT NULL, task_type TEXT NOT NULL, executor TEXT NOT NULL, model TEXT NOT NULL,
    outcome TEXT NOT NULL, error_class TEXT NOT NULL, started_at REAL, ended_at REAL, queue_seconds REAL,
    duration_seconds REAL, input INTEGER, output INTEGER, cache_read INTEGER, cache_write INTEGER, cost_usd REAL,
    body TEXT NOT NULL, "check" INTEGER NOT NULL, UNIQUE (run_id, task_id)
) STRICT;
CREATE INDEX outcomes_by_ended_at ON outcomes (ended_at);
CREATE INDEX outcomes_by_outcome ON outcomes (outcome);
CREATE INDEX outcomes_by_executor ON outcomes (executor, outcome);
CREATE TABLE run_history (
    first_seq INTEGER PRIMARY KEY, run_id TEXT NOT NULL UNIQUE, last_seq INTEGER NOT NULL, runtime TEXT NOT NULL,
    crew TEXT NOT NULL, status TEXT NOT NULL, created_at REAL, ended_at REAL, vanished INTEGER NOT NULL,
    body TEXT NOT NULL, "check" INTEGER NOT NULL
) STRICT;
CREATE INDEX run_history_by_ended_at ON run_history (ended_at);
CREATE INDEX run_history_by_status ON run_history (status);
"""

MIGRATIONS: tuple[Migration, ...] = (_first_tables, _managed_tables, _recovery_tables, _history_tables)
