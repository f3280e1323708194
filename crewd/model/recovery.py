"""Recovery plans: what crewd proposes for an interrupted run of another runtime, and what became of it."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Any, Protocol

import msgspec

from crewd.model.moment import rfc3339

RESUME, CANCEL = "resume", "cancel"


class PlanState(StrEnum):
    PLANNED = "planned"  # waits for a person's word; no time ever stands in for it
    APPROVED = "approved"  # waits for its command to be run
    DECLINED = "declined"
    APPLIED = "applied"  # its command runs or has run; whether the run moves is being watched
    VERIFIED = "verified"  # the run moved, or ended
    FAILED = "failed"  # the command failed for good, or the run did not move within the deadline
    WITHDRAWN = "withdrawn"  # the run moved by itself, or is gone


PLAN_ENDED = frozenset({PlanState.DECLINED, PlanState.VERIFIED, PlanState.FAILED, PlanState.WITHDRAWN})


class Cause(StrEnum):
    """How a run was interrupted."""

    RUNNER_EXITED = "runner_exited"  # its runner is gone, and nobody was at work
    ALL_EXITED = "all_exited"  # its runner and every worker are gone
    WORKERS_SILENT = "workers_silent"  # its runner is gone; workers that cannot be seen are dead by their silence


class LogSeen(msgspec.Struct, frozen=True, gc=False):
    """What the end of a run's event log says."""

    seq: int | None  # the highest number; None: the log could not be read, or is not what it should be
    ended: str = ""  # the type of the event that ended the run; "" = none did
    why: str = ""  # why `seq` is None


class Interruption(msgspec.Struct, frozen=True, gc=False):
    """A run that nobody works on any more, although its status says so."""

    cause: Cause
    because: str
    resumable: tuple[str, ...]  # tasks that have not ended
    preserved: tuple[str, ...]  # tasks that have: their results stay


class RecoveryPlan(msgspec.Struct, frozen=True, gc=False):
    """One plan for one interruption of one run. Times are wall times of crewd's clock, for display."""

    plan_id: str  # derived from the run and its runner: the same interruption has the same plan after a restart
    run_id: str
    runtime: str
    root: str  # key of the source, as `pi_crew:/path`
    crew: str
    folder: str
    cause: Cause
    because: str
    state: PlanState
    resumable: tuple[str, ...]
    preserved: tuple[str, ...]
    event_seq: int | None  # of the last event in the run's log; None: the log could not be read
    offers: tuple[str, ...]  # RESUME, CANCEL
    mark: str  # of how the run stood when it was planned: another mark later is progress
    created_at: float
    action: str = ""  # what was approved
    decided_at: float | None = None
    decided_by: str = ""  # an operator's name, or "auto"
    reason: str = ""  # theirs
    due_at: float | None = None  # approved: not applied before
    applied_at: float | None = None  # of the latest attempt
    first_applied_at: float | None = None
    ended_at: float | None = None
    attempts: int = 0  # of the command
    delay: float | None = None  # seconds before the latest retry
    output: str = ""  # the end of what the command said
    error: str = ""
    note: str = ""  # one sentence on why it stands where it stands


TIMES = ("created_at", "decided_at", "due_at", "applied_at", "first_applied_at", "ended_at")
HIDDEN = ("mark", "delay")  # of use to crewd alone


def portrait(plan: RecoveryPlan, *, output: bool = False) -> dict[str, Any]:
    """Lay a plan out as people and programs see it; what its command said, which may be anything, only on request."""
    plain: dict[str, Any] = msgspec.to_builtins(plan)
    plain["output"] = plan.output if output else None
    for name in TIMES:
        plain[name] = None if plain[name] is None else rfc3339(plain[name])
    return {name: value for name, value in plain.items() if name not in HIDDEN}


class Recoveries(Protocol):
    """What may be asked of recovery plans.

    `approve` and `decline` raise CrewdError: NothingMatched where there is no such plan, Refused where it is not in a
    state that allows it or its command is not configured, UsageProblem where the action is not offered.
    """

    def plans(self, *, state: str, limit: int) -> Sequence[RecoveryPlan]:
        """Tell plans, the newest first; "" as state means any."""

    def plan(self, plan_id: str) -> RecoveryPlan | None:
        """Tell one plan."""

    def command(self, plan: RecoveryPlan, action: str) -> tuple[str, ...]:
        """Tell the exact command that an action comes to now; (): none is configured."""

    async def approve(self, plan_id: str, *, action: str, by: str, reason: str, actor: str) -> RecoveryPlan:
        """Have a plan applied; "" as action means to resume where that is offered. Returns once it is durable."""

    async def decline(self, plan_id: str, *, by: str, reason: str, actor: str) -> RecoveryPlan:
        """Settle a plan without doing anything. Returns once it is durable."""
