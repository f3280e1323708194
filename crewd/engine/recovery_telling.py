"""The steps of recovery plans, the events that tell them, and the incidents that they call for."""

from typing import Any

import msgspec

from crewd.engine.recovery_options import RecoveryOptions
from crewd.model.event import Event
from crewd.model.recovery import CANCEL, PLAN_ENDED, RESUME, PlanState, RecoveryPlan
from crewd.model.verdict import Incident
from crewd.policy.recovery import Cell, Step, after

INTERRUPTED, RECOVERY_FAILED = "interrupted", "recovery_failed"


def taken(plan: RecoveryPlan, step: Step, wall: float, **words: Any) -> RecoveryPlan | None:
    """Take one step of a plan; None: nothing changes, or it is refused."""
    state = after(plan.state, step)
    if isinstance(state, Cell):
        return None
    times: dict[str, Any] = {"ended_at": wall if state in PLAN_ENDED else None}
    return msgspec.structs.replace(plan, state=state, **(times | words))


def plan_event(plan: RecoveryPlan, wall: float, actor: str = "daemon") -> Event:
    """Tell where a plan stands now."""
    data: dict[str, Any] = {
        "plan_id": plan.plan_id,
        "cause": plan.cause.value,
        "because": plan.because,
        "resumable": list(plan.resumable),
        "preserved": list(plan.preserved),
        "event_seq": plan.event_seq,
        "offers": list(plan.offers),
    }
    if plan.state is not PlanState.PLANNED:
        data |= {
            "action": plan.action,
            "by": plan.decided_by,
            "reason": plan.reason,
            "attempts": plan.attempts,
            "note": plan.note,
            "error": plan.error,
            "due_at": plan.due_at,
        }
    if plan.state in PLAN_ENDED and plan.first_applied_at is not None:
        data["duration_seconds"] = max(0.0, wall - plan.first_applied_at)
    retried = plan.state is PlanState.APPROVED and plan.due_at is not None
    kind = "recovery.retry_scheduled" if retried else f"recovery.{plan.state.value}"
    return Event(kind, wall, data, plan.run_id, runtime=plan.runtime, crew=plan.crew, actor=actor)


def plan_incidents(plan: RecoveryPlan, options: RecoveryOptions, wall: float) -> list[Incident]:
    match plan.state:
        case PlanState.PLANNED:
            cause, severity, summary = INTERRUPTED, "warning", f"{plan.run_id} was interrupted: {plan.because}. "
            summary += _what_next(plan, options)
        case PlanState.FAILED:
            cause, severity = RECOVERY_FAILED, "critical"
            summary = (
                f"the recovery of {plan.run_id} failed: {plan.error or plan.note}; look at its output with "
                f"`crewd recover show {plan.plan_id}`, mend it, and approve it again or recover the run by hand"
            )
        case _:
            return []
    return [Incident(plan.run_id, cause, severity, summary, wall, plan.crew, plan.run_id)]


def _what_next(plan: RecoveryPlan, options: RecoveryOptions) -> str:
    rule = options.rule(plan.runtime, plan.root)
    able = [action for action in plan.offers if rule.command_of(action)]
    if not able:
        return f"No command is configured for it (recovery.command); `crewd recover show {plan.plan_id}` has the plan"
    action = "" if able[0] == RESUME else f" --action {CANCEL}"
    return f"`crewd recover approve {plan.plan_id} --by NAME{action}` has it done"
