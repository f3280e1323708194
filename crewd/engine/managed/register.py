"""The register: one transaction for each change of a managed run, and then, only then, everybody hears of it."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import structlog

from crewd.engine.managed.board import Board, RunEntry
from crewd.ledger.batch import Batch
from crewd.ledger.errors import LedgerFailed
from crewd.model.event import Event
from crewd.model.managed import AT_WORK, ManagedRun, ManagedTask
from crewd.model.run import RunStatus
from crewd.model.work import Item, Lease, Unavailable, Work
from crewd.policy.invariants import violations_of

RETRY_AFTER = 1.0  # seconds between two tries to write what must be written

T = TypeVar("T")
log = structlog.get_logger("crewd.tasks")


class Commits(Protocol):
    """Where state and events become durable together."""

    async def commit(self, batch: Batch) -> tuple[Event, ...]: ...


@dataclass(slots=True, eq=False)
class Register:
    """Writes, then changes the board, then tells. While the ledger cannot write, nothing here goes on."""

    board: Board
    ledger: Commits
    work: Work
    heard: Callable[[Sequence[Event]], None]
    violated: Callable[[str], None] = lambda promise: None
    failed: str = ""  # why the ledger cannot write just now
    broken: set[str] = field(default_factory=set)  # invariants that were violated since the start
    wake: asyncio.Event = field(default_factory=asyncio.Event)  # of the scheduler

    async def commit(self, batch: Batch) -> None:
        """Write a batch. Raises LedgerError, and then nothing of it is true."""
        events = await self.ledger.commit(batch)
        self.take(batch, events)

    async def admit(self, run: ManagedRun, batch: Batch) -> None:
        """Take in a new run. Raises LedgerError, KeyTaken, and then it was not accepted."""
        events = await self.ledger.commit(batch)
        self.board.add(run, {task.task_id: task for task in batch.tasks})
        self.failed = ""
        self.heard(events)
        self.wake.set()

    async def insist(self, batch: Batch) -> None:
        """Write a batch, however long the disk refuses: what it tells has happened already."""
        await self.until_written(lambda: self._committed(batch), batch)

    async def pull(self, keys: Sequence[str], record: Callable[[Sequence[Lease]], Batch]) -> tuple[Lease, ...]:
        """Take items, each behind a new fence. Raises LedgerFailed, Unavailable: then none is taken."""
        made: list[Batch] = []

        def recorded(leases: Sequence[Lease]) -> Batch:
            batch = record(leases)
            made.append(batch)
            return batch

        leases, events = await self.work.pull(keys, None, recorded)
        if leases:
            self.take(made[-1], events)
        return leases

    async def offer(self, items: Sequence[Item]) -> None:
        await self.work.submit(items)

    async def offer_again(self, item: Item, batch: Batch) -> None:
        """Offer an item that nobody holds, whatever became of it, with what tells it. Raises Conflict, LedgerError.

        Only the last of three transactions tells anything. Where crewd ends between them, the scheduler finds that an
        item it wants is not given, and begins them anew.
        """
        await self.work.submit([item])  # known or not
        await self.work.withdraw(item.key)  # ready, delayed or buried
        events = await self.work.revive(item, batch)
        self.take(batch, events)

    async def complete(self, lease: Lease, result: dict[str, Any], batch: Batch) -> None:
        await self.until_written(lambda: self.work.complete(lease, result, batch), batch)

    async def retry(self, lease: Lease, due_at: float, batch: Batch) -> None:
        await self.until_written(lambda: self.work.retry(lease, due_at, batch), batch)

    async def bury(self, lease: Lease, reason: str, batch: Batch) -> None:
        await self.until_written(lambda: self.work.bury(lease, reason, batch), batch)

    async def until_written(self, write: Callable[[], Any], batch: Batch) -> None:
        """Try until it is written. Raises whatever is no fault of the disk: LeaseLost, BatchRefused."""
        while True:
            try:
                events = await write()
            except (LedgerFailed, Unavailable) as error:
                self._note_failure(str(error))
                await asyncio.sleep(RETRY_AFTER)
            else:
                self.take(batch, events)
                return

    def take(self, batch: Batch, events: Sequence[Event]) -> None:
        """What was written is now true: let the board and every listener know."""
        self.failed = ""
        for run in batch.managed:
            if run.plan.run_id in self.board.runs:
                self.board.put_run(run)
        for task in batch.tasks:
            if (entry := self.board.runs.get(task.run_id)) is not None:
                self._check(entry, task)
                self.board.put(task)
        self.heard(events)
        if self._matters(batch):
            self.wake.set()

    def _matters(self, batch: Batch) -> bool:
        """Whether the scheduler has to look: an attempt that merely goes on frees nothing and starts nobody."""
        if batch.managed or batch.circuits:
            return True
        runs = self.board.runs
        return any(
            not isinstance(task.state, AT_WORK)
            or ((entry := runs.get(task.run_id)) is not None and entry.run.status is not RunStatus.RUNNING)
            for task in batch.tasks
        )

    def _check(self, entry: RunEntry, after: ManagedTask) -> None:
        for promise in violations_of(
            entry.tasks.get(after.task_id), after, entry.plan, entry.plans.get(after.task_id)
        ):
            log.error("invariant.violated", id=promise, run_id=after.run_id, task_id=after.task_id)
            self._note(promise)

    def balance(self, entry: RunEntry) -> None:
        """Every accepted task is in exactly one state: the counts add up."""
        if entry.counts.total() != len(entry.plans) or len(entry.tasks) != len(entry.plans):
            log.error("invariant.violated", id="I10", run_id=entry.plan.run_id, counts=dict(entry.counts))
            self._note("I10")

    def _note(self, promise: str) -> None:
        self.broken.add(promise)
        self.violated(promise)

    async def _committed(self, batch: Batch) -> tuple[Event, ...]:
        return await self.ledger.commit(batch)

    def _note_failure(self, words: str) -> None:
        if not self.failed:
            log.error(
                "tasks.ledger_failed", error=words, remedy="make room or mend the disk; crewd goes on by itself"
            )
        self.failed = words
