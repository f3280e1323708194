"""What is concluded from counts. The intervals are those of scipy 1.17 (binomtest(..).proportion_ci("wilson"))."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crewd.model.history import OUTCOMES, Quantiles, SummaryGroup
from crewd.model.run import Usage
from crewd.policy.summary import (
    GROUPS_SHOWN_MAX,
    group_names,
    laid_out,
    rank,
    success_rate,
    wilson,
    window_seconds,
)


@pytest.mark.parametrize(
    ("successes", "finished", "low", "high"),
    [
        (8, 10, 0.4902, 0.9433),
        (80, 85, 0.8696, 0.9746),
        (50, 50, 0.9287, 1.0),
        (45, 50, 0.7864, 0.9565),
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (1, 2, 0.0945, 0.9055),
        (1, 1, 0.2065, 1.0),
        (950, 1000, 0.9347, 0.9619),
    ],
)
def test_the_interval_is_wilsons(successes: int, finished: int, low: float, high: float) -> None:
    interval = wilson(successes, finished)
    assert interval is not None
    assert (round(interval[0], 4), round(interval[1], 4)) == (low, high)


def test_nothing_finished_has_no_rate_and_no_interval() -> None:
    assert wilson(0, 0) is None
    assert success_rate({}) is None
    assert success_rate({"cancelled": 3, "skipped": 2, "interrupted": 1}) is None


@given(st.integers(1, 10_000), st.data())
def test_the_interval_holds_the_rate_and_stays_between_none_and_all(finished: int, data: st.DataObject) -> None:
    successes = data.draw(st.integers(0, finished))
    interval = wilson(successes, finished)
    assert interval is not None
    assert 0.0 <= interval[0] <= successes / finished <= interval[1] <= 1.0


@given(st.integers(1, 100_000), st.integers(1, 100))
def test_a_rank_is_the_first_that_so_many_percent_do_not_exceed(count: int, percent: int) -> None:
    place = rank(count, percent)
    assert 1 <= place <= count
    assert place * 100 >= count * percent
    assert (place - 1) * 100 < count * percent


def test_what_timed_out_counts_against_and_what_was_cancelled_not_at_all() -> None:
    assert success_rate({"completed": 8, "timed_out": 2}) == 0.8
    assert success_rate({"completed": 1, "failed": 1, "cancelled": 9, "interrupted": 9}) == 0.5


@pytest.mark.parametrize(
    ("text", "seconds"), [("1h", 3600), ("24h", 86_400), ("7d", 604_800), ("90d", 7_776_000), ("2160h", 7_776_000)]
)
def test_a_window_is_hours_or_days(text: str, seconds: float) -> None:
    assert window_seconds(text) == seconds


@pytest.mark.parametrize(
    "text", ["91d", "-1h", "7", "0h", "2161h", "", "1w", "1h ", " 1h", "1.5h", "٣d", "1H", "01h"]
)
def test_what_is_no_window_is_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match="1h to 90d"):
        window_seconds(text)


def test_names_to_group_by_are_known_and_stand_once() -> None:
    assert group_names("") == ()
    assert group_names("model,task_type") == ("model", "task_type")
    for wrong, what in [("colour", "'colour'"), ("model,", "''"), ("model,model", "twice"), (" model", "' model'")]:
        with pytest.raises(ValueError, match=what):
            group_names(wrong)
    with pytest.raises(ValueError, match="at most 4"):
        group_names("task_type,executor,model,crew,runtime")


def test_nothing_is_laid_out_as_nothing_and_not_as_zero() -> None:
    told = laid_out([SummaryGroup(key={})], "attempt", ())
    assert (told["total"], told["success_rate"], told["ci95"]) == (0, None, None)
    assert told["completed"] == {"count": 0, "p50_seconds": None, "p95_seconds": None}
    assert told["usage"] == dict.fromkeys(("input", "output", "cache_read", "cache_write", "cost_usd"))
    assert told["outcomes"] == dict.fromkeys(OUTCOMES, 0)


def test_figures_are_rounded_to_four_decimals() -> None:
    group = SummaryGroup(
        key={},
        outcomes={"completed": 80, "failed": 5},
        completed=Quantiles(80, 1.000049, 2.00006),
        usage=Usage(10, 20, 0, 0, 0.12345678),
        with_usage=3,
        with_cost=1,
    )
    told = laid_out([group], "attempt", ())
    assert (told["success_rate"], told["ci95"]) == (0.9412, [0.8696, 0.9746])
    assert (told["completed"]["p50_seconds"], told["completed"]["p95_seconds"]) == (1.0, 2.0001)
    assert (told["usage"]["cost_usd"], told["attempts_with_usage"], told["attempts_with_cost"]) == (0.123457, 3, 1)


def test_a_cost_that_nobody_reported_is_null_beside_tokens() -> None:
    told = laid_out([SummaryGroup(key={}, usage=Usage(5, 6), with_usage=1)], "task", ())
    assert (told["usage"]["input"], told["usage"]["cost_usd"], told["tasks_with_usage"]) == (5, None, 1)


def test_groups_lie_within_groups_with_the_same_keys_the_largest_first() -> None:
    def group(many: int, **key: str) -> SummaryGroup:
        return SummaryGroup(key=key, outcomes={"completed": many})

    groups = [
        group(5),
        group(2, task_type="code"),
        group(3, task_type="test"),
        group(2, task_type="code", executor="x"),
        group(1, task_type="test", executor="x"),
        group(2, task_type="test", executor="unknown"),
    ]
    told = laid_out(groups, "attempt", ("task_type", "executor"))
    assert [each["key"] for each in told["groups"]] == [{"task_type": "test"}, {"task_type": "code"}]
    inner = told["groups"][0]["groups"]
    assert [each["key"]["executor"] for each in inner] == ["unknown", "x"]
    assert told.keys() == told["groups"][0].keys() == inner[0].keys()


def test_of_very_many_groups_the_largest_are_told_and_the_others_counted() -> None:
    groups = [
        SummaryGroup(key={"model": f"m{number}"}, outcomes={"failed": number})
        for number in range(GROUPS_SHOWN_MAX + 3)
    ]
    told = laid_out([SummaryGroup(key={}), *groups], "attempt", ("model",))
    assert (len(told["groups"]), told["groups_left_out"]) == (GROUPS_SHOWN_MAX, 3)
    assert told["groups"][0]["key"] == {"model": f"m{GROUPS_SHOWN_MAX + 2}"}
