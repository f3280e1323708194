"""The broadcast: recent events, encoded once for everybody who listens, on top of a ledger that has all of them.

The ledger is the truth. What the daemon tells its listeners only says that there is something new, and spares a
question where nothing is missing between what is known and what was told. So an event that was told late, twice or
not at all is in the stream once and in its place.
"""

import asyncio
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeVar

import structlog

from crewd.ledger.errors import LedgerError
from crewd.model.event import Event, as_record
from crewd.model.moment import rfc3339
from crewd.model.report import RoundReport
from crewd.model.snapshot import Snapshot
from crewd.telemetry.families import STREAM_ENDS
from crewd.telemetry.figures import StreamFigures
from crewd.telemetry.json_text import encode
from crewd.telemetry.readiness import is_ready
from crewd.telemetry.redact import Redactor
from crewd.web.refusal import refusal

T = TypeVar("T")
CHUNK_BYTES = 64 * 1024  # about so much is sent in one go
HEARD_MAX = 4096  # more are not kept until they are looked at: the ledger has them
PIECE = 200  # events in one answer of the ledger
RETRY_SECONDS = 5


class Recorded(Protocol):
    """The ledger, read-only. Called in a worker thread."""

    def events(
        self,
        after: int = 0,
        limit: int = 1000,
        types: Sequence[str] = (),
        run_id: str = "",
        newest_first: bool = False,
        crew: str = "",
        task_id: str = "",
    ) -> list[Event]: ...

    def last_seq(self) -> int: ...

    def pruned_to(self) -> int: ...


@dataclass(frozen=True)
class BroadcastOptions:
    """How much is kept at hand, and for how many."""

    streams_max: int = 32
    events_max: int = 2048  # a listener who is further behind than this, and stuck, is let go
    bytes_max: int = 2 * 1024 * 1024
    pause_seconds: float = 1.0  # before a ledger that failed is asked again


@dataclass(frozen=True)
class Wanted:
    """What one listener wants to hear. Nothing named: everything."""

    types: frozenset[str] = frozenset()
    run_id: str = ""
    crew: str = ""
    task_id: str = ""
    rounds: bool = False  # also the figures of every round

    def matches(self, entry: "Entry") -> bool:
        return (
            (not self.types or entry.type in self.types)
            and (not self.run_id or entry.run_id == self.run_id)
            and (not self.crew or entry.crew == self.crew)
            and (not self.task_id or entry.task_id == self.task_id)
        )


class Entry(NamedTuple):
    """One event, ready to be sent."""

    seq: int
    type: str
    run_id: str
    crew: str
    task_id: str
    text: bytes


class Piece(NamedTuple):
    """An answer of the ledger: what matched, and up to where that is all."""

    entries: list[Entry]
    up_to: int
    pruned_to: int


class Listening:
    """One listener: `wake` is set when there may be something new, or it is over."""

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self.wake = asyncio.Event()
        self.ended = ""  # why it is over; "": it is not
        self._patience: asyncio.Timeout | None = None

    def end(self, reason: str) -> None:
        """Say that it is over, also to one who is just waiting for a slow reader."""
        self.ended = self.ended or reason
        self.wake.set()
        if self._patience is not None:
            self._patience.reschedule(asyncio.get_running_loop().time())

    async def bounded(self, work: Callable[[], Any], seconds: float) -> bool:
        """Await something, at most so long, and no longer than this goes on; False: it was not done in time."""
        try:
            async with asyncio.timeout(0 if self.ended else seconds) as self._patience:
                await work()
        except TimeoutError:
            return False
        finally:
            self._patience = None
        return True


