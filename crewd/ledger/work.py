"""Work on one machine: the ledger hands it out. Each operation is one transaction, the caller's record with it."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import apsw

from crewd.ledger import work_rows
from crewd.ledger.batch import Batch
from crewd.ledger.cells import exact_json, exact_text, moment, text
from crewd.ledger.change import Change, Decided
from crewd.ledger.ledger import Ledger
from crewd.ledger.rows import Statement
from crewd.ledger.work_rows import BURIED, DONE, LEASED, READY, WITHDRAWN, Entry, find
from crewd.model.event import Event
from crewd.model.work import Conflict, Item, Lease, LeaseLost, LogRecord

Record = Callable[[Sequence[Lease]], Batch | None]


class LedgerWork:
    """The interface `crewd.model.work.Work`. Whoever holds the ledger holds every lease without an end.

    Besides what that interface names, every operation may raise BatchRefused (KeyTaken among them), when the record
    or a value cannot be written, and LedgerFailed, which is Unavailable: then nothing of it was done. Of a group of
    callers that share a transaction, one that is refused costs the others nothing.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def submit(
        self, items: Sequence[Item], record: Batch | None = None
    ) -> tuple[tuple[bool, ...], tuple[Event, ...]]:
        settled = await self._ledger.carry_out(Change(partial(_submit, items, record), len(items)))
        return settled.answer, settled.events

    async def pull(
        self, keys: Sequence[str], seconds: float | None, record: Record | None = None
    ) -> tuple[tuple[Lease, ...], tuple[Event, ...]]:
        settled = await self._ledger.carry_out(Change(partial(_pull, keys, seconds, record), 4 * len(keys)))
        return settled.answer, settled.events

    async def ready(self, limit: int = 1000) -> tuple[Item, ...]:
        now = self._ledger.now()
        return tuple(await self._ledger.read(lambda reader: reader.ready(now, limit)))

    async def holding(self) -> tuple[Lease, ...]:
        return tuple(await self._ledger.read(lambda reader: reader.leases()))

    async def extend(self, leases: Sequence[Lease], seconds: float) -> tuple[Lease, ...]:
        settled = await self._ledger.carry_out(Change(partial(_extend, leases, seconds), len(leases)))
        extended, lost = settled.answer
        if lost:
            raise LeaseLost("; ".join(lost))
        return tuple(extended)

    async def complete(
        self, lease: Lease, result: Mapping[str, Any], record: Batch | None = None
    ) -> tuple[Event, ...]:
        return (await self._ledger.carry_out(Change(partial(_complete, lease, result, record)))).events

    async def retry(self, lease: Lease, due_at: float, record: Batch | None = None) -> tuple[Event, ...]:
        return (await self._ledger.carry_out(Change(partial(_retry, lease, due_at, record)))).events

    async def bury(self, lease: Lease, reason: str, record: Batch | None = None) -> tuple[Event, ...]:
        return (await self._ledger.carry_out(Change(partial(_bury, lease, reason, record)))).events

    async def revive(self, item: Item, record: Batch | None = None) -> tuple[Event, ...]:
        return (await self._ledger.carry_out(Change(partial(_revive, item, record)))).events

    async def withdraw(self, key: str, record: Batch | None = None) -> tuple[Event, ...]:
        return (await self._ledger.carry_out(Change(partial(_withdraw, key, record)))).events

    async def result(self, key: str) -> Mapping[str, Any] | None:
        return await self._ledger.read(lambda reader: reader.result(key))

    async def sweep(self) -> tuple[str, ...]:
        keys: tuple[str, ...] = (await self._ledger.carry_out(Change(_sweep))).answer
        return keys

    async def depth(self) -> Mapping[str, int]:
        now = self._ledger.now()
        return await self._ledger.read(lambda reader: reader.depth(now))

    async def append(self, log: str, id: str, data: Mapping[str, Any], after: int | None = None) -> int:
        position: int = (await self._ledger.carry_out(Change(partial(_append, log, id, data, after)))).answer
        return position

    async def read(self, log: str, after: int = 0, limit: int = 1000) -> tuple[LogRecord, ...]:
        return tuple(await self._ledger.read(lambda reader: reader.log(log, after, limit)))


# What each operation comes to. They only read; `now` is wall time.


def _submit(items: Sequence[Item], record: Batch | None, connection: apsw.Connection, now: float) -> Decided:
    offered: dict[str, Entry] = {}
    answers = []
    for item in items:
        new = item.key not in offered and connection.execute(work_rows.FIND, (exact_text(item.key),)).get is None
        if new:
            offered[item.key] = Entry.of(item)
        answers.append(new)
    rows = [entry.row() for entry in offered.values()]
    return Decided([(work_rows.INSERT, rows)] if rows else [], record, tuple(answers))


