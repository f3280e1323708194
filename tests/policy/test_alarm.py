"""Alarms: exactly from which figure on, what follows, and that a person reads both figures and limit."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crewd.model.action import Alarm
from crewd.model.agent import AgentView
from crewd.model.plan import BudgetPlan, WatchPlan
from crewd.policy.alarm import alarms, budget_alarms, ratio
from crewd.policy.spending import Spent

PLAN = WatchPlan()  # loops: 5 and 20, stop; burn: 200,000 or 8 times the usual, warn
BUDGET = BudgetPlan(tokens=1000, cost_usd=5.0)


def seen(**more: Any) -> AgentView:
    return AgentView("claude", **more)


def what(found: tuple[Alarm, ...]) -> list[tuple[str, str, str]]:
    return [(alarm.cause, alarm.scope, alarm.then) for alarm in found]


def test_an_agent_that_does_nothing_odd_raises_no_alarm() -> None:
    assert alarms(seen(), PLAN) == ()
    busy = seen(repeats=4, errors_repeated=4, tokens_since_new=200_000, tokens_usual=24_000)
    assert alarms(busy, PLAN) == ()


@pytest.mark.parametrize("counted", ["repeats", "errors_repeated"])
@pytest.mark.parametrize(
    ("count", "then"), [(0, []), (4, []), (5, ["warn"]), (19, ["warn"]), (20, ["stop"]), (10_000, ["stop"])]
)
def test_a_loop_is_warned_of_at_five_and_ended_at_twenty(counted: str, count: int, then: list[str]) -> None:
    assert [alarm.then for alarm in alarms(seen(**{counted: count}), PLAN)] == then


def test_the_words_name_the_count_and_the_limit_that_it_met() -> None:
    assert alarms(seen(repeats=7), PLAN) == (
        Alarm("loop", "task", "warn", "it called one tool 7 times in a row with the same input; same_tool_warn is 5"),
    )
    assert alarms(seen(errors_repeated=21), PLAN) == (
        Alarm("loop", "task", "stop", "a tool failed 21 times in a row with the same words; same_error_max is 20"),
    )


@pytest.mark.parametrize("then", ["stop", "park", "warn"])
def test_what_follows_a_loop_is_as_the_plan_says(then: str) -> None:
    plan = WatchPlan(on_loop=then)
    for view in (seen(repeats=20), seen(errors_repeated=20), seen(looped="Loop detected, stopping execution")):
        assert what(alarms(view, plan)) == [("loop", "task", then)]


def test_its_own_word_that_it_loops_counts_at_once_and_is_told() -> None:
    (alarm,) = alarms(seen(looped="Loop detected, stopping execution", repeats=5), PLAN)
    assert alarm.then == "stop"
    assert alarm.words == "the agent itself says that it goes in circles: Loop detected, stopping execution"


def test_of_several_loops_the_worst_is_told_and_only_that() -> None:
    (alarm,) = alarms(seen(repeats=19, errors_repeated=20), PLAN)
    assert (alarm.then, "same_error_max" in alarm.words) == ("stop", True)
    # Where nothing but a warning follows, the surer sign is told.
    (alarm,) = alarms(seen(repeats=19, errors_repeated=20), WatchPlan(on_loop="warn"))
    assert (alarm.then, "same_error_max" in alarm.words) == ("warn", True)


def test_a_count_of_nothing_means_never() -> None:
    never = WatchPlan(same_tool_warn=0, same_tool_max=0, same_error_warn=0, same_error_max=0, burn_tokens_min=0)
    assert alarms(seen(repeats=10**9, errors_repeated=10**9, tokens_since_new=10**12), never) == ()
    assert what(alarms(seen(repeats=20), WatchPlan(same_tool_warn=0))) == [("loop", "task", "stop")]
    assert what(alarms(seen(repeats=20), WatchPlan(same_tool_max=0))) == [("loop", "task", "warn")]
    assert alarms(seen(), WatchPlan(same_tool_warn=0, same_tool_max=0)) == ()


@pytest.mark.parametrize(
    ("since_new", "usual", "burns"),
    [
        (200_000, 0, False),
        (200_001, 0, True),
        (200_000, 25_000, False),  # 8 x 25,000 is the same limit
        (200_001, 25_000, True),
        (240_000, 30_000, False),
        (240_001, 30_000, True),
        (200_001, 30_000, False),
    ],
)
def test_tokens_burn_above_the_floor_and_above_eight_times_the_usual(since_new: int, usual: int, burns: bool) -> None:
    found = alarms(seen(tokens_since_new=since_new, tokens_usual=usual), PLAN)
    assert what(found) == ([("burn", "task", "warn")] if burns else [])


def test_the_words_of_a_burn_name_the_limit_that_was_passed() -> None:
    (alarm,) = alarms(seen(tokens_since_new=250_000, tokens_usual=100), PLAN)
    assert alarm.words == "it used 250000 tokens since it last did anything new; burn_tokens_min is 200000"
    (alarm,) = alarms(seen(tokens_since_new=250_000, tokens_usual=30_000), PLAN)
    assert alarm.words == "it used 250000 tokens since it last did anything new; 8 times its usual 30000 are 240000"


def test_a_loop_and_a_burn_are_two_alarms() -> None:
    view = seen(repeats=20, tokens_since_new=10**6)
    assert what(alarms(view, WatchPlan(on_burn="park"))) == [("loop", "task", "stop"), ("burn", "task", "park")]


def test_an_agent_that_has_told_its_end_is_not_ended_any_more() -> None:
    view = seen(ended=True, repeats=20, tokens_since_new=10**6)
    assert what(alarms(view, WatchPlan(on_burn="stop"))) == [("loop", "task", "warn"), ("burn", "task", "warn")]
    # gemini tells its loop and its end in one breath, and calls it a success.
    assert what(alarms(seen(ended=True, looped="Loop detected"), PLAN)) == [("loop", "task", "stop")]


def test_what_is_not_understood_was_not_counted() -> None:
    assert alarms(seen(understood=False, repeats=20, looped="x", tokens_since_new=10**6), PLAN) == ()


@pytest.mark.parametrize(
    ("tokens", "then"),
    [(0, []), (799, []), (800, ["warn"]), (999, ["warn"]), (1000, ["stop"]), (5000, ["stop"])],
)
def test_a_budget_is_warned_of_at_four_fifths_and_ended_at_its_limit(tokens: int, then: list[str]) -> None:
    found = budget_alarms("run", BudgetPlan(tokens=1000), Spent(tokens))
    assert what(found) == [("budget", "run", each) for each in then]


@pytest.mark.parametrize(
    ("cost", "then"), [(None, []), (3.99, []), (4.0, ["warn"]), (4.99, ["warn"]), (5.0, ["stop"])]
)
def test_so_is_one_of_money_where_the_cost_is_known(cost: float | None, then: list[str]) -> None:
    found = budget_alarms("day", BudgetPlan(cost_usd=5.0), Spent(10**9, cost))
    assert [alarm.then for alarm in found] == then


@pytest.mark.parametrize("limit", [1, 3, 7, 10, 1000, 999_999, 10**9, 10**15])
def test_the_limit_itself_is_the_first_figure_that_exceeds_it(limit: int) -> None:
    budget = BudgetPlan(tokens=limit, on_exceeded="park")
    assert what(budget_alarms("task", budget, Spent(limit))) == [("budget", "task", "park")]
    assert "park" not in {alarm.then for alarm in budget_alarms("task", budget, Spent(limit - 1))}


def test_of_tokens_and_cost_the_one_that_is_nearer_its_limit_is_told() -> None:
    assert budget_alarms("crew", BUDGET, Spent(850, 4.5)) == (
        Alarm(
            "budget",
            "crew",
            "warn",
            "the budget of the crew is nearly used: 4.5000 of 5.0000 USD, 90 % of it; a warning comes from 80 % on",
        ),
    )
    assert budget_alarms("crew", BUDGET, Spent(1200, 4.5)) == (
        Alarm("budget", "crew", "stop", "the budget of the crew is used up: 1200 of 1000 tokens"),
    )


def test_what_is_not_used_up_is_never_called_wholly_used() -> None:
    (alarm,) = budget_alarms("day", BudgetPlan(tokens=10**6), Spent(999_999))
    assert "99 % of it" in alarm.words


@pytest.mark.parametrize("then", ["stop", "park", "warn"])
def test_what_follows_a_spent_budget_is_as_the_plan_says(then: str) -> None:
    (alarm,) = budget_alarms("task", BudgetPlan(tokens=10, on_exceeded=then), Spent(10))
    assert alarm.then == then


def test_no_warning_comes_before_the_limit_where_none_is_wanted() -> None:
    budget = BudgetPlan(tokens=10, warn_ratio=0.0)
    assert budget_alarms("task", budget, Spent(9)) == ()
    assert len(budget_alarms("task", budget, Spent(10))) == 1


def test_no_budget_raises_no_alarm_and_has_no_ratio() -> None:
    assert budget_alarms("task", BudgetPlan(), Spent(10**12, 1e6)) == ()
    assert ratio(BudgetPlan(), Spent(10**12, 1e6)) is None
    assert ratio(BudgetPlan(cost_usd=1.0), Spent(10)) is None


def test_the_ratio_is_the_larger_of_the_two() -> None:
    assert ratio(BUDGET, Spent(500, 1.0)) == 0.5
    assert ratio(BUDGET, Spent(500, 4.0)) == 0.8
    assert ratio(BUDGET, Spent(500)) == 0.5
    assert ratio(BUDGET, Spent(2500, 4.0)) == 2.5


def test_a_budget_of_nothing_is_used_up_from_the_start() -> None:
    assert what(budget_alarms("day", BudgetPlan(tokens=0), Spent())) == [("budget", "day", "stop")]
    assert ratio(BudgetPlan(tokens=0), Spent()) == math.inf


counts = st.integers(0, 30) | st.integers(0, 10**400)
consequences = st.sampled_from(["warn", "park", "stop"])
plans = st.builds(
    WatchPlan,
    same_tool_warn=st.integers(0, 10),
    same_tool_max=st.integers(0, 30),
    same_error_warn=st.integers(0, 10),
    same_error_max=st.integers(0, 30),
    on_loop=consequences,
    burn_tokens_min=st.integers(0, 10**6),
    burn_factor=st.floats(0, 100),
    on_burn=consequences,
)
views = st.builds(
    AgentView,
    st.just("pi"),
    understood=st.booleans(),
    ended=st.booleans(),
    repeats=counts,
    errors_repeated=counts,
    tokens_since_new=counts,
    tokens_usual=counts,
    looped=st.sampled_from(["", "in circles"]),
)


@given(views, plans)
def test_each_cause_is_told_once_and_by_nothing_worse_than_was_planned(view: AgentView, plan: WatchPlan) -> None:
    found = alarms(view, plan)
    assert len({alarm.cause for alarm in found}) == len(found)
    for alarm in found:
        assert alarm.then in ("warn", plan.on_loop if alarm.cause == "loop" else plan.on_burn)
        assert alarm.words


@given(
    st.none() | st.integers(0, 10**18), st.none() | st.floats(0, 1e12), st.integers(0, 10**15),
    st.none() | st.floats(0, 1e9), st.floats(0, 1),
)  # fmt: skip
def test_a_budget_is_exceeded_exactly_where_one_of_its_limits_is_reached(
    tokens: int | None, cost: float | None, used: int, paid: float | None, warn_ratio: float
) -> None:
    budget = BudgetPlan(tokens=tokens, cost_usd=cost, warn_ratio=warn_ratio)
    found = budget_alarms("day", budget, Spent(used, paid))
    reached = (tokens is not None and used >= tokens) or (cost is not None and paid is not None and paid >= cost)
    assert ("stop" in {alarm.then for alarm in found}) == reached
    share = ratio(budget, Spent(used, paid))
    assert bool(found) == (share is not None and (share >= 1 or 0 < warn_ratio <= share))
