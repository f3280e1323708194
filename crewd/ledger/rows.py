"""Values to rows and back. Each row carries a check over its own content, and is never believed without it."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from crewd.ledger import cells
from crewd.ledger.batch import Batch, StandingRow
from crewd.ledger.cells import Row, checked, integer, moment, moment_or_none, text
from crewd.ledger.errors import BatchRefused
from crewd.model.event import Event
from crewd.model.look import DeadLetter
from crewd.model.managed import CircuitState, ManagedRun, ManagedTask, Pause, name_of
from crewd.model.recovery import RecoveryPlan
from crewd.model.run import Run
from crewd.model.verdict import DeadVerdict, Incident

Statement = tuple[str, list[Row]]

EVENT_COLUMNS = 'seq, at, type, run_id, task_id, attempt, runtime, crew, actor, data, "check"'
INSERT_EVENT = f"INSERT INTO events ({EVENT_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?)"
VANISHED = 6  # column of `runs`
INSERT_META = "INSERT OR REPLACE INTO meta VALUES (?,?,?)"
INSERT_CURSOR = "INSERT OR REPLACE INTO cursors VALUES (?,?,?)"
# Not OR REPLACE, which would delete the row and insert it again in every index.
INSERT_RUN = (
    "INSERT INTO runs VALUES (?,?,?,?,?,?,?,?,?) ON CONFLICT (run_id) DO UPDATE SET runtime = excluded.runtime, "
    "crew = excluded.crew, status = excluded.status, folder = excluded.folder, updated = excluded.updated, "
    'vanished = excluded.vanished, body = excluded.body, "check" = excluded."check"'
)
# A row that is damaged already is left alone: a new check would hide the damage.
VANISH_RUN = """
    UPDATE runs SET vanished = 1, updated = ?1,
        "check" = check_of(run_id, runtime, crew, status, folder, ?1, 1, body)
    WHERE run_id = ?2 AND "check" = check_of(run_id, runtime, crew, status, folder, updated, vanished, body)
"""
VANISH_STANDINGS = "DELETE FROM standings WHERE run_id = ?"
INSERT_STANDING = "INSERT OR REPLACE INTO standings VALUES (?,?,?,?,?)"
DELETE_STANDING = "DELETE FROM standings WHERE run_id = ? AND task_id = ?"
INSERT_VERDICT = "INSERT OR REPLACE INTO verdicts VALUES (?,?,?,?,?,?,?,?)"
INSERT_INCIDENT = "INSERT OR REPLACE INTO incidents VALUES (?,?,?,?,?,?)"
# A letter that does not name its crew is its run's, which may be gone when the letter is counted.
INSERT_LETTER = """
    INSERT OR IGNORE INTO letters SELECT ?1, ?2, crew, ?4, ?5, ?6, check_of(?1, ?2, crew, ?4, ?5, ?6)
    FROM (SELECT coalesce(
        nullif(?3, ''),
        (SELECT crew FROM runs WHERE run_id = ?2), (SELECT crew FROM managed_runs WHERE run_id = ?2), ''
    ) AS crew)
"""
# What was known of its crew stays known, if the row that says so is sound.
SETTLE_LETTER = """
    INSERT INTO letters SELECT ?1, ?2, crew, ?4, ?5, ?6, check_of(?1, ?2, crew, ?4, ?5, ?6)
    FROM (SELECT coalesce(
        nullif(?3, ''),
        (SELECT crew FROM letters WHERE key = ?1 AND "check" = check_of(key, run_id, crew, at, state, body)),
        (SELECT crew FROM runs WHERE run_id = ?2), (SELECT crew FROM managed_runs WHERE run_id = ?2), ''
    ) AS crew) WHERE TRUE
    ON CONFLICT (key) DO UPDATE SET run_id = excluded.run_id, crew = excluded.crew, at = excluded.at,
        state = excluded.state, body = excluded.body, "check" = excluded."check"
