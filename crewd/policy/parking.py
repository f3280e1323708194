"""Parking: an agent whose provider limits it waits, and loses no attempt by it (docs/agents.md)."""

from crewd.model.action import Park
from crewd.model.failure import ErrorClass, Failure
from crewd.model.plan import TaskPlan
from crewd.policy.retry import named_wait

PARKS_MAX = 20  # of one budget of attempts: a limit that lasts longer wants a person
WAIT_MAX = 3600.0  # seconds, where the provider names no time
SPREAD = 0.1  # of the wait, upwards: everybody was told the same moment


def parked(plan: TaskPlan, failure: Failure, parks: int, now: float, roll: float) -> Park | None:
    """Decide whether an agent that was refused for a rate limit waits without spending an attempt; None: it does not.

    `parks`: how often it was parked before, in the present budget. `now`: wall time. `roll`: in [0, 1). The program
    itself has tried again before it gave up: whatever wait was named, the one that follows is no shorter than
    `watch.park_after`, and doubles. A task that may be started once is never started again.
    """
    watch = plan.watch
    if failure.error_class is not ErrorClass.RATE_LIMITED or not watch.park_after or plan.retry.max_attempts < 2:
        return None
    if parks >= PARKS_MAX:
        return None
    grown = min(WAIT_MAX, watch.park_after * 2.0 ** min(parks, 16))
    wait = max(named_wait(failure.retry_after), grown)
    return Park(now + wait * (1 + SPREAD * roll), f"its provider limits it; no attempt is spent: {failure.message}")