@dataclass(eq=False)
class Broadcast:
    """A listener of the daemon (telemetry/listener.py), and whoever listens to it in turn."""

    history: Recorded
    redactor: Redactor
    options: BroadcastOptions = field(default_factory=BroadcastOptions)
    start: int = -1  # everything after this, up to `tail`, is at hand; -1: nothing is known yet
    tail: int = -1
    round: tuple[int, bytes] = (0, b"")  # the latest, by its number

    def __post_init__(self) -> None:
        self._listening: set[Listening] = set()
        self._ends = Counter(dict.fromkeys(STREAM_ENDS, 0))
        self._figures = StreamFigures(0, dict(self._ends))
        self._heard: list[Event] = []
        self._snapshot: Snapshot | None = None  # of a round that is not yet told
        self._ask = True  # the ledger may have what was not told
        self._woken = asyncio.Event()
        self._reading = asyncio.Lock()  # of those who catch up one reads, so that they do not take all threads
        self._entries: list[Entry] = []
        self._seqs: list[int] = []
        self._bytes = 0
        self._lessons = self.redactor.lessons  # what the redactor knew when the events at hand were encoded
        self._closed = False

    def on_events(self, events: Sequence[Event]) -> None:
        """Take in what was recorded. Without listeners there is nothing to do."""
        if not self._listening:
            return
        if len(self._heard) + len(events) > HEARD_MAX:
            self._heard.clear()
            self._ask = True
        else:
            self._heard.extend(events)
        self._woken.set()

    def on_round(self, report: RoundReport, snapshot: Snapshot) -> None:
        """Look once in a round for what nobody told, and tell its figures to those who want them."""
        if self._listening:
            self._snapshot = snapshot
            self._ask = True
            self._woken.set()

    def figures(self) -> StreamFigures:
        """Return counts, for another thread too."""
        return self._figures

    def join(self, wanted: Wanted) -> Listening:
        """Let one more listen. Raises Refused where there are too many, or crewd is about to end."""
        if self._closed or len(self._listening) >= self.options.streams_max:
            raise refusal(
                503,
                "too_many_streams",
                f"{len(self._listening)} streams are open; there may be {self.options.streams_max}",
                "close one, raise http.streams_max, or ask for JSON",
                retry_after=str(RETRY_SECONDS),
            )
        listening = Listening(wanted)
        self._listening.add(listening)
        self._woken.set()
        self._count()
        return listening

    def leave(self, listening: Listening) -> None:
        """Let one go, and count why. A second time does nothing."""
        if listening in self._listening:
            self._listening.remove(listening)
            self._ends[listening.ended or "gone"] += 1
            self._count()

    def close(self) -> None:
        """End every stream, and begin no more."""
        self._closed = True
        for listening in self._listening:
            listening.end("stopped")

    async def run(self) -> None:
        """Encode what happens, until cancelled. A ledger that cannot be read is asked again.

        A defect ends the streams, which is counted, and whose readers come again; never the daemon.
        """
        failed = ""
        while True:
            await self._woken.wait()
            self._woken.clear()
            try:
                await self._take()
                failed = ""
            except LedgerError as error:
                if str(error) != failed:
                    failed = str(error)
                    structlog.get_logger("crewd.web").warning("stream.ledger_failed", error=failed)
                await self._pause()
            except Exception:  # noqa: BLE001 -- an observer's: it is in the log, and must not end the watch
                structlog.get_logger("crewd.web").exception("stream.defect")
                for listening in self._listening:
                    listening.end("failed")
                self._forget()
                await self._pause()

    async def _pause(self) -> None:
        self._ask = True
        self._woken.set()
        await asyncio.sleep(self.options.pause_seconds)

    def holds(self, after: int) -> bool:
        """Say whether everything after a number is at hand, as far as it is known."""
        if self._lessons != self.redactor.lessons:
            self._unlearn()
        return self.start >= 0 and after >= self.start

    def recent(self, after: int, wanted: Wanted) -> tuple[bytes, int]:
        """Join what is wanted of the events at hand, up to about 64 KiB; also says up to where that is all."""
        texts: list[bytes] = []
        size = 0
        for entry in self._entries[bisect_right(self._seqs, after) :]:
            if size >= CHUNK_BYTES:
                return b"".join(texts), after
            after = entry.seq
            if wanted.matches(entry):
                texts.append(entry.text)
                size += len(entry.text)
        return b"".join(texts), max(after, self.tail)

    async def recorded(self, after: int, wanted: Wanted) -> Piece:
        """Ask the ledger for the next events. Raises LedgerError."""

        def read() -> Piece:
            last = self.history.last_seq()  # before the events: up to it they are all
            types, run_id = sorted(wanted.types), wanted.run_id
            found = self.history.events(after, PIECE, types, run_id, crew=wanted.crew, task_id=wanted.task_id)
            pruned_to = self.history.pruned_to()  # after them: what was deleted meanwhile is a gap, too
            return Piece(self._encoded(found), found[-1].seq if len(found) == PIECE else max(after, last), pruned_to)

        return await self.asked(read)

    async def asked(self, question: Callable[[], T]) -> T:
        """Ask the ledger something in a thread; one question at a time. Raises LedgerError."""
        async with self._reading:
            return await asyncio.to_thread(question)

    def _count(self) -> None:
        self._figures = StreamFigures(len(self._listening), dict(self._ends))

    async def _take(self) -> None:
        """Bring what is at hand up to date, and wake everybody."""
        if not self._listening:
            self._forget()
            return
        heard, self._heard = self._heard, []
        snapshot, self._snapshot = self._snapshot, None
        ask, self._ask = self._ask, False
        if self.start < 0:
            self.start = self.tail = await asyncio.to_thread(self.history.last_seq)
        fresh = sorted((event for event in heard if event.seq > self.tail), key=lambda event: event.seq)
        if not ask and [event.seq for event in fresh] == list(range(self.tail + 1, self.tail + 1 + len(fresh))):
            await self._append(lambda: self._encoded(fresh))
        else:
            await self._read_on()
        if snapshot is not None and any(each.wanted.rounds for each in self._listening):
            self.round = snapshot.health.round_number, await asyncio.to_thread(_round_text, snapshot)
        self._wake()

    async def _read_on(self) -> None:
        def read() -> list[Entry]:
            return self._encoded(self.history.events(self.tail, PIECE))

        more = True
        while more:
            more = await self._append(read) == PIECE
            self._wake()

    async def _append(self, read: Callable[[], list[Entry]]) -> int:
        """Put at hand what is read, in a thread; returns how many."""
        while True:
            lessons = self.redactor.lessons
            entries = await asyncio.to_thread(read)
            if lessons == self.redactor.lessons:
                break  # else they may hold what is now known for a secret
        if self._lessons != lessons:
            self._unlearn()
        if not entries:
            return 0
        self._entries += entries
        self._seqs += [entry.seq for entry in entries]
        self._bytes += sum(len(entry.text) for entry in entries)
        self.tail = entries[-1].seq
        self._trim(self.options)
        return len(entries)

    def _trim(self, options: BroadcastOptions) -> None:
        if len(self._entries) <= options.events_max and self._bytes <= options.bytes_max:
            return
        # A quarter more than needed goes, so that this is rare: the lists move up each time.
        count, left = 0, self._bytes
        while len(self._entries) - count > options.events_max * 3 // 4 or left > options.bytes_max * 3 // 4:
            left -= len(self._entries[count].text)
            count += 1
        self.start, self._bytes = self._seqs[count - 1], left
        del self._entries[:count], self._seqs[:count]

    def _forget(self) -> None:
        """Keep nothing while nobody listens; whoever comes first begins anew."""
        self._unlearn()
        self.start = self.tail = -1
        self._heard.clear()

    def _unlearn(self) -> None:
        """Let go of what is encoded: it may hold what the redactor has learnt since. Who wants it asks the ledger."""
        self._lessons = self.redactor.lessons
        self.start = self.tail
        self._bytes = 0
        self._entries.clear()
        self._seqs.clear()

    def _wake(self) -> None:
        for listening in self._listening:
            listening.wake.set()

    def _encoded(self, events: Sequence[Event]) -> list[Entry]:
        return [self._entry(event) for event in events]

    def _entry(self, event: Event) -> Entry:
        record = encode(self.redactor.value(as_record(event)))
        text = b"id: %d\ndata: %s\n\n" % (event.seq, record)
        return Entry(event.seq, event.type, event.run_id, event.crew, event.task_id, text)


def _round_text(snapshot: Snapshot) -> bytes:
    levels = Counter(worker.standing.level.value for view in snapshot.runs.values() for worker in view.workers)
    told = {
        "round": snapshot.health.round_number,
        "at": rfc3339(snapshot.taken_at),
        "ready": is_ready(snapshot.health),
        "levels": dict(sorted(levels.items())),
        "runs": len(snapshot.runs),
    }
    return b"event: round\ndata: %s\n\n" % encode(told)
