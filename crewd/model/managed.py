"""Managed runs: where each task of a plan stands. A state carries only what exists in it (docs/guarantees.md)."""

from collections.abc import Mapping
from typing import Any

import msgspec

from crewd.model.failure import ErrorClass, Exit, Failure
from crewd.model.plan import RunPlan
from crewd.model.process import Identity
from crewd.model.run import RunStatus, TaskStatus, Usage


class State(msgspec.Struct, frozen=True, gc=False, tag_field="state"):
    """Where a task stands. `since` is wall time."""

    since: float


class Waiting(State, frozen=True, gc=False, tag="waiting"):
    """Not started yet, or put back without a failure: its dependencies, a slot or a circuit are missing."""

    reason: str = ""


class Starting(State, frozen=True, gc=False, tag="starting"):
    """A slot and a fence are taken; no process is known, and none has begun the command."""

    attempt: int
    fence: int


class Running(State, frozen=True, gc=False, tag="running"):
    """The identity of the process was recorded before its command began."""

    attempt: int
    fence: int
    process: Identity  # of the shim, the session leader of the attempt
    started_mono: float  # CLOCK_MONOTONIC, of the boot that `process` names
    folder: str


class Ending(State, frozen=True, gc=False, tag="ending"):
    """Over, and not yet proven gone. Nothing leaves this state without that proof."""

    attempt: int
    fence: int
    process: Identity | None
    folder: str
    why: str  # for a person
    failure: Failure | None = None  # as far as it is known; None: it seems to have ended well, or not known yet
    cancelled: bool = False  # a person asked for it, or crewd itself stops: see `interrupted`
    interrupted: bool = False  # crewd stops: the attempt does not count, and the task waits again


class RetryWait(State, frozen=True, gc=False, tag="retry_wait"):
    """Failed, proven gone, and due again."""

    attempt: int  # that failed
    fence: int
    due_at: float  # wall time
    delay: float
    error_class: ErrorClass
    reason: str


class Blocked(State, frozen=True, gc=False, tag="blocked"):
    """Cannot go on, and may again: a dependency that may be redriven, a gate."""

    reason: str
    on: tuple[str, ...] = ()  # the tasks it waits for
    root: tuple[str, ...] = ()  # those of them that are the cause


class Completed(State, frozen=True, gc=False, tag="completed"):
    attempt: int


class DeadLettered(State, frozen=True, gc=False, tag="dead_lettered"):
    attempt: int
    reason: str  # max-retries, heartbeat-dead, not-retryable, budget, manual
    error_class: ErrorClass
    letter: str  # key of the dead letter


class Cancelled(State, frozen=True, gc=False, tag="cancelled"):
    reason: str = ""


class Skipped(State, frozen=True, gc=False, tag="skipped"):
    reason: str = ""
    error_class: ErrorClass = ErrorClass.DEPENDENCY_FAILED


AnyState = (
    Waiting | Starting | Running | Ending | RetryWait | Blocked | Completed | DeadLettered | Cancelled | Skipped
)
# How a task looks beside those of other runtimes. Between two attempts it has not failed.
STATUS_OF: Mapping[str, TaskStatus] = {
    "waiting": TaskStatus.QUEUED,
    "starting": TaskStatus.RUNNING,
    "running": TaskStatus.RUNNING,
    "ending": TaskStatus.RUNNING,
    "retry_wait": TaskStatus.QUEUED,
    "blocked": TaskStatus.QUEUED,
    "completed": TaskStatus.COMPLETED,
    "dead_lettered": TaskStatus.FAILED,
    "cancelled": TaskStatus.CANCELLED,
    "skipped": TaskStatus.SKIPPED,
}
AT_WORK = (Starting, Running, Ending)  # at most one attempt of a task is in one of these
TERMINAL = (Completed, DeadLettered, Cancelled, Skipped)


def name_of(state: AnyState) -> str:
    """The word of a state, as stored and shown."""
    return str(type(state).__struct_config__.tag)


class AttemptRecord(msgspec.Struct, frozen=True, gc=False):
    """One attempt that is over. `error_class` None: it succeeded, or was interrupted by crewd itself."""

    attempt: int
    fence: int
    started_at: float  # wall times
    ended_at: float
    error_class: ErrorClass | None = None
    error: str = ""  # redacted
    exit: Exit = Exit()
    interrupted: bool = False  # does not count against max_attempts
    tail: str = ""  # of stderr, or of stdout where stderr is empty; redacted, at most 2 KiB
    output_bytes: int = 0  # of stdout and stderr, ever written
    folder: str = ""
    details: Mapping[str, Any] = {}


class Artifact(msgspec.Struct, frozen=True, gc=False):
    """A file that a worker says it made."""

    path: str
    sha256: str = ""
    bytes: int | None = None


class ManagedTask(msgspec.Struct, frozen=True, gc=False):
    """One task of a managed run: its state and its finished attempts, oldest first."""

    run_id: str
    task_id: str
    state: AnyState
    fence: int = 0  # of the newest attempt, ever: grows with each
    attempts: tuple[AttemptRecord, ...] = ()
    budget_from: int = 0  # attempts up to this number were spent before a redrive
    first_started_at: float | None = None  # of the present budget
    usage: Usage | None = None  # of all attempts, as far as it is noted
    attempt_usage: Usage | None = None  # of the newest of them
    iterations: int = 0  # of the newest of them: the last that was told
    artifacts: tuple[Artifact, ...] = ()
    late: int = 0  # results that came behind their fence: recorded, counted, never merged

    @property
    def attempt(self) -> int:
        """Number of the newest attempt; 0: none was ever started."""
        at_work = self.state.attempt if isinstance(self.state, Starting | Running | Ending) else 0
        return max(at_work, self.attempts[-1].attempt if self.attempts else 0)

    @property
    def counted(self) -> int:
        """Attempts that count against max_attempts: those of the present budget that crewd did not interrupt."""
        return sum(1 for each in self.attempts if each.attempt > self.budget_from and not each.interrupted)


class ManagedRun(msgspec.Struct, frozen=True, gc=False):
    """One managed run without its tasks."""

    plan: RunPlan
    status: RunStatus
    submitted_at: float  # wall times
    key: str = ""  # of idempotency; "": none was given
    ended_at: float | None = None
    actor: str = "daemon"
    cancelled: bool = False  # as a whole, by a person: what was done before does not make it completed


class CircuitState(msgspec.Struct, frozen=True, gc=False):
    """The circuit of one provider or executor. Times are wall times."""

    name: str
    state: str = "closed"  # closed, open, half_open
    failures: tuple[tuple[float, str], ...] = ()  # (wall time, error class) within the window
    opened_at: float | None = None
    probe_at: float | None = None  # not before it
    opened_for: str = ""  # the error class
    openings: int = 0  # in a row: each waits longer
    ramp: int = 0  # tasks allowed at one time while it recovers; 0: no limit


class Pause(msgspec.Struct, frozen=True, gc=False):
    """A door that a person closed. `scope`: "daemon", "crew:NAME", "executor:NAME"."""

    scope: str
    mode: str = "pause"  # nothing is started; or "drain": what has begun goes on to its end, retries too
    reason: str = ""
    since: float = 0.0
    actor: str = ""
