"""Conditional changes: what they come to is decided within the transaction that writes it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import apsw

from crewd.ledger.batch import Batch
from crewd.ledger.rows import Statement
from crewd.model.event import Event


class Decided(NamedTuple):
    """What a change comes to, given what the ledger holds. Nothing of it is written yet."""

    statements: list[Statement]
    record: Batch | None = None  # of the caller's own state, written together with the statements
    answer: Any = None


class Change(NamedTuple):
    """A wish that depends on what the ledger holds when its turn comes.

    `decide` gets the connection and the wall time, and only reads. Whatever it raises refuses this one change: it has
    written nothing, so that the other members of its group need not be undone. It sees what the members before it
    wrote; should the group fail, all of them hear of that, and none of what it decided.
    """

    decide: Callable[[apsw.Connection, float], Decided]
    rows: int = 1  # about so many will be written: bounds the group


class Settled(NamedTuple):
    """A member of a group that became durable."""

    answer: Any
    events: tuple[Event, ...]  # with their numbers
    wrote: bool  # False: it came to nothing, and proves nothing about the disk


Outcome = Settled | Exception  # the exception refused this member alone
