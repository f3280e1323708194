"""The ledger as the daemon holds it: recall once, then commit, each answer only after it is durable."""

import asyncio
import errno
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Self, TypeVar

import apsw
import msgspec

from crewd.host.clock import Clock
from crewd.host.files import AlreadyLocked, FolderLock
from crewd.ledger import pruning, rows
from crewd.ledger.batch import Batch, LedgerStats, Memory
from crewd.ledger.change import Change, Settled
from crewd.ledger.errors import LedgerFailed, LedgerForbidden, LedgerLocked
from crewd.ledger.opening import NAME, make_folder, read_meta
from crewd.ledger.options import LedgerOptions
from crewd.ledger.reader import Reader
from crewd.ledger.store import Store
from crewd.ledger.writer import Writer
from crewd.model.event import Event

T = TypeVar("T")
PROBES = "probes"
PRUNE_ROWS = 1000  # in one transaction, so that commits between them wait some milliseconds


class Ledger:
    """The right to write into one state folder, from `open` to `close`."""

    def __init__(self, path: Path, store: Store, writer: Writer, clock: Clock) -> None:
        self._path = path
        self._store = store
        self._writer = writer
        self._clock = clock
        self._reader: Reader | None = None  # opened by the first question
        self._opening = threading.Lock()
        self._closed = False

    @classmethod
    def open(cls, folder: Path, clock: Clock, options: LedgerOptions | None = None) -> Self:
        """Take the folder and open its ledger, making both on the first start.

        Raises LedgerLocked (nothing was touched), LedgerTooNew, LedgerDamaged, LedgerFailed.
        """
        options = options or LedgerOptions()
        make_folder(folder)
        lock = _lock(folder)
        try:
            store = Store(folder / NAME, options)
        except BaseException:
            lock.close()
            raise
        writer = Writer(store, clock, options, on_end=lock.close)
        writer.start()
        return cls(folder / NAME, store, writer, clock)

    def recall(self) -> Memory:
        """Read the present state, at a start. Raises LedgerDamaged, LedgerFailed."""
        with Reader.open(self._path.parent) as reader:
            return reader.recall()

    async def commit(self, batch: Batch) -> tuple[Event, ...]:
        """Make a batch durable and return its events with their numbers.

        Batches that wait together share one transaction. A batch without content is answered at once. Cancelling
        the wait does not recall the batch. Raises BatchRefused, KeyTaken; LedgerFailed: the state here is as it was
        before, and the same batch may be committed again. That tries a fresh connection; how long to wait is the
        caller's to say.
        """
        if batch == _NOTHING:
            return ()
        settled: Settled = await self._writer.ask(batch)
        return settled.events

    async def carry_out(self, change: Change) -> Settled:
        """Have a change decided and made durable in one transaction; it waits and shares it as batches do.

        Raises what `decide` raised; BatchRefused where its record cannot be written; LedgerFailed.
        """
        settled: Settled = await self._writer.ask(change)
        return settled

    async def read(self, question: Callable[[Reader], T]) -> T:
        """Ask something of what is durable, in a thread; the writer goes on. Answers also while it cannot write.

        Raises LedgerFailed, LedgerDamaged.
        """
        return await asyncio.to_thread(lambda: question(self._reading()))

    def now(self) -> float:
        """Wall time, by the clock that the ledger was opened with."""
        return self._clock.read().wall

    async def retry(self) -> None:
        """Find out whether the ledger can write again, by a durable write of nothing new. Raises LedgerFailed."""
        await self._writer.ask(_probe)

    async def prune(self, before: float, max_rows: int = 100_000, past_before: float | None = None) -> int:
        """Delete up to `max_rows` rows older than the wall time `before`, a few at a time; returns how many.

        Of history (attempts, tasks, runs) what ended before `past_before`; None: nothing of it. It is kept at least
        as long as the events that it is made of.

        Never an open verdict, an open incident, a dead letter, a run that is still on disk, or a managed run that has
        not ended, has an open dead letter or work that somebody holds. With a managed run go its tasks, work and
        logs, and its idempotency key. Raises LedgerFailed.
        """
        old = await asyncio.to_thread(self._old_events, before, max_rows)
        for start in range(0, len(old), PRUNE_ROWS):
            await self._writer.ask(partial(pruning.forget_events, seqs=old[start : start + PRUNE_ROWS]))
        deleted = len(old)
        wanted = [(pruning.forget_settled, before), (pruning.forget_run, before)]
        if past_before is not None:
            wanted.append((pruning.forget_past, min(before, past_before)))
        for forget, earlier_than in wanted:
            while deleted < max_rows:
                rows_max = min(PRUNE_ROWS, max_rows - deleted)
                count: int = await self._writer.ask(partial(forget, before=earlier_than, rows_max=rows_max))
                deleted += count
                if not count:
                    break
        return deleted

    def stats(self) -> LedgerStats:
        """Figures since `open`. Callable from any thread; costs two stat calls."""
        figures = self._writer.figures
        return msgspec.structs.replace(figures, bytes=self._store.size(), history_missed=self._store.history_missed)

    async def close(self) -> None:
        """Write what waits, bring the file up to its log, let the folder go. A second time does nothing.

        Raises LedgerFailed where the disk does not let it end in time; then the folder stays taken.
        """
        try:
            await self._writer.close()
        finally:
            with self._opening:
                self._closed = True
                reader, self._reader = self._reader, None
            if reader is not None:
                await asyncio.to_thread(reader.close)

    def _reading(self) -> Reader:
        with self._opening:
            if self._closed:
                raise LedgerFailed("the ledger is closed")
            if self._reader is None:
                self._reader = Reader.open(self._path.parent)
            return self._reader

    def _old_events(self, before: float, max_rows: int) -> list[int]:
        # Not asked of the writer: it reads through all events, and commits would wait.
        with Reader.open(self._path.parent) as reader:
            return reader.older_than(before, max_rows)


_NOTHING = Batch()


def _lock(folder: Path) -> FolderLock:
    try:
        return FolderLock.acquire(folder)
    except AlreadyLocked as error:
        raise LedgerLocked(folder, error.pid) from error
    except OSError as error:
        kind = LedgerForbidden if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS) else LedgerFailed
        raise kind(f"{folder}: cannot be locked: {error.strerror}; it must be this user's to write") from error


def _probe(connection: apsw.Connection) -> None:
    # SQLite writes no page whose content stays the same, so a number has to change.
    probes = read_meta(connection).get(PROBES, 0) + 1
    connection.execute(rows.INSERT_META, rows.meta_row(PROBES, probes))
