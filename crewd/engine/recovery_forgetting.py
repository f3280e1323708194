"""Which settled plans need not be remembered any longer. The ledger keeps them, and is asked before one is made."""

from collections.abc import Collection, Mapping

from crewd.engine.book import Entry
from crewd.model.recovery import PLAN_ENDED, RecoveryPlan
from crewd.model.run import RunStatus

KEPT_MAX = 1000  # settled plans, the newest; also what is recalled at a start (ledger/recall.py)
KEPT_FOR = 7 * 86400.0  # seconds after the end of a plan


def forgettable(
    plans: Mapping[str, RecoveryPlan], mattering: Collection[str], runs: Mapping[str, Entry], wall: float
) -> list[str]:
    """Name the settled plans to let go of: those whose run is gone, ended, or has a later plan, once that is long
    ago; and the oldest beyond KEPT_MAX. `mattering`: plans of which a person should still know, or that are at work.
    """
    latest = {plan.run_id: plan_id for plan_id, plan in plans.items()}  # in the order in which they changed
    settled = [plan for plan_id, plan in plans.items() if plan.state in PLAN_ENDED and plan_id not in mattering]
    settled.sort(key=lambda plan: plan.ended_at or plan.created_at)
    many = len(settled) - KEPT_MAX
    return [
        plan.plan_id
        for number, plan in enumerate(settled)
        if number < many
        or (wall - (plan.ended_at or plan.created_at) > KEPT_FOR and _is_over(plan, latest, runs.get(plan.run_id)))
    ]


def _is_over(plan: RecoveryPlan, latest: Mapping[str, str], entry: Entry | None) -> bool:
    return entry is None or entry.run.status is not RunStatus.RUNNING or latest[plan.run_id] != plan.plan_id
