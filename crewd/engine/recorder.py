"""The recorder: makes a round's tidings durable in one piece, and keeps them while the ledger cannot write."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from crewd.engine.tidings import Tidings
from crewd.ledger.batch import Batch
from crewd.ledger.errors import BatchRefused, LedgerFailed
from crewd.model.event import Event


class Commits(Protocol):
    """Where state and events become durable together."""

    async def commit(self, batch: Batch) -> tuple[Event, ...]: ...


@dataclass(slots=True, eq=False)
class Recorder:
    """One round after the other into the ledger. Nothing is told before it is durable."""

    ledger: Commits
    complain: Callable[[str], None]
    pending_events_max: int
    tidings: Tidings = field(default_factory=Tidings)
    failed: str = ""  # why the ledger cannot write just now
    refused: int = 0  # pieces that could not be written at all, ever
    others_failed: Callable[[], str] = str  # why the latest write failed, whoever asked for it; "": it did not

    async def commit(self, at: float) -> tuple[Event, ...]:
        """Commit everything gathered. What cannot be written waits, bounded, and is acknowledged to nobody."""
        tidings = self.tidings
        if tidings.empty():
            # Such as a run that could not be accepted: in a quiet crewd nobody else would tell.
            if why := self.others_failed():
                self._degrade(why, at)
            return ()
        marker = Event("daemon.recovered", at, {"part": "ledger", "events_dropped": tidings.dropped})
        try:
            events = await self._written(tidings, (marker,) if self.failed else ())
        except LedgerFailed as error:
            self._degrade(str(error), at)
            tidings.cap(self.pending_events_max)
            return ()
        self.failed = ""
        self.tidings = Tidings()
        return events

    def _degrade(self, why: str, at: float) -> None:
        """Say it once; the event is what the next round tries to write."""
        if not self.failed:
            self.tidings.tell(Event("daemon.degraded", at, {"part": "ledger", "error": why}))
            self.complain(f"ledger: {why}; crewd goes on watching, and records it when it can write again")
        self.failed = why

    async def _written(self, tidings: Tidings, more: tuple[Event, ...]) -> tuple[Event, ...]:
        try:
            return await self.ledger.commit(tidings.batch(more))
        except BatchRefused:
            # Something in it cannot be written at all. It must cost only itself: the rest goes piece by piece.
            return await self._pieces(tidings, more)

    async def _pieces(self, tidings: Tidings, more: tuple[Event, ...]) -> tuple[Event, ...]:
        written: list[Event] = []
        for piece in _split(tidings.batch(more)):
            try:
                written += await self.ledger.commit(piece)
            except BatchRefused as error:
                self.refused += 1
                self.complain(f"ledger: left out: {error}")
        return tuple(written)


def _split(batch: Batch) -> Iterator[Batch]:
    """The parts of a batch, each alone, state before the events that tell it."""
    yield from (Batch(runs=(each,)) for each in batch.runs)
    yield from (Batch(vanished=(each,)) for each in batch.vanished)
    yield from (Batch(gone=(each,)) for each in batch.gone)
    yield from (Batch(standings=(each,)) for each in batch.standings)
    yield from (Batch(verdicts=(each,)) for each in batch.verdicts)
    yield from (Batch(incidents=(each,)) for each in batch.incidents)
    yield from (Batch(letters=(each,)) for each in batch.letters)
    yield from (Batch(letters_settled=(each,)) for each in batch.letters_settled)
    yield from (Batch(recoveries=(each,)) for each in batch.recoveries)
    yield from (Batch(events=(each,)) for each in batch.events)
