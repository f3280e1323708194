"""What goes into the ledger in one piece, and what comes out of it at a start."""

from collections.abc import Mapping
from typing import Any

import msgspec

from crewd.model.event import Event
from crewd.model.look import DeadLetter
from crewd.model.managed import CircuitState, ManagedRun, ManagedTask, Pause
from crewd.model.recovery import RecoveryPlan
from crewd.model.run import Run
from crewd.model.verdict import DeadVerdict, Incident, Standing


class StandingRow(msgspec.Struct, frozen=True):
    """Where one worker stands, with the explanation of it. There is one per (run, task): the newest replaces."""

    run_id: str
    task_id: str
    attempt: int
    runtime: str
    crew: str
    standing: Standing
    explanation: dict[str, Any] | None = None


class Batch(msgspec.Struct, frozen=True):
    """Changes of state and the events that tell them: all of it becomes durable at once, or none of it.

    Writing the same state twice changes nothing; events are appended each time.
    """

    events: tuple[Event, ...] = ()
    runs: tuple[Run, ...] = ()  # only those that changed: each replaces what was known of the run
    vanished: tuple[str, ...] = ()  # run ids: kept for history, recalled no more, their standings removed
    standings: tuple[StandingRow, ...] = ()
    gone: tuple[tuple[str, str], ...] = ()  # (run id, task id) of workers no longer live: their standing is removed
    verdicts: tuple[DeadVerdict, ...] = ()  # the newest of a (run, task, attempt) replaces
    incidents: tuple[Incident, ...] = ()  # the newest of a (subject, cause, opened_at) replaces
    letters: tuple[DeadLetter, ...] = ()  # the first of a key stays
    cursors: Mapping[str, str] = {}  # positions that readers of other files want to find again
    managed: tuple[ManagedRun, ...] = ()  # the newest of a run id replaces; one idempotency key has one run, ever
    tasks: tuple[ManagedTask, ...] = ()  # the newest of a (run, task) replaces
    circuits: tuple[CircuitState, ...] = ()  # the newest of a name replaces
    pauses: tuple[Pause, ...] = ()  # the newest of a scope replaces
    resumed: tuple[str, ...] = ()  # scopes whose pause is over
    letters_settled: tuple[DeadLetter, ...] = ()  # letters that are known, as they are now
    recoveries: tuple[RecoveryPlan, ...] = ()  # the newest of a plan id replaces


class Memory(msgspec.Struct, frozen=True):
    """What a restarted crewd needs in order not to repeat itself."""

    last_seq: int = 0
    runs: Mapping[str, Run] = {}  # as last written, without those that vanished
    standings: Mapping[tuple[str, str], StandingRow] = {}  # (run id, task id)
    verdicts_open: tuple[DeadVerdict, ...] = ()
    incidents_open: tuple[Incident, ...] = ()
    incidents_closed: tuple[Incident, ...] = ()  # the newest that are resolved, oldest end first: they may come back
    letter_keys: frozenset[str] = frozenset()
    letters_open: Mapping[str, tuple[int, float | None]] = {}  # crew -> (letters, oldest wall time)
    letters_at: tuple[tuple[float, str], ...] = ()  # wall time and crew of the newest that stood, oldest first
    cursors: Mapping[str, str] = {}
    managed: Mapping[str, ManagedRun] = {}  # runs that have not ended
    tasks: Mapping[tuple[str, str], ManagedTask] = {}  # all tasks of those runs
    circuits: tuple[CircuitState, ...] = ()
    pauses: tuple[Pause, ...] = ()
    managed_letters: tuple[DeadLetter, ...] = ()  # open letters of managed runs, oldest first
    own_letters: tuple[DeadLetter, ...] = ()  # open letters that crewd itself wrote about runs of others
    recoveries: tuple[RecoveryPlan, ...] = ()  # plans, oldest first: the open, and the latest of the settled


class LedgerStats(msgspec.Struct, frozen=True):
    """The ledger's own figures since it was opened."""

    commits: int = 0  # transactions: one may carry the batches of many callers
    batches: int = 0  # and conditional changes
    events: int = 0
    failures: int = 0
    # Seconds from the writer's taking up a group to its being durable: (upper bound, transactions at or below it).
    duration_buckets: tuple[tuple[float, int], ...] = ()
    duration_sum: float = 0.0
    bytes: int = 0  # main file and write-ahead log
    failed: str = ""  # why the latest write failed; "" = it did not
    history_missed: int = 0  # events that are not in the history, because a row of it is damaged
    checkpoint_failed: str = ""  # why the write-ahead log cannot be moved into the main file: it grows meanwhile
