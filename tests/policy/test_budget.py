"""The budget of retries: never more in any hour than it allows, whatever the clock does."""

from hypothesis import given
from hypothesis import strategies as st

from crewd.policy.budget import HOUR, spend

NOW = 1_800_000_000.0


def test_what_is_spent_is_remembered_until_there_is_none_left() -> None:
    used, free_at = spend((), NOW, 2)
    assert (used, free_at) == ((NOW,), None)
    used, free_at = spend(used, NOW + 10, 2)
    assert (used, free_at) == ((NOW, NOW + 10), None)
    assert spend(used, NOW + 20, 2) == (used, NOW + HOUR)


def test_the_oldest_use_becomes_free_after_an_hour_and_no_sooner() -> None:
    used = (NOW, NOW + 10)
    assert spend(used, NOW + HOUR - 0.001, 2)[1] == NOW + HOUR
    assert spend(used, NOW + HOUR, 2) == ((NOW + 10, NOW + HOUR), None)


def test_a_budget_that_was_lowered_waits_until_enough_have_become_free() -> None:
    used = (NOW, NOW + 10, NOW + 20)
    assert spend(used, NOW + 30, 1) == (used, NOW + 20 + HOUR)


def test_no_number_means_no_limit_and_nothing_to_remember() -> None:
    assert spend((NOW,) * 1000, NOW, 0) == ((), None)


def test_a_clock_that_was_set_back_holds_nobody_up_for_longer_than_an_hour() -> None:
    used, free_at = spend((NOW, NOW), NOW - 86_400.0, 2)
    assert free_at == NOW - 86_400.0 + HOUR
    assert spend(used, NOW - 86_400.0 + HOUR, 2)[1] is None


steps = st.lists(st.floats(min_value=0.0, max_value=2 * HOUR), max_size=60)


@given(steps, st.integers(1, 5), st.floats(0.0, 2e9))
def test_no_hour_sees_more_than_the_budget_and_a_promise_is_kept(
    passed: list[float], per_hour: int, began: float
) -> None:
    now, spent = began, list[float]()
    used: tuple[float, ...] = ()
    for seconds in passed:
        now += seconds
        used, free_at = spend(used, now, per_hour)
        assert len(used) <= per_hour
        if free_at is None:
            spent.append(now)
        else:
            assert now < free_at <= now + HOUR
            assert spend(used, free_at, per_hour)[1] is None
        assert sum(1 for at in spent if at + HOUR > now) <= per_hour


@given(st.lists(st.floats(-1e6, 1e6), max_size=30), st.integers(1, 5))
def test_whatever_the_clock_does_a_use_is_free_again_within_an_hour(steps: list[float], per_hour: int) -> None:
    now: float = NOW
    used: tuple[float, ...] = ()
    for step in steps:
        now += step
        used, free_at = spend(used, now, per_hour)
        assert free_at is None or free_at <= now + HOUR
