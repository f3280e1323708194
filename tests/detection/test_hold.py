"""The hold: after crewd has been away, nobody may get worse for a while of observed time."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crewd.detection.hold import HOLD_ROUNDS, NO_HOLD, Hold, first_hold, hold_after
from crewd.detection.silence import Gap, gap_between
from tests.fakes.clock import FakeClock

INTERVAL = 5.0


def gap(awake: float = INTERVAL, asleep: float = 0.0) -> Gap:
    clock = FakeClock()
    before = clock.read()
    clock.suspend(asleep)
    clock.advance(awake)
    return gap_between(before, clock.read(), INTERVAL)


def after(hold: Hold, *gaps: Gap) -> Hold:
    for each in gaps:
        hold = hold_after(hold, each, INTERVAL)
    return hold


def test_a_fresh_crewd_holds_for_one_warn_interval() -> None:
    hold = first_hold(30.0)
    assert hold.on
    assert hold.seconds_left == 30.0
    assert "started" in hold.why
    assert after(hold, *[gap()] * 5).on
    assert not after(hold, *[gap()] * 6).on


def test_ordinary_rounds_begin_no_hold() -> None:
    assert after(NO_HOLD, gap(), gap(1.0), gap(15.0)) == NO_HOLD


@pytest.mark.parametrize(
    ("odd", "why"),
    [
        (gap(16.0), "stood still"),
        (gap(awake=5.0, asleep=3600.0), "slept 3600 s"),
        (gap(awake=60.0, asleep=3600.0), "slept"),
    ],
)
def test_a_stall_and_a_suspend_begin_a_hold_that_says_why(odd: Gap, why: str) -> None:
    hold = after(NO_HOLD, odd)
    assert hold.on
    assert hold.seconds_left == (HOLD_ROUNDS + 0.5) * INTERVAL
    assert why in hold.why


def test_a_hold_outlasts_two_regular_rounds_and_then_ends() -> None:
    hold = after(NO_HOLD, gap(16.0))
    assert after(hold, gap(), gap()).on
    assert after(hold, *[gap()] * (HOLD_ROUNDS + 1)) == NO_HOLD


def test_rounds_that_were_woken_early_do_not_wear_a_hold_off() -> None:
    hold = after(NO_HOLD, gap(16.0))
    assert after(hold, *[gap(0.01)] * 100).on


@pytest.mark.parametrize(("odd", "why"), [(gap(16.0), "stood still"), (gap(asleep=60.0), "slept")])
def test_a_short_absence_does_not_shorten_a_longer_hold(odd: Gap, why: str) -> None:
    hold = after(first_hold(30.0), odd)
    assert hold.seconds_left == 30.0
    assert why in hold.why


def test_the_reason_of_a_hold_stays_until_it_ends() -> None:
    hold = after(NO_HOLD, gap(asleep=100.0), gap())
    assert hold.on
    assert "slept" in hold.why


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0.0, 100.0), st.sampled_from([0.0, 0.5, 2.0, 1e5])), min_size=1, max_size=30))
def test_a_hold_is_on_after_every_absence_and_never_longer_than_asked_for(gaps: list[tuple[float, float]]) -> None:
    hold = first_hold(30.0)
    for awake, asleep in gaps:
        before, seen = hold, gap(awake, asleep)
        hold = hold_after(hold, seen, INTERVAL)
        assert 0.0 <= hold.seconds_left <= max(before.seconds_left, (HOLD_ROUNDS + 0.5) * INTERVAL)
        if seen.late or seen.slept:
            assert hold.on
            assert hold.seconds_left >= (HOLD_ROUNDS + 0.5) * INTERVAL
        else:
            assert hold.seconds_left <= before.seconds_left
        assert hold.on == bool(hold.why)
