"""The writing connection, and its renewal after a failure. Used by one thread at a time."""

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import apsw

from crewd.ledger import cells, history_rows, log, rows
from crewd.ledger.batch import Batch
from crewd.ledger.change import Change, Decided, Outcome, Settled
from crewd.ledger.errors import BatchRefused, KeyTaken, LedgerDamaged, LedgerError, LedgerFailed
from crewd.ledger.opening import (
    DAMAGE,
    FAULTS,
    LAST_SEQ,
    connect,
    last_seq,
    prepare_file,
    told_as_ledger_errors,
    words,
)
from crewd.ledger.options import LedgerOptions
from crewd.ledger.rows import Statement, prepare
from crewd.ledger.schema import PAGE_SIZE
from crewd.model.work import WorkError

T = TypeVar("T")
_NOTHING = Batch()


class Store:
    """One file, one connection that may write to it."""

    def __init__(self, path: Path, options: LedgerOptions) -> None:
        """Open the file, making it first if need be. Raises LedgerDamaged, LedgerTooNew, LedgerFailed."""
        self._path = path
        self._options = options
        self._wal_pages = 0
        self._in_vain: tuple[int, str] | None = None  # pages of the log when readers were waited for in vain; why
        self.history_missed = 0  # events since then that did not get into the history: a row of it is damaged
        self._connection: apsw.Connection | None = None
        # After a failure the former connection stays open, unused, until its successor is: were it the last one,
        # SQLite would read the log anew, and might find the transaction that failed complete in it.
        self._former: apsw.Connection | None = None
        prepare_file(path, options)
        try:
            with told_as_ledger_errors(path):
                self._connection = self._connect()
                self.last_seq = last_seq(self._connection, path)
                self._place = _place(path)
        except BaseException:
            self.close()
            raise

    def write(self, group: Sequence[Batch | Change], now: float) -> list[Outcome]:
        """Make durable what can be written of a group, at the wall time `now`; one outcome for each member.

        A member that is refused leaves nothing behind, and takes no number. Raises LedgerFailed: then no member is
        written, and none is refused either, for what one was refused for may have been another's.
        """

        def work(connection: apsw.Connection) -> tuple[int, list[Outcome], int]:
            seq, outcomes = self.last_seq, list[Outcome]()
            for wish in group:
                outcome, statements = self._weigh(connection, wish, seq, now)
                for sql, bindings in statements:
                    connection.executemany(sql, bindings)
                if isinstance(outcome, Settled):
                    seq += len(outcome.events)
                outcomes.append(outcome)
            told = [event for each in outcomes if isinstance(each, Settled) for event in each.events]
            missed = history_rows.follow(connection, told)
            if any(isinstance(outcome, Settled) and outcome.wrote for outcome in outcomes):
                connection.execute(rows.INSERT_META, rows.meta_row(LAST_SEQ, seq))
            return seq, outcomes, missed

        self.last_seq, outcomes, missed = self.transact(work)
        self.history_missed += missed
        return outcomes

    def transact(self, work: Callable[[apsw.Connection], T]) -> T:
        """Do `work` in one transaction. It is durable once this returns, undone once it raises LedgerFailed."""
        try:
            connection = self._connection or self._renew()
            connection.execute("BEGIN IMMEDIATE")
            result = work(connection)
            connection.execute("COMMIT")
            self._check_place()
        except LedgerFailed:
            self._abandon()
            raise
        except (*FAULTS, *DAMAGE, LedgerError) as error:
            self._abandon()
            raise LedgerFailed(f"{self._path}: {words(error)}") from error
        except BaseException:  # a defect in `work`: what it did must not reach the next transaction
            self._abandon()
            raise
        return result

    def checkpoint(self) -> None:
        """Move the log into the main file when it is long enough. Raises LedgerFailed, and nothing is lost."""
        if self._connection is None or self._wal_pages < self._options.checkpoint_pages:
            return
        # Readers may keep the log from being used again from its start. Only one that has grown far is waited for.
        # Where that was in vain not again at every commit, which would wait each time, but when it has grown further.
        long = log.size(self._path) > self._options.wal_bytes_max
        further = self._options.wal_bytes_max // PAGE_SIZE // 4
        in_vain = self._in_vain if long else None
        waits = long and (in_vain is None or not in_vain[0] <= self._wal_pages < in_vain[0] + further)
        mode = apsw.SQLITE_CHECKPOINT_TRUNCATE if waits else apsw.SQLITE_CHECKPOINT_PASSIVE
        try:
            pages, moved = self._connection.wal_checkpoint("main", mode)
            if in_vain is not None and not waits and moved < pages:
                raise LedgerFailed(in_vain[1])  # as before: they are still there
            self._in_vain = None if waits else in_vain
            self._wal_pages = 0
        except FAULTS as error:
            why = f"{self._path}: cannot be brought up to its log: {words(error)}"
            self._in_vain = (self._wal_pages, why) if waits and isinstance(error, apsw.BusyError) else None
            raise LedgerFailed(why) from error

    def size(self) -> int:
        """Bytes of the main file and its log. Callable from any thread."""
        try:
            return self._path.stat().st_size + log.size(self._path)
        except OSError:
            return 0  # it was moved or deleted: the next commit says so

    def close(self) -> None:
        """Bring the main file up to its log and let go. A second time does nothing."""
        connection, self._connection, self._former = self._connection or self._former, None, None
        if connection is None:
            return
        # What is committed is safe in the log, whether or not it can be tidied away now.
        with contextlib.suppress(*FAULTS):
            connection.wal_checkpoint("main", apsw.SQLITE_CHECKPOINT_TRUNCATE)
        with contextlib.suppress(*FAULTS):
            connection.close()

    def _weigh(
        self, connection: apsw.Connection, wish: Batch | Change, seq: int, now: float
    ) -> tuple[Outcome, list[Statement]]:
        """Find out whether a member can be written, and what that takes. Nothing is written before that is known."""
        try:
            decided = Decided([], wish) if isinstance(wish, Batch) else wish.decide(connection, now)
            prepared = prepare(decided.record or _NOTHING, seq, now)
            _refuse_taken_keys(connection, decided.record or _NOTHING)
        except FAULTS:
            raise  # the disk's: everybody's
        except (cells.Unsound, UnicodeDecodeError) as error:
            return LedgerDamaged(self._path, str(error)), []
        except (LedgerError, WorkError) as refusal:
            return refusal, []
        except cells.REFUSALS as error:
            return BatchRefused(f"cannot be written: {error}"), []
        except Exception as error:  # noqa: BLE001 -- a defect, of which its own caller hears
            return BatchRefused(f"unexpected {type(error).__name__}: {error}"), []
        statements = [*decided.statements, *prepared.statements]
        return Settled(decided.answer, prepared.events, bool(statements)), statements

    def _connect(self) -> apsw.Connection:
        connection = connect(self._path, self._options)
        connection.set_wal_hook(self._note_wal_pages)
        return connection

    def _note_wal_pages(self, connection: apsw.Connection, name: str, pages: int) -> int:
        self._wal_pages = pages
        return apsw.SQLITE_OK

    def _abandon(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if connection.in_transaction:
            with contextlib.suppress(*FAULTS):  # closing it does the same; the first error is the one to tell
                connection.execute("ROLLBACK")
        former, self._former = self._former, connection
        if former is not None:
            with contextlib.suppress(*FAULTS):
                former.close()

    def _renew(self) -> apsw.Connection:
        self._check_place()
        connection = self._connect()
        try:
            found = last_seq(connection, self._path)
            if found != self.last_seq:
                raise LedgerFailed(
                    f"{self._path}: ends at event {found} instead of {self.last_seq}: changed by another hand; "
                    "start crewd again"
                )
        except BaseException:
            connection.close()
            raise
        former, self._former = self._former, None
        if former is not None:
            with contextlib.suppress(*FAULTS):
                former.close()
        self._connection = connection
        return connection

    def _check_place(self) -> None:
        if _place(self._path) != self._place:
            raise LedgerFailed(
                f"{self._path}: was moved, replaced or deleted while crewd had it open; "
                "put it back, or start crewd again"
            )


def _refuse_taken_keys(connection: apsw.Connection, batch: Batch) -> None:
    """Raise KeyTaken where a run of the batch carries the idempotency key of another run."""
    owners: dict[str, str] = {}
    for run in batch.managed:
        if not run.key:
            continue
        row = connection.execute("SELECT * FROM managed_runs WHERE key = ? AND key <> ''", (run.key,)).get
        if row is not None:
            cells.verify("managed run", row[0], row)
            owners.setdefault(run.key, row[0])
        owner = owners.setdefault(run.key, run.plan.run_id)
        if owner != run.plan.run_id:
            raise KeyTaken(owner, run.key)


def _place(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
