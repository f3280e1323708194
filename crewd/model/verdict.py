"""Verdicts: how a worker is, why, and which rule said so."""

from enum import StrEnum

import msgspec


class Level(StrEnum):
    """Where a worker stands. The first four are ordered, from well to gone; the other two lie outside."""

    HEALTHY = "healthy"
    WARN = "warn"
    STALE = "stale"
    DEAD = "dead"
    WAITING = "waiting"
    UNREADABLE = "unreadable"


class Reason(StrEnum):
    """The row of the evidence table that fitted (docs/detection.md)."""

    BEATING = "beating"
    LEASED = "leased"
    SILENT = "silent"
    STOPPED = "stopped"
    BUSY = "busy"
    EXITED = "exited"
    HUNG = "hung"
    PRESUMED = "presumed"
    HUMAN = "human"
    THROTTLED = "throttled"
    PARKED = "parked"
    UNREADABLE = "unreadable"


class Wedge(StrEnum):
    """Why a living worker is silent (docs/detection.md)."""

    TOOL_RUNNING = "tool_running"
    API_STREAM_HANG = "api_stream_hang"
    WAITING_HUMAN = "waiting_human"
    RATE_LIMITED = "rate_limited"
    AUTH_EXPIRED = "auth_expired"
    CONTEXT_EXHAUSTED = "context_exhausted"
    CPU_LOOP = "cpu_loop"
    STOPPED = "stopped"
    DISK_FULL = "disk_full"
    UNKNOWN = "unknown"


class Outcome(StrEnum):
    """What the truth said of a `dead` verdict, once it arrived."""

    OPEN = "open"
    TRUE = "true"
    FALSE = "false"


RANK = {Level.HEALTHY: 0, Level.WARN: 1, Level.STALE: 2, Level.DEAD: 3}
LEVEL_AT = (Level.HEALTHY, Level.WARN, Level.STALE, Level.DEAD)


class Verdict(msgspec.Struct, frozen=True, gc=False):
    """What the evidence of this round says of one worker, before hysteresis, hold and brake have their say."""

    level: Level
    reason: Reason
    because: str  # one sentence for a person, without figures: it stands as long as the level does
    row: int  # of the evidence table, from 1
    # The silence (seconds) at which this verdict would change if nothing else does; None: never by time alone.
    until_silence: float | None = None


class Standing(msgspec.Struct, frozen=True, gc=False):
    """Where a worker stands after hysteresis: what crewd tells the world."""

    level: Level = Level.HEALTHY
    reason: Reason = Reason.BEATING
    because: str = "beating"
    since: float = 0.0  # wall time of the latest change of level, for display
    worse_rounds: int = 0  # rounds in a row in which the verdict was worse than the level
    changes: tuple[float, ...] = ()  # observed-clock times of the latest changes, for flapping
    flapping_until: float | None = None  # observed-clock time
    held_by: str = ""  # the rule that kept it from getting worse: hold, brake, hysteresis
    wedge: Wedge | None = None
    level_before: Level = Level.HEALTHY  # where it stood before it waited or could not be read


class DeadVerdict(msgspec.Struct, frozen=True, gc=False):
    """One `dead` verdict, open until the truth about it arrives. There is one per (run, task, attempt) at most."""

    run_id: str
    task_id: str
    attempt: int
    runtime: str
    crew: str
    reason: Reason
    opened_at: float  # wall time
    last_life_at: float | None  # wall time of the last proven life, or of the exit
    latency: float  # seconds from the last proven life, or the exit, to the verdict, on the observed clock
    outcome: Outcome = Outcome.OPEN
    settled_at: float | None = None
    because: str = ""


class Incident(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Something that a person should know, open while it lasts. One open incident per (subject, cause)."""

    subject: str  # model/incident.subject_of, or "crewd"
    cause: str  # dead, silent, stopped, unreadable, waiting, burn, mass_brake, dead_letters:CREW (docs/incidents.md)
    severity: str  # critical, warning, info
    summary: str
    opened_at: float
    crew: str = ""
    run_id: str = ""
    task_id: str = ""
    resolved_at: float | None = None
    kind: str = ""  # which of the things that this cause may mean: the reason of a wait, a diagnosis, a common cause
    updated_at: float | None = None  # wall time of its latest change
    openings: int = 1  # how often it opened: more than once, where it came back soon
    penalty: float = 0.0  # for opening often (policy/damping.py), as of the wall time beside it
    penalty_at: float = 0.0
    damped: bool = False  # it opens so often that it is recorded, and nobody is to be woken
    acknowledged_by: str = ""
    acknowledged_at: float | None = None
    snoozed_by: str = ""
    snoozed_until: float | None = None  # wall time
    note: str = ""  # of whoever acknowledged or snoozed it
    crews: tuple[str, ...] = ()  # of one that concerns several: whose it is
    anew: int = 0  # how often it was news again while it was open: its snooze ended, or more of it happened
