"""Alarms: an agent that goes in circles or burns tokens, and budgets that are nearly or wholly used.

Each cause is told once for each scope, by the worst that can be said of it. An alarm is said again for as long as it
holds, with newer figures: whoever hears it compares cause, scope and `then`.
"""

import math
from collections.abc import Iterator

from crewd.model.action import Alarm
from crewd.model.agent import AgentView
from crewd.model.plan import BudgetPlan, WatchPlan
from crewd.policy.spending import TOKENS_MAX, Spent

WARN = "warn"
WORSE = ("warn", "park", "stop")  # from left to right


def alarms(view: AgentView, plan: WatchPlan) -> tuple[Alarm, ...]:
    """Say what is wrong with what an agent does: at most one alarm for "loop" and one for "burn".

    Once an agent has told how its task ended there is nothing left to stop: what was counted is told, and no more.
    An agent whose output is not understood has not been counted.
    """
    if not view.understood:
        return ()
    return (*_worst(_loops(view, plan)), *_burn(view, plan))


def budget_alarms(scope: str, budget: BudgetPlan, used: Spent) -> tuple[Alarm, ...]:
    """Say that a budget is used up, or nearly. `scope`: "task", "run", "crew" or "day". At most one alarm.

    `warn_ratio` 0: nothing is said before the limit.
    """
    shares = sorted(_shares(budget, used), reverse=True)
    if not shares:
        return ()
    share, figures = shares[0]
    if share >= 1:
        return (Alarm("budget", scope, budget.on_exceeded, f"the budget of the {scope} is used up: {figures}"),)
    if 0 < budget.warn_ratio <= share:
        words = f"the budget of the {scope} is nearly used: {figures}, {min(99, round(share * 100))} % of it"
        return (Alarm("budget", scope, WARN, f"{words}; a warning comes from {budget.warn_ratio * 100:g} % on"),)
    return ()


def ratio(budget: BudgetPlan, used: Spent) -> float | None:
    """Which part of a budget is used: of tokens or of cost, whichever is more. None: it limits nothing known."""
    return max((share for share, _ in _shares(budget, used)), default=None)


def _loops(view: AgentView, plan: WatchPlan) -> Iterator[Alarm]:
    """What says that it goes in circles, the surest first. A count of 0: never."""
    if view.looped:
        # Its own word often comes with its end, and then it says why the task is not done.
        yield Alarm("loop", "task", plan.on_loop, f"the agent itself says that it goes in circles: {view.looped}")
    same_tool = f"it called one tool {view.repeats} times in a row with the same input"
    same_error = f"a tool failed {view.errors_repeated} times in a row with the same words"
    then = _unless_ended(view, plan.on_loop)
    if 0 < plan.same_tool_max <= view.repeats:
        yield Alarm("loop", "task", then, f"{same_tool}; same_tool_max is {plan.same_tool_max}")
    if 0 < plan.same_error_max <= view.errors_repeated:
        yield Alarm("loop", "task", then, f"{same_error}; same_error_max is {plan.same_error_max}")
    if 0 < plan.same_tool_warn <= view.repeats:
        yield Alarm("loop", "task", WARN, f"{same_tool}; same_tool_warn is {plan.same_tool_warn}")
    if 0 < plan.same_error_warn <= view.errors_repeated:
        yield Alarm("loop", "task", WARN, f"{same_error}; same_error_warn is {plan.same_error_warn}")


def _burn(view: AgentView, plan: WatchPlan) -> Iterator[Alarm]:
    """More tokens than usual since anything new. Below `burn_tokens_min` nothing burns; 0: never."""
    if plan.burn_tokens_min <= 0:
        return
    by_habit = plan.burn_factor * min(view.tokens_usual, TOKENS_MAX)
    if view.tokens_since_new <= max(plan.burn_tokens_min, by_habit):
        return
    limit = (
        f"{plan.burn_factor:g} times its usual {view.tokens_usual} are {by_habit:.0f}"
        if by_habit > plan.burn_tokens_min
        else f"burn_tokens_min is {plan.burn_tokens_min}"
    )
    words = f"it used {view.tokens_since_new} tokens since it last did anything new; {limit}"
    yield Alarm("burn", "task", _unless_ended(view, plan.on_burn), words)


def _unless_ended(view: AgentView, then: str) -> str:
    return WARN if view.ended else then


def _worst(found: Iterator[Alarm]) -> tuple[Alarm, ...]:
    """The one with the gravest consequence; of several such the first."""
    worst = max(found, key=lambda alarm: WORSE.index(alarm.then) if alarm.then in WORSE else 0, default=None)
    return () if worst is None else (worst,)


def _shares(budget: BudgetPlan, used: Spent) -> Iterator[tuple[float, str]]:
    """For each limit whose figure is known: which part of it is used, and both in words."""
    if budget.tokens is not None:
        yield _share(used.tokens, budget.tokens), f"{used.tokens} of {budget.tokens} tokens"
    if budget.cost_usd is not None and used.cost_usd is not None:
        figures = f"{used.cost_usd:.4f} of {budget.cost_usd:.4f} USD"
        yield _share(used.cost_usd, budget.cost_usd), figures


def _share(used: float, limit: float) -> float:
    """`used` / `limit`. A limit of nothing is used up from the start."""
    if limit <= 0:
        return math.inf
    return used / limit
