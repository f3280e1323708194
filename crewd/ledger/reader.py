"""The ledger as everyone else sees it: read-only, beside a running daemon or without one."""

import heapq
import threading
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote

import apsw

from crewd.ledger import cells, history, log, pruning, rows, schema, summary, work_rows
from crewd.ledger.batch import Memory, StandingRow
from crewd.ledger.cells import Row
from crewd.ledger.errors import LedgerFailed, LedgerMissing, LedgerTooNew
from crewd.ledger.opening import LAST_SEQ, NAME, PRUNED_TO, read_meta, told_as_ledger_errors
from crewd.ledger.recall import recall
from crewd.model.event import Event
from crewd.model.history import AttemptRow, HistoryPage, HistoryQuery, HistoryStats, RunRow, SummaryGroup, TaskRow
from crewd.model.look import DeadLetter
from crewd.model.managed import CircuitState, ManagedRun, ManagedTask, Pause
from crewd.model.recovery import RecoveryPlan
from crewd.model.run import Run, Usage
from crewd.model.verdict import DeadVerdict, Incident
from crewd.model.work import Item, Lease, LogRecord

V = TypeVar("V")
BUSY_MILLISECONDS = 5000
ALL = -1  # SQLite's word for no limit
USAGE_FIGURES = ("input", "output", "cache_read", "cache_write", "cost_usd")  # of the data of usage.recorded


