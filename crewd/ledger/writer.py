"""The one thread that writes: it takes up whatever waits, makes it durable together, and then answers."""

import asyncio
import queue
import threading
from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar

import apsw
import msgspec

from crewd.host.clock import Clock
from crewd.ledger.batch import Batch, LedgerStats
from crewd.ledger.change import Change, Settled
from crewd.ledger.errors import LedgerError, LedgerFailed
from crewd.ledger.options import LedgerOptions
from crewd.ledger.store import Store

T = TypeVar("T")

# Upper bounds in seconds of the commit durations told in the figures; one more bucket holds the rest.
BOUNDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class _Asked(NamedTuple):
    """A wish of some event loop, and where its answer goes."""

    wish: Batch | Change | Callable[[apsw.Connection], Any]
    loop: asyncio.AbstractEventLoop
    future: "asyncio.Future[Any]"


class Writer:
    """Serves wishes in their order, on a thread that never keeps the process alive."""

    def __init__(self, store: Store, clock: Clock, options: LedgerOptions, on_end: Callable[[], None]) -> None:
        self._store = store
        self._clock = clock
        self._options = options
        self._on_end = on_end
        self._waiting: queue.SimpleQueue[_Asked | None] = queue.SimpleQueue()
        self._ahead: list[_Asked | None] = []  # taken from the queue, and not of the present group
        self._closed = False
        self._gate = threading.Lock()  # nothing is put in behind the end
        self._counts = [0] * (len(BOUNDS) + 1)
        self.figures = LedgerStats()  # replaced whole by the thread, so that any thread may read it
        self._thread = threading.Thread(target=self._serve, name="ledger writer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    async def ask(self, wish: Batch | Change | Callable[[apsw.Connection], Any]) -> Any:
        """Have a batch or a change written, or a function carried out in a transaction of its own.

        The answer comes when it is durable: of a batch or change Settled, of a function what it returned.
        """
        loop = asyncio.get_running_loop()
        asked = _Asked(wish, loop, loop.create_future())
        with self._gate:
            if self._closed:
                raise LedgerFailed("the ledger is closed")
            self._waiting.put(asked)
        return await asked.future

    async def close(self) -> None:
        """Write what waits, and end. Raises LedgerFailed where the disk does not let it end in time."""
        with self._gate:
            if not self._closed:
                self._closed = True
                self._waiting.put(None)
        # In real time, whatever the loop's clock says: the thread waits for a disk.
        await asyncio.to_thread(self._thread.join, self._options.close_seconds)
        if self._thread.is_alive():
            raise LedgerFailed(f"the ledger's writer did not end within {self._options.close_seconds:g} s: slow disk")

    def _serve(self) -> None:
        try:
            while (asked := self._next()) is not None:
                match asked.wish:
                    case Batch() | Change() as wish:
                        self._commit(self._group(asked, wish))
                    case function:
                        self._carry_out(asked, function)
                self._tidy()
        finally:
            with self._gate:
                self._closed = True
            self._store.close()
            self._on_end()
            # Empty unless a defect ended the loop; then nobody may wait for ever.
            left = [asked for asked in (*self._ahead, *_drained(self._waiting)) if asked is not None]
            _answer([(asked, LedgerFailed("the ledger's writer has ended")) for asked in left])

    def _next(self) -> _Asked | None:
        return self._ahead.pop() if self._ahead else self._waiting.get()

    def _group(self, first: _Asked, wish: Batch | Change) -> list[tuple[_Asked, Batch | Change]]:
        """Take up every batch and change that waits, up to the bound of one transaction."""
        group = [(first, wish)]
        size = _size(wish)
        while size < self._options.group_rows_max:
            try:
                asked = self._waiting.get_nowait()
            except queue.Empty:
                break
            if asked is None or not isinstance(asked.wish, Batch | Change):
                self._ahead.append(asked)
                break
            group.append((asked, asked.wish))
            size += _size(asked.wish)
        return group

    def _commit(self, group: list[tuple[_Asked, Batch | Change]]) -> None:
        began = self._clock.read()
        everybody = [asked for asked, _ in group]
        outcomes, failure = self._attempt(lambda: self._store.write([wish for _, wish in group], began.wall))
        if outcomes is None:
            # One exception each: who catches it adds to its traceback.
            _answer([(asked, LedgerFailed(failure)) for asked in everybody])
            return
        written = [outcome for outcome in outcomes if isinstance(outcome, Settled) and outcome.wrote]
        if written:
            self._note_success(len(written), sum(len(each.events) for each in written), began.mono)
        _answer(list(zip(everybody, outcomes, strict=True)))

    def _carry_out(self, asked: _Asked, function: Callable[[apsw.Connection], Any]) -> None:
        began = self._clock.read()
        results, failure = self._attempt(lambda: [self._store.transact(function)])
        if results is not None:
            self._note_success(0, 0, began.mono)
        _answer([(asked, LedgerFailed(failure) if results is None else results[0])])

    def _attempt(self, write: Callable[[], T]) -> tuple[T | None, str]:
        """Returns what was written, or None and why it was not."""
        try:
            return write(), ""
        except LedgerError as error:
            failure = str(error)
        except Exception as error:  # noqa: BLE001 -- a defect; told to all who wait, who would else wait for ever
            failure = f"unexpected {type(error).__name__}: {error}"
        self.figures = msgspec.structs.replace(self.figures, failed=failure, failures=self.figures.failures + 1)
        return None, failure

    def _note_success(self, batches: int, events: int, began: float) -> None:
        duration = max(0.0, self._clock.read().mono - began)
        self._counts[bisect_left(BOUNDS, duration)] += 1
        figures = self.figures
        self.figures = msgspec.structs.replace(
            figures,
            commits=figures.commits + 1,
            batches=figures.batches + batches,
            events=figures.events + events,
            duration_buckets=_cumulative(self._counts),
            duration_sum=figures.duration_sum + duration,
            failed="",
        )

    def _tidy(self) -> None:
        try:
            self._store.checkpoint()
            failure = ""
        except LedgerError as error:
            failure = str(error)
        if failure != self.figures.checkpoint_failed:
            self.figures = msgspec.structs.replace(self.figures, checkpoint_failed=failure)


def _drained(waiting: "queue.SimpleQueue[_Asked | None]") -> Iterator[_Asked | None]:
    with suppress(queue.Empty):
        while True:
            yield waiting.get_nowait()


def _size(wish: Batch | Change) -> int:
    if isinstance(wish, Change):
        return 1 + wish.rows
    return 1 + len(wish.events) + len(wish.runs) + len(wish.standings) + len(wish.managed) + len(wish.tasks)


def _cumulative(counts: list[int]) -> tuple[tuple[float, int], ...]:
    buckets, total = [], 0
    for bound, count in zip((*BOUNDS, float("inf")), counts, strict=True):
        total += count
        buckets.append((bound, total))
    return tuple(buckets)


def _answer(answers: list[tuple[_Asked, Any]]) -> None:
    """Hand the answers over, waking each loop once however many wait in it."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Any], Any]]] = {}
    for asked, answer in answers:
        by_loop.setdefault(asked.loop, []).append((asked.future, answer))
    for loop, settled in by_loop.items():
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(_settle, settled)


def _settle(settled: list[tuple["asyncio.Future[Any]", Any]]) -> None:
    for future, answer in settled:
        if future.done():  # cancelled meanwhile
            continue
        if isinstance(answer, BaseException):
            future.set_exception(answer)
        else:
            future.set_result(answer)
