"""Runs and their tasks, as a runtime's files tell them. What crewd itself concludes is in verdict.py."""

from enum import StrEnum
from typing import Any

import msgspec

from crewd.model.process import ProcessClaim


class RunStatus(StrEnum):
    QUEUED = "queued"
    PLANNING = "planning"
    RUNNING = "running"
    BLOCKED = "blocked"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"  # the runtime's word is in `status_text`


class TaskStatus(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"
    NEEDS_ATTENTION = "needs_attention"  # pi-crew: ended without a result
    UNKNOWN = "unknown"


# "blocked" is not here: a blocked run can go on.
RUN_ENDED = frozenset({RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED})
TASK_ENDED = frozenset(
    {
        TaskStatus.COMPLETED,
        TaskStatus.FAILED,
        TaskStatus.CANCELLED,
        TaskStatus.SKIPPED,
        TaskStatus.NEEDS_ATTENTION,
    }
)


class Waiting(msgspec.Struct, frozen=True, gc=False):
    """A declared wait. While it lasts the silence clock stands still; its age has an alert of its own."""

    reason: str  # "human", "throttled", "parked"
    since: float | None = None  # wall time, as written
    detail: str = ""


class Lease(msgspec.Struct, frozen=True, gc=False):
    """A worker's own word that it will be silent for `seconds` from the moment it was written."""

    seconds: float
    tool: str = ""


class Expectation(msgspec.Struct, frozen=True, gc=False):
    """How silent a task's own owner says that its worker may be, in seconds. None: as the settings say."""

    warn_after: float | None = None
    stale_after: float | None = None
    dead_after: float | None = None
    hung_after: float | None = None


class Usage(msgspec.Struct, frozen=True, gc=False):
    """Tokens and cost, summed over all model calls of a task so far."""

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0
    cost_usd: float | None = None  # None: unknown, which is not 0
    model: str = ""


def added(one: Usage, other: Usage) -> Usage:
    """Two usages added up. The cost is that of the parts whose cost is known; the later model names both."""
    costs = [each.cost_usd for each in (one, other) if each.cost_usd is not None]
    return Usage(
        input=one.input + other.input,
        output=one.output + other.output,
        cache_read=one.cache_read + other.cache_read,
        cache_write=one.cache_write + other.cache_write,
        cost_usd=sum(costs) if costs else None,
        model=other.model or one.model,
    )


class Task(msgspec.Struct, frozen=True, gc=False):
    """One task of a run, as its runtime wrote it."""

    task_id: str
    status: TaskStatus
    status_text: str  # the runtime's own word
    attempt: int = 1
    task_type: str = ""  # role or step: a name from the workflow, not free text
    agent: str = ""
    model: str = ""
    title: str = ""
    depends_on: tuple[str, ...] = ()
    started_at: float | None = None  # wall times as written
    finished_at: float | None = None
    error: str = ""
    claim: ProcessClaim | None = None
    # What changes when work moves. Compared for equality, never subtracted.
    token: tuple[Any, ...] = ()
    beat_at: float | None = None  # newest sign of life by the writer's clock: display and skew only
    waiting: Waiting | None = None
    lease: Lease | None = None
    tool: str = ""  # tool that the worker says it is inside of
    hint: str = ""  # tail of the worker's own words, at most 2 KiB, for the wedge diagnosis
    usage: Usage | None = None
    extra: dict[str, str] = {}  # fields that this version does not know, as JSON text, capped
    expectation: Expectation | None = None
    # Of an observed agent: digests of its latest tool calls, 4 bytes each. None: its runtime tells of none.
    calls: bytes | None = None
    streams: bool = False  # an agent whose every word is followed: with no tool open it waits for its model


class Run(msgspec.Struct, frozen=True, gc=False):
    """One run, as its runtime wrote it, with every task it names."""

    run_id: str
    runtime: str
    crew: str
    status: RunStatus
    status_text: str
    folder: str  # where it was found; its own idea of where it lives is ignored
    tasks: tuple[Task, ...] = ()
    goal: str = ""
    created_at: float | None = None
    updated_at: float | None = None
    waiting: Waiting | None = None
    runner: ProcessClaim | None = None
    usage: Usage | None = None
    extra: dict[str, str] = {}
