"""Tidings: what one round has to tell, gathered until it is committed in one piece."""

from dataclasses import dataclass, field

from crewd.ledger.batch import Batch, StandingRow
from crewd.model.event import Event
from crewd.model.look import DeadLetter
from crewd.model.recovery import RecoveryPlan
from crewd.model.run import Run
from crewd.model.verdict import DeadVerdict, Incident


@dataclass(slots=True, eq=False)
class Tidings:
    """Events in the order in which they are told, and the state that they lead to."""

    events: list[Event] = field(default_factory=list)
    runs: dict[str, Run] = field(default_factory=dict)
    vanished: list[str] = field(default_factory=list)
    standings: list[StandingRow] = field(default_factory=list)
    gone: list[tuple[str, str]] = field(default_factory=list)
    verdicts: list[DeadVerdict] = field(default_factory=list)
    incidents: list[Incident] = field(default_factory=list)
    letters: list[DeadLetter] = field(default_factory=list)
    letters_settled: list[DeadLetter] = field(default_factory=list)
    recoveries: dict[str, RecoveryPlan] = field(default_factory=dict)  # by plan id: the latest word on each
    dropped: int = 0  # events given up because the ledger could not write for too long

    def tell(self, *events: Event) -> None:
        self.events += events

    def empty(self) -> bool:
        return not (
            self.events or self.runs or self.vanished or self.standings or self.gone or self.verdicts
            or self.incidents or self.letters or self.letters_settled or self.recoveries
        )  # fmt: skip

    def batch(self, more: tuple[Event, ...] = ()) -> Batch:
        """Everything in one piece, with `more` events after the others."""
        return Batch(
            events=(*self.events, *more),
            runs=tuple(self.runs.values()),
            vanished=tuple(self.vanished),
            standings=tuple(self.standings),
            gone=tuple(self.gone),
            verdicts=tuple(self.verdicts),
            incidents=tuple(self.incidents),
            letters=tuple(self.letters),
            letters_settled=tuple(self.letters_settled),
            recoveries=tuple(self.recoveries.values()),
        )

    def cap(self, events_max: int) -> None:
        """Bound what waits while the ledger cannot write: the oldest events are kept, later ones are counted."""
        excess = len(self.events) - events_max
        if excess > 0:
            del self.events[events_max:]
            self.dropped += excess
