"""A patrol over given folders, for measuring its rounds."""

import asyncio
from collections.abc import Sequence

from bench.timing import RoundClock
from crewd.detection.options import Thresholds
from crewd.engine.lookout import Lookout
from crewd.engine.patrol import Patrol
from crewd.engine.witness import Witness
from crewd.host.files import free_bytes
from crewd.host.processes import ProcProcesses
from crewd.ledger.batch import Batch, Memory
from crewd.ledger.ledger import Ledger
from crewd.model.event import Event
from crewd.sources.pi_crew import PiCrewOptions, PiCrewSource
from crewd.sources.source import Source

INTERVAL = 5.0
# One beat in a hundred rounds would be silence by the genuine thresholds, and the comparison one of falling ill.
PATIENT = Thresholds(warn_after=1e6, stale_after=2e6, dead_after=3e6, hung_after=4e6)


class NoLedger:
    """Takes everything and keeps nothing."""

    async def commit(self, batch: Batch) -> tuple[Event, ...]:
        return batch.events


class Watched:
    """One source and the patrol over it, in an event loop of their own. A ledger that is given is closed with it."""

    def __init__(self, project: str, memory: Memory | None = None, ledger: Ledger | None = None) -> None:
        self.clock = RoundClock()
        self.source = PiCrewSource(project, PiCrewOptions(follow_index=False))
        self._ledger = ledger
        self._loop = asyncio.new_event_loop()
        lookout = Lookout(discover=self._sources, timeout=600.0, free_bytes=free_bytes)
        witness = Witness(ProcProcesses(self.clock), "bench", woken=lambda: None)
        self.patrol = Patrol(self.clock, lookout, witness, ledger or NoLedger(), (), thresholds=PATIENT)
        if memory is not None:
            self.patrol.recall(memory)

    def look(self) -> None:
        """Let the source alone look once."""
        self.clock.advance(INTERVAL)
        self.source.look(self.clock.read())

    def round(self) -> None:
        """Let the patrol go round once."""
        self.clock.advance(INTERVAL)
        self._loop.run_until_complete(self.patrol.round())

    def close(self) -> None:
        self._loop.run_until_complete(self._close())
        self._loop.close()

    async def _close(self) -> None:
        self.patrol.witness.close()
        self.patrol.lookout.close()
        self.source.close()
        if self._ledger is not None:
            await self._ledger.close()

    def _sources(self, before: Sequence[Source]) -> list[Source]:
        return [self.source]
