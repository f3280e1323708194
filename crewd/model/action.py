"""Decisions about managed tasks: values with their reasons, matched by the engine."""

import msgspec

from crewd.model.failure import ErrorClass


class RetryAt(msgspec.Struct, frozen=True, gc=False):
    """Start another attempt, not before `due_at`."""

    due_at: float  # wall time
    delay: float  # seconds from now
    floor: float  # the delay may not be below: retry_after, or the lower bound of the jitter
    ceiling: float  # nor above
    reason: str


class GiveUp(msgspec.Struct, frozen=True, gc=False):
    """Start no other attempt: the task becomes a dead letter."""

    reason: str  # max-retries, heartbeat-dead, not-retryable, budget
    because: str  # one sentence


class Park(msgspec.Struct, frozen=True, gc=False):
    """Wait without spending an attempt: what is missing is no fault of the task."""

    due_at: float | None  # wall time of the next look; None: until something changes
    reason: str


Decision = RetryAt | GiveUp | Park


class Resume(msgspec.Struct, frozen=True, gc=False):
    """The next attempt goes on with the session of the one before."""

    session: str
    reason: str
    saved_tokens: int = 0  # that the attempts of this session have used before, and that need not be used again


class Fresh(msgspec.Struct, frozen=True, gc=False):
    """The next attempt begins from nothing."""

    reason: str


class Neither(msgspec.Struct, frozen=True, gc=False):
    """No attempt may follow: whatever it did might be done a second time."""

    reason: str


Rung = Resume | Fresh | Neither


class Alarm(msgspec.Struct, frozen=True, gc=False):
    """An agent goes in circles, burns tokens, or has spent what it may. `then` is what follows: warn, stop, park."""

    cause: str  # "loop", "burn", "budget"
    scope: str  # of a budget: "task", "run", "crew", "day"; otherwise "task"
    then: str
    words: str  # one sentence for a person


class Start(msgspec.Struct, frozen=True, gc=False):
    """What the scheduler chose: whom to start now, why others wait, and when to look again."""

    keys: tuple[tuple[str, str], ...]  # (run id, task id), in the order of starting
    held: dict[tuple[str, str], str] = {}  # ready, and not started: why
    look_in: float | None = None  # seconds after which time alone may let another start


class Handling(msgspec.Struct, frozen=True, gc=False):
    """What an error class is met with by default."""

    retry: bool
    attempts_max: int | None = None  # of this class; None: as the policy says
    opens_circuit: bool = False
    pauses: bool = False  # nobody of this provider goes on until a person or a probe says so
    waits_for_human: bool = False
    guidance: str = ""


class Ended(msgspec.Struct, frozen=True, gc=False):
    """What is known of an attempt that is over, for its classification."""

    code: int | None = None
    signal: int | None = None
    stderr_tail: str = ""
    stdout_tail: str = ""
    output_bytes: int = 0
    stopped_for: ErrorClass | None = None  # crewd itself ended it, for this
    stopped_why: str = ""