"""
INSERT_MANAGED_RUN = (
    "INSERT INTO managed_runs VALUES (?,?,?,?,?,?,?,?) ON CONFLICT (run_id) DO UPDATE SET key = excluded.key, "
    "crew = excluded.crew, status = excluded.status, submitted_at = excluded.submitted_at, "
    'ended_at = excluded.ended_at, body = excluded.body, "check" = excluded."check"'
)
INSERT_MANAGED_TASK = (
    "INSERT INTO managed_tasks VALUES (?,?,?,?,?,?,?) ON CONFLICT (run_id, task_id) DO UPDATE SET "
    "state = excluded.state, attempt = excluded.attempt, fence = excluded.fence, body = excluded.body, "
    '"check" = excluded."check"'
)
INSERT_CIRCUIT = "INSERT OR REPLACE INTO circuits VALUES (?,?,?,?)"
INSERT_PAUSE = "INSERT OR REPLACE INTO pauses VALUES (?,?,?)"
DELETE_PAUSE = "DELETE FROM pauses WHERE scope = ?"
INSERT_RECOVERY = (
    "INSERT INTO recoveries VALUES (?,?,?,?,?,?) ON CONFLICT (plan_id) DO UPDATE SET run_id = excluded.run_id, "
    "state = excluded.state, created_at = excluded.created_at, body = excluded.body, "
    '"check" = excluded."check"'
)


class Prepared(NamedTuple):
    """A batch as it will be written: all that can be wrong with its values has been found."""

    events: tuple[Event, ...]  # with their seq
    statements: list[Statement]


def prepare(batch: Batch, last_seq: int, now: float) -> Prepared:
    """Number the events after `last_seq` and lay everything out as rows. `now` is wall time.

    Raises BatchRefused where a value cannot be written.
    """
    try:
        events = tuple(
            msgspec.structs.replace(event, seq=seq) for seq, event in enumerate(batch.events, start=last_seq + 1)
        )
        statements = [
            (INSERT_EVENT, [_event_row(event) for event in events]),
            (INSERT_RUN, [_run_row(run, now) for run in batch.runs]),
            (VANISH_RUN, [(now, text(run_id)) for run_id in batch.vanished]),
            (VANISH_STANDINGS, [(text(run_id),) for run_id in batch.vanished]),
            (INSERT_STANDING, [_standing_row(row) for row in batch.standings]),
            (DELETE_STANDING, [(text(run_id), text(task_id)) for run_id, task_id in batch.gone]),
            (INSERT_VERDICT, [_verdict_row(verdict) for verdict in batch.verdicts]),
            (INSERT_INCIDENT, [_incident_row(incident) for incident in batch.incidents]),
            (INSERT_MANAGED_RUN, [_managed_run_row(run) for run in batch.managed]),
            (INSERT_MANAGED_TASK, [_managed_task_row(task) for task in batch.tasks]),
            (INSERT_LETTER, [_letter_row(letter) for letter in batch.letters]),
            (SETTLE_LETTER, [_letter_row(letter) for letter in batch.letters_settled]),
            (INSERT_CIRCUIT, [_circuit_row(circuit) for circuit in batch.circuits]),
            (INSERT_PAUSE, [_pause_row(pause) for pause in batch.pauses]),
            (DELETE_PAUSE, [(text(scope),) for scope in batch.resumed]),
            (INSERT_RECOVERY, [_recovery_row(plan) for plan in batch.recoveries]),
            (INSERT_CURSOR, [cursor_row(name, value) for name, value in batch.cursors.items()]),
        ]
    except cells.REFUSALS as error:
        raise BatchRefused(f"a batch of {len(batch.events)} events cannot be written: {error}") from error
    return Prepared(events, [(sql, rows) for sql, rows in statements if rows])


def meta_row(name: str, value: int) -> Row:
    return checked(name, value)


def cursor_row(name: str, value: str) -> Row:
    return checked(text(name), text(value))


def read_event(row: Row) -> Event:
    """Turn a row of EVENT_COLUMNS into the event. Raises Unsound."""
    cells.verify("event", row[0], row)
    seq, at, kind, run_id, task_id, attempt, runtime, crew, actor, data, _ = row
    return Event(
        kind, at, cells.parse(dict[str, Any], data, "event", seq), run_id, task_id, attempt, runtime, crew, actor, seq
    )


def read_meta(rows: Iterable[Row]) -> dict[str, int]:
    """Turn the rows of `meta` into a mapping. Raises Unsound."""
    return {row[0]: row[1] for row in rows if cells.verify("meta", row[0], row)}


def read_cursors(rows: Iterable[Row]) -> dict[str, str]:
    """Turn the rows of `cursors` into a mapping. Raises Unsound."""
    return {row[0]: row[1] for row in rows if cells.verify("cursor", row[0], row)}


def _event_row(event: Event) -> Row:
    return checked(
        event.seq,
        moment(event.at),
        text(event.type),
        text(event.run_id),
        text(event.task_id),
        integer(event.attempt),
        text(event.runtime),
        text(event.crew),
        text(event.actor),
        cells.json(event.data),
    )


def _run_row(run: Run, now: float) -> Row:
    columns = (text(run.run_id), text(run.runtime), text(run.crew), run.status.value, text(run.folder))
    return checked(*columns, now, 0, cells.json(run))


def _standing_row(row: StandingRow) -> Row:
    return checked(text(row.run_id), text(row.task_id), row.standing.level.value, cells.json(row))


def _verdict_row(verdict: DeadVerdict) -> Row:
    key = (text(verdict.run_id), text(verdict.task_id), integer(verdict.attempt))
    times = (moment(verdict.opened_at), moment_or_none(verdict.settled_at))
    return checked(*key, verdict.outcome.value, *times, cells.json(verdict))


def _incident_row(incident: Incident) -> Row:
    key = (text(incident.subject), text(incident.cause), moment(incident.opened_at))
    return checked(*key, moment_or_none(incident.resolved_at), cells.json(incident))


def _letter_row(letter: DeadLetter) -> Row:
    """The check follows in SQL: it covers the crew, which may have to be looked up."""
    names = (text(letter.key), text(letter.run_id), text(letter.crew))
    return *names, moment_or_none(letter.at), text(letter.state), cells.json(letter)


def _managed_run_row(run: ManagedRun) -> Row:
    # Exact: a command that was spelled out differently would be another command.
    names = (cells.exact_text(run.plan.run_id), cells.exact_text(run.key), cells.exact_text(run.plan.crew))
    times = (moment(run.submitted_at), moment_or_none(run.ended_at))
    return checked(*names, run.status.value, *times, cells.exact_json(run))


def _managed_task_row(task: ManagedTask) -> Row:
    key = (cells.exact_text(task.run_id), cells.exact_text(task.task_id))
    return checked(*key, name_of(task.state), integer(task.attempt), integer(task.fence), cells.json(task))


def _circuit_row(circuit: CircuitState) -> Row:
    return checked(text(circuit.name), text(circuit.state), cells.json(circuit))


def _pause_row(pause: Pause) -> Row:
    return checked(text(pause.scope), cells.json(pause))


def _recovery_row(plan: RecoveryPlan) -> Row:
    key = (text(plan.plan_id), text(plan.run_id), plan.state.value)
    return checked(*key, moment(plan.created_at), cells.json(plan))
