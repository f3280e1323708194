"""Only time in which crewd was awake and looked may count, whatever the three clocks do."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crewd.detection.silence import COUNTED_FACTOR, Gap, gap_between
from crewd.model.moment import Reading
from tests.fakes.clock import FakeClock

INTERVAL = 5.0
MORE_THAN_A_JUMP = 1.001

oddities = st.lists(
    st.tuples(
        st.sampled_from(["advance", "suspend", "step back", "step on"]),
        st.floats(min_value=0.0, max_value=40 * 86_400.0),
    ),
    max_size=6,
)


def let_happen(clock: FakeClock, happenings: list[tuple[str, float]]) -> None:
    for what, size in happenings:
        match what:
            case "advance":
                clock.advance(size)
            case "suspend":
                clock.suspend(size)
            case "step back":
                clock.step(-size)
            case "step on":
                clock.step(size)


def gap_after(*happenings: tuple[str, float], interval: float = INTERVAL) -> Gap:
    clock = FakeClock()
    before = clock.read()
    let_happen(clock, list(happenings))
    return gap_between(before, clock.read(), interval)


@pytest.mark.parametrize(
    ("happenings", "counted", "late", "slept", "stepped"),
    [
        ([("advance", 5.0)], 5.0, False, False, False),
        ([("advance", 0.0)], 0.0, False, False, False),
        ([("advance", 1.25)], 1.25, False, False, False),  # woken early
        ([("advance", 7.0)], 7.0, False, False, False),  # a little slow
        ([("advance", 8.0)], 7.5, False, False, False),  # slow: what is beyond one and a half does not count
        ([("advance", 15.0)], 7.5, False, False, False),  # three intervals are not yet a stall
        ([("advance", 15.01)], 7.5, True, False, False),
        ([("advance", 86_400.0)], 7.5, True, False, False),
        ([("advance", 5.0), ("suspend", 0.5)], 5.0, False, False, False),
        ([("advance", 5.0), ("suspend", 28_800.0)], 5.0, False, True, False),
        ([("advance", 20.0), ("suspend", 3600.0)], 7.5, True, True, False),
        ([("advance", 5.0), ("step on", 0.5)], 5.0, False, False, False),  # slewing is no step
        ([("advance", 5.0), ("step on", 3600.0)], 5.0, False, False, True),
        ([("advance", 5.0), ("step back", 86_400.0)], 5.0, False, False, True),
        ([("suspend", 3600.0), ("advance", 2.0), ("step back", 3600.0)], 2.0, False, True, True),
    ],
)
def test_what_lay_between_two_rounds(
    happenings: list[tuple[str, float]], counted: float, late: bool, slept: bool, stepped: bool
) -> None:
    gap = gap_after(*happenings)
    assert gap.counted == pytest.approx(counted, abs=1e-6)
    assert (gap.late, gap.slept, gap.stepped) == (late, slept, stepped)


def test_a_suspend_is_not_taken_for_a_step_of_the_wall_clock() -> None:
    gap = gap_after(("suspend", 3600.0), ("advance", 5.0))
    assert gap.asleep == pytest.approx(3600.0)
    assert gap.step == pytest.approx(0.0, abs=1e-5)
    assert not gap.stepped


def test_a_stall_is_measured_beyond_the_planned_interval() -> None:
    assert gap_after(("advance", 65.0)).stall == pytest.approx(60.0)
    assert gap_after(("advance", 14.0)).stall == 0.0


def test_a_monotonic_clock_that_went_back_counts_nothing() -> None:
    gap = gap_between(Reading(100.0, 50.0, 50.0), Reading(100.0, 40.0, 40.0), INTERVAL)
    assert gap.seconds == gap.counted == 0.0


@settings(deadline=None)
@given(happenings=oddities, interval=st.floats(min_value=1.0, max_value=60.0))
def test_no_stall_suspend_or_step_of_any_size_adds_more_than_one_and_a_half_intervals(
    happenings: list[tuple[str, float]], interval: float
) -> None:
    gap = gap_after(*happenings, interval=interval)
    assert 0.0 <= gap.counted <= COUNTED_FACTOR * interval == 1.5 * interval


@settings(deadline=None)
@given(happenings=oddities)
def test_no_more_counts_than_crewd_was_awake(happenings: list[tuple[str, float]]) -> None:
    awake = sum(size for what, size in happenings if what == "advance")
    assert gap_after(*happenings).counted <= awake + 1e-6


@settings(deadline=None)
@given(happenings=oddities, step=st.floats(min_value=-1e7, max_value=1e7))
def test_a_step_of_the_wall_clock_changes_nothing_but_what_is_said_of_it(
    happenings: list[tuple[str, float]], step: float
) -> None:
    plain, stepped = gap_after(*happenings), gap_after(*happenings, ("step on", step))
    assert (plain.counted, plain.late, plain.slept, plain.stall, plain.asleep) == (
        stepped.counted,
        stepped.late,
        stepped.slept,
        stepped.stall,
        stepped.asleep,
    )


@settings(deadline=None)
@given(asleep=st.floats(min_value=MORE_THAN_A_JUMP, max_value=1e7), awake=st.floats(min_value=0.0, max_value=100.0))
def test_every_suspend_of_more_than_a_second_is_noticed(asleep: float, awake: float) -> None:
    assert gap_after(("suspend", asleep), ("advance", awake)).slept
