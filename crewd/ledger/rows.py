"""Values to rows and back. Each row carries a check over its own content, and is never believed without it."""

import math
import zlib
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeVar

import msgspec

from crewd.ledger.batch import Batch, StandingRow
from crewd.ledger.errors import BatchRefused
from crewd.model.event import Event
from crewd.model.look import DeadLetter
from crewd.model.run import Run
from crewd.model.verdict import DeadVerdict, Incident

Row = tuple[Any, ...]
V = TypeVar("V")

# What encoding a value can end in. Nothing of it has to do with the disk.
REFUSALS = (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError)

_encoder = msgspec.json.Encoder()
_INTEGER_MAX = 2**63 - 1  # of SQLite

EVENT_COLUMNS = 'seq, at, type, run_id, task_id, attempt, runtime, crew, actor, data, "check"'
INSERT_EVENT = f"INSERT INTO events ({EVENT_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?)"  # noqa: S608 -- constants only
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
# A letter does not name its crew; its run does, and may be gone when the letter is counted.
INSERT_LETTER = """
    INSERT OR IGNORE INTO letters SELECT ?1, ?2, crew, ?3, ?4, check_of(?1, ?2, crew, ?3, ?4)
    FROM (SELECT coalesce((SELECT crew FROM runs WHERE run_id = ?2), '') AS crew)
"""


class Prepared(NamedTuple):
    """A batch as it will be written: all that can be wrong with its values has been found."""

    events: tuple[Event, ...]  # with their seq
    statements: list[tuple[str, list[Row]]]

    def size(self) -> int:
        return sum(len(rows) for _, rows in self.statements)


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
            (VANISH_RUN, [(now, _text(run_id)) for run_id in batch.vanished]),
            (VANISH_STANDINGS, [(_text(run_id),) for run_id in batch.vanished]),
            (INSERT_STANDING, [_standing_row(row) for row in batch.standings]),
            (DELETE_STANDING, [(_text(run_id), _text(task_id)) for run_id, task_id in batch.gone]),
            (INSERT_VERDICT, [_verdict_row(verdict) for verdict in batch.verdicts]),
            (INSERT_INCIDENT, [_incident_row(incident) for incident in batch.incidents]),
            (INSERT_LETTER, [_letter_row(letter) for letter in batch.letters]),
            (INSERT_CURSOR, [cursor_row(name, value) for name, value in batch.cursors.items()]),
        ]
    except REFUSALS as error:
        raise BatchRefused(f"a batch of {len(batch.events)} events cannot be written: {error}") from error
    return Prepared(events, [(sql, rows) for sql, rows in statements if rows])


def check_of(*content: object) -> int:
    """CRC-32 over a row's content, in the order of its columns."""
    return zlib.crc32(_encoder.encode(content))


def meta_row(name: str, value: int) -> Row:
    return _checked(name, value)


def cursor_row(name: str, value: str) -> Row:
    return _checked(_text(name), _text(value))


def read_event(row: Row) -> Event:
    """Turn a row of EVENT_COLUMNS into the event. Raises Unsound."""
    _verify("event", row[0], row)
    seq, at, kind, run_id, task_id, attempt, runtime, crew, actor, data, _ = row
    return Event(
        kind, at, _parse(dict[str, Any], data, "event", seq), run_id, task_id, attempt, runtime, crew, actor, seq
    )


def read_meta(rows: Iterable[Row]) -> dict[str, int]:
    """Turn the rows of `meta` into a mapping. Raises Unsound."""
    return {row[0]: row[1] for row in rows if _verify("meta", row[0], row)}


def read_cursors(rows: Iterable[Row]) -> dict[str, str]:
    """Turn the rows of `cursors` into a mapping. Raises Unsound."""
    return {row[0]: row[1] for row in rows if _verify("cursor", row[0], row)}


def body_reader(kind: type[V]) -> Callable[[Row], V]:
    """Make the function that turns a row (columns .., body, check) into a value. It raises Unsound."""
    decoder = msgspec.json.Decoder(kind)
    name = kind.__name__

    def read(row: Row) -> V:
        _verify(name, row[0], row)
        try:
            return decoder.decode(row[-2])
        except msgspec.MsgspecError as error:
            raise Unsound(f"the {name} {row[0]!r} cannot be understood: {error}") from error

    return read


class Unsound(Exception):
    """A row is not what was written. Whoever knows the file turns this into LedgerDamaged."""


def _event_row(event: Event) -> Row:
    return _checked(
        event.seq,
        _moment(event.at),
        _text(event.type),
        _text(event.run_id),
        _text(event.task_id),
        _integer(event.attempt),
        _text(event.runtime),
        _text(event.crew),
        _text(event.actor),
        _json(event.data),
    )


def _run_row(run: Run, now: float) -> Row:
    columns = (_text(run.run_id), _text(run.runtime), _text(run.crew), run.status.value, _text(run.folder))
    return _checked(*columns, now, 0, _json(run))


def _standing_row(row: StandingRow) -> Row:
    return _checked(_text(row.run_id), _text(row.task_id), row.standing.level.value, _json(row))


def _verdict_row(verdict: DeadVerdict) -> Row:
    key = (_text(verdict.run_id), _text(verdict.task_id), _integer(verdict.attempt))
    return _checked(
        *key, verdict.outcome.value, _moment(verdict.opened_at), _moment_or_none(verdict.settled_at), _json(verdict)
    )


def _incident_row(incident: Incident) -> Row:
    key = (_text(incident.subject), _text(incident.cause), _moment(incident.opened_at))
    return _checked(*key, _moment_or_none(incident.resolved_at), _json(incident))


def _letter_row(letter: DeadLetter) -> Row:
    return _text(letter.key), _text(letter.run_id), _moment_or_none(letter.at), _json(letter)


def _checked(*columns: object) -> Row:
    return *columns, check_of(*columns)


def _json(value: object) -> str:
    try:
        return _encoder.encode(value).decode()
    except UnicodeEncodeError:
        return _encoder.encode(_legible(msgspec.to_builtins(value))).decode()


def _legible(value: Any) -> Any:
    """Spell out what is no Unicode: a folder's name may hold any bytes, and a ledger only text."""
    match value:
        case str():
            return _text(value)
        case dict():
            return {_legible(key): _legible(each) for key, each in value.items()}
        case list() | tuple():
            return [_legible(each) for each in value]
    return value


def _text(value: str) -> str:
    if value.isascii():
        return value
    return value.encode("utf-8", "backslashreplace").decode()


def _integer(value: int) -> int:
    if not -_INTEGER_MAX <= value <= _INTEGER_MAX:
        raise ValueError(f"{value} is too large a number for a column")
    return value


def _moment(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError(f"{value} is no time")
    return value + 0.0  # SQLite keeps no sign of zero, and the check would tell the two apart


def _moment_or_none(value: float | None) -> float | None:
    return None if value is None else _moment(value)


def _verify(name: str, key: object, row: Row) -> bool:
    if check_of(*row[:-1]) != row[-1]:
        raise Unsound(f"the {name} {key!r} is not what was written")
    return True


def _parse(kind: type[V], text: str, name: str, key: object) -> V:
    try:
        return msgspec.json.decode(text, type=kind)
    except msgspec.MsgspecError as error:
        raise Unsound(f"the {name} {key!r} cannot be understood: {error}") from error
