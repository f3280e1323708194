"""Work: the one narrow interface through which tasks that are ready are handed out, once each, behind a fence.

The ledger implements it for one machine. A distributed engine may stand behind it later: nothing here promises what
only a local file could keep. `tests/contracts/test_work.py` holds every implementation to the same behaviour.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from crewd.model.event import Event


class Item(msgspec.Struct, frozen=True):
    """A task that is ready to be handed out."""

    key: str  # "RUN/TASK": one item of a key exists at a time, and none after it was completed
    queue: str = "default"  # the executor
    priority: int = 0  # higher first; within one priority the older first
    due_at: float = 0.0  # wall time before which it is not handed out
    body: Mapping[str, Any] = {}


class Lease(msgspec.Struct, frozen=True):
    """The right to work on an item until `until`. An older fence than the newest changes nothing."""

    key: str
    queue: str
    fence: int
    until: float | None  # wall time; None: it ends only with its holder
    body: Mapping[str, Any] = {}


class LogRecord(msgspec.Struct, frozen=True):
    """One record of a run's log."""

    position: int  # from 1, without gaps within one log
    id: str
    data: Mapping[str, Any]


class WorkError(Exception):
    """What an implementation raises on purpose; its three kinds follow."""


class LeaseLost(WorkError):
    """The lease is over: someone has a newer fence, or the item was offered again, buried or completed.

    The caller's result is late: keep it as evidence.
    """


class Conflict(WorkError):
    """The log is not where the caller thought. Read it, and decide anew."""


class Unavailable(WorkError):
    """The engine cannot answer just now. Nothing is known of the call; the same call may be made again."""


class Work(Protocol):
    """Whatever hands out work. `record` is a batch of the caller's own state and events (`ledger.batch.Batch`).

    An implementation that is the ledger commits it together with the change; another one makes the change first and
    the caller's record durable after it. Either way the answer comes when both are durable; the events that are
    returned carry their numbers.
    """

    async def submit(self, items: Sequence[Item], record: Any = None) -> tuple[tuple[bool, ...], tuple[Event, ...]]:
        """Offer items. False for one whose key is known in any state: it is not offered twice, and stays as it is.

        `record` is written whatever came of the items.
        """
        ...

    async def pull(
        self,
        keys: Sequence[str],
        seconds: float | None,
        record: Callable[[Sequence[Lease]], Any] | None = None,
    ) -> tuple[tuple[Lease, ...], tuple[Event, ...]]:
        """Take those of the named items that are ready, each behind a new fence, for so many seconds.

        The caller chooses among what is `ready`. `seconds` None: a lease ends only with its holder. `record` makes
        the caller's batch from the leases that were given; it may run in another thread, and is not called where none
        was. What it raises comes back to the caller, and then nothing was taken.
        """
        ...

    async def ready(self, limit: int = 1000) -> tuple[Item, ...]:
        """Items that could be pulled now, best first."""
        ...

    async def holding(self) -> tuple[Lease, ...]:
        """Leases of this holder or its predecessor on the same engine, oldest item first, for recovery."""
        ...

    async def extend(self, leases: Sequence[Lease], seconds: float) -> tuple[Lease, ...]:
        """Hold on to work, for so many seconds from now. Raises LeaseLost where one is lost; the others are extended.

        A lease without an end stays without one. One whose time is over is lost for certain only once it was swept.
        """
        ...

    async def complete(self, lease: Lease, result: Mapping[str, Any], record: Any = None) -> tuple[Event, ...]:
        """Record the outcome, once. Raises LeaseLost, and then `record` is not written."""
        ...

    async def retry(self, lease: Lease, due_at: float, record: Any = None) -> tuple[Event, ...]:
        """Put the item back, not to be handed out before the wall time `due_at`. Raises LeaseLost.

        Its fence stays, and its next lease has a newer one.
        """
        ...

    async def bury(self, lease: Lease, reason: str, record: Any = None) -> tuple[Event, ...]:
        """Give the item up: it is kept, and handed out no more until `revive`. Raises LeaseLost."""
        ...

    async def revive(self, item: Item, record: Any = None) -> tuple[Event, ...]:
        """Offer a buried or withdrawn item anew, as it is now. Raises Conflict where it is neither.

        Its fences go on growing.
        """
        ...

    async def withdraw(self, key: str, record: Any = None) -> tuple[Event, ...]:
        """Take an item back that nobody holds. Raises Conflict where it is leased or completed.

        An item that was never offered, or was withdrawn before, is fine: `record` is written, and nothing else.
        """
        ...

    async def result(self, key: str) -> Mapping[str, Any] | None:
        """The recorded outcome; None: there is none yet."""
        ...

    async def sweep(self) -> tuple[str, ...]:
        """Offer again what was leased for a time that is over; returns the keys. Until then its lease holds."""
        ...

    async def depth(self) -> Mapping[str, int]:
        """How many items are ready, delayed (due later), leased, buried and withdrawn: all five names, also at 0."""
        ...

    async def append(self, log: str, id: str, data: Mapping[str, Any], after: int | None = None) -> int:
        """Add a record to a log and return its position. The same id twice is one record.

        Raises Conflict where `after` is given and is not the position of the last record.
        """
        ...

    async def read(self, log: str, after: int = 0, limit: int = 1000) -> tuple[LogRecord, ...]:
        """Read the records of a log after a position, in order."""
        ...
