"""What a task used in tokens and cost, out of the two records that pi-crew keeps of it."""

from sys import intern

from crewd.model.run import Usage
from crewd.sources.fields import Fields
from crewd.sources.pi_crew.task_record import Spent, TaskRecord

NOTHING_USED = Usage()  # one for all tasks that have only begun


def usage_of(record: TaskRecord, of: Fields, before: Usage | None) -> Usage | None:
    """Prefer the sum over all calls; `usage` alone is that of the last call. What is as before is shared with it."""
    total = record.lifetime_usage if of.get("lifetimeUsage") else None
    last = record.usage if of.get("usage") else None
    best = total or last
    if best is None:
        return None
    # The sum leaves out what came from a cache and what it cost. The last call's figures are the whole truth
    # only where there was one call.
    only_call = total is None or (record.agent_progress is not None and record.agent_progress.turns == 1)
    cost = total.cost if total is not None else None
    used = Usage(
        input=best.input or 0,
        output=best.output or 0,
        cache_read=_cached(total, last, only_call),
        cache_write=best.cache_write or 0,
        cost_usd=last.cost if last is not None and cost is None and only_call else cost,
        model=intern((record.model_routing.resolved or "")[:128]) if record.model_routing else "",
    )
    known = before if before is not None else NOTHING_USED
    return known if used == known else used


def _cached(total: Spent | None, last: Spent | None, only_call: bool) -> int:
    if total is not None and total.cache_read:
        return total.cache_read
    return (last.cache_read or 0) if last is not None and only_call else 0
