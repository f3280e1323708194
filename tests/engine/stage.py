"""A stage for patrols: one fake root whose runs a test sets, fake processes, a fake clock, a ledger in memory."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from crewd.engine.lookout import Lookout
from crewd.engine.options import PatrolOptions
from crewd.engine.patrol import Patrol
from crewd.engine.witness import Witness
from crewd.ledger.batch import Batch, Memory, StandingRow
from crewd.ledger.errors import BatchRefused, LedgerFailed
from crewd.model.event import Event
from crewd.model.look import OWN_LETTERS, DeadLetter, Happening, Look, ReadResult
from crewd.model.moment import Reading
from crewd.model.process import ProcessClaim
from crewd.model.recovery import RecoveryPlan
from crewd.model.run import Run, RunStatus, Task, TaskStatus, Waiting
from crewd.model.snapshot import Snapshot, WorkerView
from crewd.model.verdict import DeadVerdict, Incident, Outcome
from tests.fakes.clock import FakeClock
from tests.fakes.processes import FakeProcesses

MARK = "CREW_TASK=t"


def task(task_id: str = "t", beat: int = 0, pid: int | None = None, **more: Any) -> Task:
    """A running task whose token is `beat`."""
    claim = None if pid is None else ProcessClaim(pid, None, (MARK,))
    status = more.pop("status", TaskStatus.RUNNING)
    return Task(task_id, status, status.value, token=(beat,), claim=claim, **more)


def run(*tasks: Task, run_id: str = "r", status: RunStatus = RunStatus.RUNNING, folder: str = "/crew/r") -> Run:
    return Run(run_id, "fake", "crew", status, status.value, folder, tasks)


@dataclass
class FakeSource:
    """One root. `runs` is what is on disk; `unread` and `missing` say what cannot be read."""

    runs: dict[str, Run] = field(default_factory=dict)
    unread: dict[str, ReadResult] = field(default_factory=dict)
    unread_tasks: dict[tuple[str, str], ReadResult] = field(default_factory=dict)
    complete: bool = True
    letters: list[DeadLetter] = field(default_factory=list)
    happenings: list[Happening] = field(default_factory=list)
    runtime: str = "fake"
    key: str = "fake:/crew"
    folder: str = "/crew"
    tells_itself: bool = False
    _told: dict[str, Run] = field(default_factory=dict)

    def put(self, run: Run) -> None:
        self.runs[run.run_id] = run

    def look(self, now: Reading) -> Look:
        if not self.complete:
            return Look(complete=False)
        readable = {run_id: run for run_id, run in self.runs.items() if run_id not in self.unread}
        changed = tuple(run for run_id, run in readable.items() if self._told.get(run_id) != run)
        vanished = tuple(run_id for run_id in self._told if run_id not in self.runs)
        self._told = {run_id: run for run_id, run in (self._told | readable).items() if run_id in self.runs}
        letters, happenings = tuple(self.letters), tuple(self.happenings)
        self.letters.clear()
        self.happenings.clear()
        own = dict(self.unread_tasks)
        return Look(changed, vanished, dict(self.unread), own, letters=letters, happenings=happenings)

    def watch_paths(self) -> list[str]:
        return []

    def close(self) -> None:
        """Nothing is open."""


@dataclass
class MemoryLedger:
    """Keeps what was committed, and gives it back to the next patrol as the real ledger does."""

    events: list[Event] = field(default_factory=list)
    runs: dict[str, Run] = field(default_factory=dict)
    standings: dict[tuple[str, str], StandingRow] = field(default_factory=dict)
    verdicts: dict[tuple[str, str, int, float], DeadVerdict] = field(default_factory=dict)
    incidents: dict[tuple[str, str, float], Incident] = field(default_factory=dict)
    letters: dict[str, DeadLetter] = field(default_factory=dict)
    recoveries: dict[str, RecoveryPlan] = field(default_factory=dict)
    failing: bool = False
    refuses: str = ""  # run id of which nothing can be written

    async def commit(self, batch: Batch) -> tuple[Event, ...]:
        if self.failing:
            raise LedgerFailed("disk full")
        if self.refuses and any(each.run_id == self.refuses for each in (*batch.events, *batch.runs)):
            raise BatchRefused("a value that cannot be written")
        told = tuple(
            Event(e.type, e.at, e.data, e.run_id, e.task_id, e.attempt, e.runtime, e.crew, e.actor, seq)
            for seq, e in enumerate(batch.events, len(self.events) + 1)
        )
        self.events += told
        self.runs.update({run.run_id: run for run in batch.runs})
        for run_id in batch.vanished:
            self.runs.pop(run_id, None)
        self.standings.update({(row.run_id, row.task_id): row for row in batch.standings})
        for key in batch.gone:
            self.standings.pop(key, None)
        self.verdicts.update({(v.run_id, v.task_id, v.attempt, v.opened_at): v for v in batch.verdicts})
        self.incidents.update({(i.subject, i.cause, i.opened_at): i for i in batch.incidents})
        self.letters.update({letter.key: letter for letter in (*batch.letters, *batch.letters_settled)})
        self.recoveries.update({plan.plan_id: plan for plan in batch.recoveries})
        return told

    def memory(self) -> Memory:
        return Memory(
            last_seq=len(self.events),
            runs=dict(self.runs),
            standings=dict(self.standings),
            verdicts_open=tuple(v for v in self.verdicts.values() if v.outcome is Outcome.OPEN),
            incidents_open=tuple(i for i in self.incidents.values() if i.resolved_at is None),
            incidents_closed=tuple(i for i in self.incidents.values() if i.resolved_at is not None),
            letter_keys=frozenset(self.letters),
            letters_at=tuple(sorted((each.at or 0.0, each.crew) for each in self.letters.values())),
            recoveries=tuple(self.recoveries.values()),
            own_letters=tuple(
                each for key, each in self.letters.items() if key.startswith(OWN_LETTERS) and each.state == "open"
            ),
        )


class Stage:
    """One patrol over one fake root. `rounds` lets time pass and patrols."""

    def __init__(self, ledger: MemoryLedger | None = None, **options: Any) -> None:
        self.clock = FakeClock()
        self.processes = FakeProcesses(self.clock)
        self.source = FakeSource()
        self.ledger = ledger or MemoryLedger()
        self.free = 1 << 30
        self.options = PatrolOptions(**options)
        self.patrol = self._patrol()

    def restart(self) -> None:
        """Kill crewd and start another one on the same ledger: it has read nothing yet."""
        self.patrol.witness.close()
        self.patrol.lookout.close()
        self.source._told.clear()
        self.patrol = self._patrol()
        self.patrol.recall(self.ledger.memory())

    async def rounds(self, count: int = 1, gap: float = 5.0, between: Callable[[], None] = lambda: None) -> Snapshot:
        for _ in range(count):
            self.clock.advance(gap)
            between()
            snapshot = await self.patrol.round()
        return snapshot

    async def seconds(self, seconds: float, between: Callable[[], None] = lambda: None) -> Snapshot:
        return await self.rounds(max(1, round(seconds / 5.0)), between=between)

    def worker(self, task_id: str = "t", run_id: str = "r") -> WorkerView:
        view = self.patrol.picture.snapshot.runs[run_id]
        return next(worker for worker in view.workers if worker.task_id == task_id)

    def told(self, *types: str) -> list[Event]:
        return [event for event in self.ledger.events if not types or event.type in types]

    def levels(self) -> list[str]:
        return [event.data["to_level"] for event in self.told("worker.level_changed")]

    def close(self) -> None:
        self.patrol.witness.close()
        self.patrol.lookout.close()
        self.processes.close()

    def _patrol(self) -> Patrol:
        return Patrol(
            clock=self.clock,
            lookout=Lookout(lambda before: [self.source], 5.0, lambda path: self.free),
            witness=Witness(self.processes, "here", lambda: None),
            ledger=self.ledger,
            listeners=(),
            options=self.options,
        )


def play(scene: Callable[[Stage], Coroutine[Any, Any, None]], **options: Any) -> Stage:
    """Play one scene on a fresh stage."""

    async def whole() -> Stage:
        stage = Stage(**options)
        try:
            await scene(stage)
        finally:
            stage.close()
        return stage

    return asyncio.run(whole())


WAITING = Waiting("human", None, "may I?")
