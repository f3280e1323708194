"""What one look at one source brought: only what differs from the round before."""

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from crewd.model.managed import AttemptRecord
from crewd.model.run import Run


class ReadResult(StrEnum):
    """How one read of one run's files ended. Only `ok` is information about the run."""

    OK = "ok"
    UNCHANGED = "unchanged"
    MISSING = "missing"
    TORN = "torn"  # changed while it was read, empty, or ends in the middle
    INVALID = "invalid"  # whole, and not what the format says
    TOO_LARGE = "too_large"
    IO_ERROR = "io_error"
    REFUSED = "refused"  # a link, a special file, a name that leaves its folder, a run id met twice


OWN_LETTERS = "crewd:"  # how the keys of letters begin that crewd itself wrote about runs of others


class DeadLetter(msgspec.Struct, frozen=True, gc=False):
    """A task that was given up, by its runtime or by crewd. `reason` is one of crewd's; `words` keeps the runtime's.

    `state` is open, redriven or discarded; only the first is waiting for somebody.
    """

    run_id: str
    task_id: str
    reason: str  # max-retries, heartbeat-dead, not-retryable, budget, manual
    words: str
    attempts: int
    error: str
    at: float | None  # wall time as written
    runtime: str
    key: str  # the same letter read twice has the same key
    crew: str = ""
    error_class: str = ""
    fingerprint: str = ""  # of what went wrong: letters of one cause share it
    history: tuple[AttemptRecord, ...] = ()  # every attempt, oldest first
    evidence: Mapping[str, object] = {}
    state: str = "open"
    settled_at: float | None = None
    settled_by: str = ""
    note: str = ""  # why it was discarded, or what its redrive was for


class Happening(msgspec.Struct, frozen=True, gc=False):
    """A line of a runtime's own event log that crewd acts upon, once."""

    run_id: str
    task_id: str  # "" where it concerns the run
    type: str  # an open string
    seq: int | None
    at: float | None
    data: Mapping[str, object] = {}


class Look(msgspec.Struct, frozen=True):
    """The outcome of one look at one root.

    `complete` is False when the root itself could not be listed: then nothing is known about any of its runs,
    and the silence of none of them grows.
    """

    changed: tuple[Run, ...] = ()
    vanished: tuple[str, ...] = ()
    unread: Mapping[str, ReadResult] = {}  # run id -> why nothing is known of it this round
    # Where each task has a file of its own: (run id, task id) -> why nothing is known of that task this round.
    unread_tasks: Mapping[tuple[str, str], ReadResult] = {}
    reads: Mapping[ReadResult, int] = {}
    letters: tuple[DeadLetter, ...] = ()
    happenings: tuple[Happening, ...] = ()
    happenings_counted: int = 0  # further lines of runtimes' event logs: of types that nobody acts upon
    happenings_dropped: int = 0  # over the cap of one round: counted, never queued
    complaints: tuple[str, ...] = ()  # new this round, for the log: each names file, value and remedy
    unknown_fields: int = 0
    unknown_statuses: int = 0
    complete: bool = True