class Reader:
    """Questions to the ledger. Each sees one consistent state, and holds nothing open once it is answered.

    May be shared by threads; questions are answered one at a time. All raise LedgerDamaged where a row is not what
    was written, and LedgerFailed where it cannot be read.
    """

    def __init__(self, connection: apsw.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path
        self._turn = threading.Lock()

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open the ledger of a state folder. Raises LedgerMissing, LedgerTooNew, LedgerDamaged, LedgerFailed."""
        path = folder / NAME
        if not path.exists():
            raise LedgerMissing(path)
        with told_as_ledger_errors(path):
            connection = _connect(path)
            try:
                version = schema.version_of(connection)
                if version > len(schema.MIGRATIONS):
                    raise LedgerTooNew(path, version, len(schema.MIGRATIONS))
                if version < len(schema.MIGRATIONS):
                    raise LedgerFailed(
                        f"{path}: schema version {version} is older than this crewd's; start `crewd serve` once: it "
                        "brings the file up to date"
                    )
            except BaseException:
                connection.close()
                raise
            return cls(connection, path)

    def events(
        self,
        after: int = 0,
        limit: int = 1000,
        types: Sequence[str] = (),
        run_id: str = "",
        newest_first: bool = False,
        crew: str = "",
        task_id: str = "",
    ) -> list[Event]:
        """Events with a number above `after`; the oldest `limit` of them, or the newest. No type given: all types."""
        order = "DESC" if newest_first else "ASC"
        narrowed = [(name, value) for name, value in (("crew", crew), ("task_id", task_id)) if value]
        # The + keeps SQLite from choosing another index than the one whose order is wanted.
        of_them, named = "".join(f" AND +{name} = ?" for name, _ in narrowed), tuple(value for _, value in narrowed)
        if run_id:
            marks = ",".join("?" * len(types))
            # The + keeps SQLite from choosing the index by type, which would have it sort.
            among = f" AND +type IN ({marks})" if types else ""
            where = f"run_id = ?{among}{of_them}"
            found: Iterable[Row] = self._events(where, (run_id, *types, *named), after, limit, order)
        elif types:
            # One question for each type: SQLite would sort all of them together.
            found = heapq.merge(
                *(
                    self._events(f"type = ?{of_them}", (kind, *named), after, limit, order)
                    for kind in dict.fromkeys(types)
                ),
                key=lambda row: -row[0] if newest_first else row[0],
            )
        else:
            found = self._events(f"TRUE{of_them}", named, after, limit, order)
        with told_as_ledger_errors(self._path):
            return [rows.read_event(row) for row in islice(found, limit)]

    def runs(self, vanished: bool = False) -> list[Run]:
        """All runs as last written, the latest changed first; with `vanished` also those no longer on disk."""
        return self._values(
            Run, "SELECT * FROM runs WHERE vanished <= ? ORDER BY updated DESC, run_id", (int(vanished),)
        )

    def run(self, run_id: str) -> Run | None:
        """One run, also if it vanished; None where no such run was ever seen."""
        return next(iter(self._values(Run, "SELECT * FROM runs WHERE run_id = ?", (run_id,))), None)

    def run_ids(self, prefix: str = "", limit: int = ALL) -> list[str]:
        """Ids of runs, of whatever runtime, that begin with `prefix`; those no longer on disk too. In order."""
        # A range of the index instead of LIKE, which would take "_" for any character.
        found = self._rows(
            "SELECT run_id FROM runs WHERE run_id BETWEEN ?1 AND ?1 || x'f48fbfbf' "
            "UNION SELECT run_id FROM managed_runs WHERE run_id BETWEEN ?1 AND ?1 || x'f48fbfbf' "
            "ORDER BY run_id LIMIT ?2",
            (prefix, limit),
        )
        return [run_id for (run_id,) in found]

    def crews(self) -> list[str]:
        """Names of the crews of all runs, in order."""
        found = self._rows("SELECT crew FROM runs UNION SELECT crew FROM managed_runs ORDER BY crew", ())
        return [crew for (crew,) in found if crew]

    def standings(self, run_id: str = "") -> list[StandingRow]:
        """Where every live worker stands, or those of one run."""
        if run_id:
            return self._values(StandingRow, "SELECT * FROM standings WHERE run_id = ? ORDER BY task_id", (run_id,))
        return self._values(StandingRow, "SELECT * FROM standings ORDER BY run_id, task_id")

    def verdicts(self) -> list[DeadVerdict]:
        """Every `dead` verdict, open or settled, the oldest first."""
        return self._values(DeadVerdict, "SELECT * FROM verdicts ORDER BY opened_at")

    def incidents(self, open_only: bool = False) -> list[Incident]:
        """Incidents, the oldest first."""
        if open_only:
            return self._values(Incident, "SELECT * FROM incidents WHERE resolved_at IS NULL ORDER BY opened_at")
        return self._values(Incident, "SELECT * FROM incidents ORDER BY opened_at")

    def letters(self, state: str | None = None, limit: int = ALL) -> list[DeadLetter]:
        """Dead letters in the order in which crewd met them; of one state (open, redriven, discarded), or of all."""
        if state is None:
            return self._values(DeadLetter, "SELECT * FROM letters ORDER BY rowid LIMIT ?", (limit,))
        return self._values(
            DeadLetter, "SELECT * FROM letters WHERE state = ? ORDER BY rowid LIMIT ?", (state, limit)
        )

    def letter(self, key: str) -> DeadLetter | None:
        """One dead letter; None where there is none of that key."""
        return next(iter(self._values(DeadLetter, "SELECT * FROM letters WHERE key = ?", (key,))), None)

    def recoveries(self, state: str = "", limit: int = 1000) -> list[RecoveryPlan]:
        """Recovery plans, the newest first; of one state, or of all."""
        return self._values(
            RecoveryPlan,
            "SELECT * FROM recoveries WHERE ? IN ('', state) ORDER BY created_at DESC, rowid DESC LIMIT ?",
            (state, limit),
        )

    def recovery(self, plan_id: str) -> RecoveryPlan | None:
        """One recovery plan; None where there is none of that id."""
        return next(iter(self._values(RecoveryPlan, "SELECT * FROM recoveries WHERE plan_id = ?", (plan_id,))), None)

    def managed(self, run_id: str) -> ManagedRun | None:
        """One managed run, also if it ended; None where there is none, or it was pruned."""
        return next(iter(self._values(ManagedRun, "SELECT * FROM managed_runs WHERE run_id = ?", (run_id,))), None)

    def managed_runs(self, limit: int = 1000, ended: bool | None = None, crew: str = "") -> list[ManagedRun]:
        """Managed runs, the newest submitted first; only those that ended, or have not; only those of one crew."""
        where = {None: "TRUE", True: "ended_at IS NOT NULL", False: "ended_at IS NULL"}[ended]
        return self._values(
            ManagedRun,
            f"SELECT * FROM managed_runs WHERE {where} AND ? IN ('', crew) "
            "ORDER BY submitted_at DESC, rowid DESC LIMIT ?",
            (crew, limit),
        )

    def managed_tasks(self, run_id: str) -> list[ManagedTask]:
        """All tasks of a managed run, in the order in which they were first written."""
        return self._values(ManagedTask, "SELECT * FROM managed_tasks WHERE run_id = ? ORDER BY rowid", (run_id,))

    def run_of_key(self, key: str) -> str | None:
        """Id of the managed run that was submitted with this idempotency key."""
        found = self._values(ManagedRun, "SELECT * FROM managed_runs WHERE key = ? AND key <> ''", (key,))
        return found[0].plan.run_id if found else None

    def circuits(self) -> list[CircuitState]:
        """Circuits as last written, by name."""
        return self._values(CircuitState, "SELECT * FROM circuits ORDER BY name")

    def pauses(self) -> list[Pause]:
        """The pauses in force, by scope."""
        return self._values(Pause, "SELECT * FROM pauses ORDER BY scope")

    def ready(self, now: float, limit: int = 1000) -> list[Item]:
        """Items of work that could be pulled at the wall time `now`, best first."""
        return [entry.item() for entry in self._entries(work_rows.SELECT_READY, (now, limit))]

    def leases(self) -> list[Lease]:
        """All leases that are in force, or whose time is over and nobody has offered them again.

        Reads through all items: one that is held is not to be overlooked for damage to an index, or to another row.
        """
        return [entry.lease() for entry in self._entries(work_rows.SELECT_ALL, ()) if entry.state == work_rows.LEASED]

    def result(self, key: str) -> Mapping[str, Any] | None:
        """The recorded outcome of an item of work; None where there is none."""
        return next((entry.outcome() for entry in self._entries(work_rows.FIND, (key,))), None)

    def depth(self, now: float) -> dict[str, int]:
        """How many items of work are ready, delayed, leased, buried and withdrawn."""
        counts = dict.fromkeys(("ready", "delayed", "leased", "buried", "withdrawn"), 0)
        counts |= dict(self._rows(work_rows.COUNT, (now,)))
        counts["ready"] -= counts["delayed"]
        return counts

    def log(self, name: str, after: int = 0, limit: int = 1000) -> list[LogRecord]:
        """The first `limit` records of a log behind the position `after`."""
        found = self._rows(work_rows.SELECT_RECORDS, (name, after, limit))
        with told_as_ledger_errors(self._path):
            return [work_rows.read_record(row) for row in found]

    def attempts(self, query: HistoryQuery) -> HistoryPage[AttemptRow]:
        """Attempts that a query asks for, newest first."""
        with self._turn, told_as_ledger_errors(self._path):
            return history.attempts(self._connection, query)

    def tasks(self, query: HistoryQuery) -> HistoryPage[TaskRow]:
        """Tasks and what became of them, newest first."""
        with self._turn, told_as_ledger_errors(self._path):
            return history.tasks(self._connection, query)

    def past_runs(self, query: HistoryQuery) -> HistoryPage[RunRow]:
        """Runs, at work or ended, also those that were forgotten otherwise; newest first."""
        with self._turn, told_as_ledger_errors(self._path):
            return history.past_runs(self._connection, query)

    def history_stats(self) -> HistoryStats:
        """How much history there is. Looks at every row of it: some seconds for hundreds of thousands."""
        with self._turn, told_as_ledger_errors(self._path):
            return history.stats(self._connection, self._path)

    def history_problems(self) -> list[str]:
        """Make history anew from the events that are there, aside, and say where it is not as it is kept.

        Reads all events. Others of this reader wait meanwhile: open one of its own for it.
        """
        with self._turn, told_as_ledger_errors(self._path):
            return history.problems(self._connection)

    def last_seq(self) -> int:
        """The newest number ever given to an event; 0 before the first."""
        return self._number(LAST_SEQ)

    def pruned_to(self) -> int:
        """The newest number whose event was deleted for its age: resuming below it means a gap. 0: none was."""
        return self._number(PRUNED_TO)

    def usage_between(self, start: float, end: float) -> dict[str, Usage]:
        """Sum up what each crew used by the notes of a time, [start, end) in wall time. Model names are left out."""
        figures = ", ".join(f"SUM(json_extract(data, '$.{name}'))" for name in USAGE_FIGURES)
        found = self._rows(
            f"SELECT crew, {figures} FROM events WHERE type = 'usage.recorded' AND at >= ? AND at < ? GROUP BY crew",
            (start, end),
        )
        return {
            str(crew): Usage(int(input or 0), int(output or 0), int(read or 0), int(write or 0), cost)
            for crew, input, output, read, write, cost in found
        }

    def older_than(self, before: float, limit: int) -> list[int]:
        """Numbers of the first `limit` events from before the wall time `before`. Reads through all events."""
        found = self._rows("SELECT seq FROM events WHERE at < ? ORDER BY seq LIMIT ?", (before, limit))
        return [seq for (seq,) in found]

    def summary(
        self,
        since: float,
        until: float,
        level: str = "attempt",
        group_by: Sequence[str] = (),
        query: HistoryQuery | None = None,
    ) -> list[SummaryGroup]:
        """Figures of all attempts ("attempt") or tasks ("task") that ended in [since, until), wall time, by group.

        First all together, under the key {}; then by the first name to group by, the first two, and so on. The names
        are those of model/history.GROUPS.
        """
        with self._turn, told_as_ledger_errors(self._path):
            return summary.summary(self._connection, since, until, level, group_by, query)

    def would_forget(self, before: float) -> dict[str, int]:
        """Count by kind what `Ledger.prune` would delete. Reads through all events."""
        with self._turn, told_as_ledger_errors(self._path):
            return pruning.would_forget(self._connection, before)

    def recall(self) -> Memory:
        """Read the whole present state."""
        with self._turn, told_as_ledger_errors(self._path):
            return recall(self._connection)

    def close(self) -> None:
        """Let the file go. A second time does nothing."""
        with self._turn:
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _events(self, where: str, bindings: tuple[Any, ...], after: int, limit: int, order: str) -> list[Row]:
        return self._rows(
            f"SELECT {rows.EVENT_COLUMNS} FROM events WHERE {where} AND seq > ? ORDER BY seq {order} LIMIT ?",
            (*bindings, after, limit),
        )

    def _number(self, name: str) -> int:
        with self._turn, told_as_ledger_errors(self._path):
            return read_meta(self._connection).get(name, 0)

    def _values(self, kind: type[V], sql: str, bindings: tuple[Any, ...] = ()) -> list[V]:
        read = cells.body_reader(kind)
        found = self._rows(sql, bindings)
        with told_as_ledger_errors(self._path):
            return [read(row) for row in found]

    def _entries(self, sql: str, bindings: tuple[Any, ...]) -> list[work_rows.Entry]:
        found = self._rows(sql, bindings)
        with told_as_ledger_errors(self._path):
            return [work_rows.Entry.read(row) for row in found]

    def _rows(self, sql: str, bindings: tuple[Any, ...]) -> list[Row]:
        with self._turn, told_as_ledger_errors(self._path):
            return self._connection.execute(sql, bindings).fetchall()


def _connect(path: Path) -> apsw.Connection:
    try:
        return _probed(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY), "")
    except (apsw.CantOpenError, apsw.ReadOnlyError):
        # The log's index (-shm) is missing and cannot be made: a read-only medium, and so without a writer.
        if log.size(path) > 0:
            # Without locks, and therefore with an index in memory.
            unlocked = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY, vfs="unix-none")
            return _probed(unlocked, "PRAGMA locking_mode = EXCLUSIVE")
        # Without a log SQLite would still want to begin one, unless told that nobody can.
        uri = f"file:{quote(str(path.absolute()))}?immutable=1"
        return _probed(apsw.Connection(uri, flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI), "")


def _probed(connection: apsw.Connection, first: str) -> apsw.Connection:
    """Ask the connection something: SQLite opens the file and its log only then."""
    try:
        connection.set_busy_timeout(BUSY_MILLISECONDS)
        if first:
            connection.execute(first).fetchall()
        schema.version_of(connection)
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()
    except BaseException:
        connection.close()
        raise
    return connection