def _pull(
    keys: Sequence[str], seconds: float | None, record: Record | None, connection: apsw.Connection, now: float
) -> Decided:
    until = None if seconds is None else moment(now + seconds)
    found = [find(connection, key) for key in dict.fromkeys(keys)]
    taken = [
        entry._replace(state=LEASED, fence=entry.fence + 1, lease_until=until)
        for entry in found
        if entry is not None and entry.state == READY and entry.due_at <= now
    ]
    leases = tuple(entry.lease() for entry in taken)
    return Decided(_updates(taken), record(leases) if leases and record else None, leases)


def _extend(leases: Sequence[Lease], seconds: float, connection: apsw.Connection, now: float) -> Decided:
    until = moment(now + seconds)
    extended, lost, changed = [], [], []
    for lease in leases:
        try:
            entry = _held(connection, lease)
        except LeaseLost as error:
            lost.append(str(error))
            continue
        if entry.lease_until is not None:  # what has no end cannot be made longer
            entry = entry._replace(lease_until=until)
            changed.append(entry)
        extended.append(entry.lease())
    return Decided(_updates(changed), None, (extended, lost))


def _complete(
    lease: Lease, result: Mapping[str, Any], record: Batch | None, connection: apsw.Connection, now: float
) -> Decided:
    entry = _held(connection, lease)
    return Decided(_updates([entry._replace(state=DONE, lease_until=None, result=exact_json(result))]), record)


def _retry(lease: Lease, due_at: float, record: Batch | None, connection: apsw.Connection, now: float) -> Decided:
    entry = _held(connection, lease)
    return Decided(_updates([entry._replace(state=READY, lease_until=None, due_at=moment(due_at))]), record)


def _bury(lease: Lease, reason: str, record: Batch | None, connection: apsw.Connection, now: float) -> Decided:
    entry = _held(connection, lease)
    return Decided(_updates([entry._replace(state=BURIED, lease_until=None, reason=text(reason))]), record)


def _revive(item: Item, record: Batch | None, connection: apsw.Connection, now: float) -> Decided:
    entry = find(connection, item.key)
    if entry is None or entry.state not in (BURIED, WITHDRAWN):
        state = "was never offered" if entry is None else f"is {entry.state}"
        raise Conflict(f"{item.key} {state}: only what is buried or withdrawn is offered anew")
    return Decided(_updates([Entry.of(item, entry.fence)]), record)


def _withdraw(key: str, record: Batch | None, connection: apsw.Connection, now: float) -> Decided:
    entry = find(connection, key)
    if entry is None or entry.state == WITHDRAWN:
        return Decided([], record)
    if entry.state in (LEASED, DONE):
        raise Conflict(f"{key} is {entry.state}, behind fence {entry.fence}: it cannot be taken back")
    return Decided(_updates([entry._replace(state=WITHDRAWN)]), record)


def _sweep(connection: apsw.Connection, now: float) -> Decided:
    overdue = [Entry.read(row) for row in connection.execute(work_rows.SELECT_OVERDUE, (now,))]
    offered = _updates([entry._replace(state=READY, lease_until=None) for entry in overdue])
    return Decided(offered, None, tuple(entry.key for entry in overdue))


def _append(
    log: str, id: str, data: Mapping[str, Any], after: int | None, connection: apsw.Connection, now: float
) -> Decided:
    known = connection.execute(work_rows.FIND_RECORD, (exact_text(log), exact_text(id))).get
    if known is not None:
        return Decided([], None, work_rows.read_record(known).position)
    last: int = connection.execute(work_rows.LAST_POSITION, (log,)).get or 0
    if after is not None and after != last:
        raise Conflict(f"the log {log!r} ends at {last}, not at {after}: read it, and decide anew")
    return Decided([(work_rows.INSERT_RECORD, [work_rows.record_row(log, last + 1, id, data)])], None, last + 1)


def _held(connection: apsw.Connection, lease: Lease) -> Entry:
    entry = find(connection, lease.key)
    if entry is None:
        raise LeaseLost(f"{lease.key} was never offered")
    if entry.state != LEASED or entry.fence != lease.fence:
        raise LeaseLost(f"{lease.key} is {entry.state} behind fence {entry.fence}; fence {lease.fence} is over")
    return entry


def _updates(entries: Sequence[Entry]) -> list[Statement]:
    return [(work_rows.UPDATE, [entry.row() for entry in entries])] if entries else []
