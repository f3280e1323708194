"""The pace: what lay between two rounds, and whether crewd may trust itself just now."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crewd.engine.pace import Pace
from crewd.model.event import Event
from tests.fakes.clock import FakeClock

INTERVAL = 5.0


class Rounds:
    """A pace, stepped by a clock that a test moves."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.pace = Pace.start(INTERVAL, warn_after=30.0)
        self.first = self.pace.step(self.clock.read(), pressure=0.0)

    def after(self, awake: float, asleep: float = 0.0, step: float = 0.0, pressure: float = 0.0) -> list[Event]:
        self.clock.suspend(asleep)
        self.clock.advance(awake)
        self.clock.step(step)
        return self.pace.step(self.clock.read(), pressure)

    def settled(self) -> "Rounds":
        """Past the first hold."""
        for _ in range(6):
            self.after(INTERVAL)
        assert not self.pace.hold.on
        return self


def types(events: list[Event]) -> list[str]:
    return [event.type for event in events]


def test_the_first_round_tells_that_nobody_may_get_worse_yet() -> None:
    rounds = Rounds()
    [event] = rounds.first
    assert event.type == "daemon.hold_began"
    assert event.data["seconds"] == 30.0
    assert event.at == rounds.clock.wall
    assert rounds.pace.running == rounds.pace.gap.counted == 0.0
    assert rounds.pace.regular


def test_the_end_of_a_hold_is_told_once() -> None:
    rounds = Rounds()
    told = [types(rounds.after(INTERVAL)) for _ in range(12)]
    assert told == [[]] * 5 + [["daemon.hold_ended"]] + [[]] * 6


@pytest.mark.parametrize(
    ("gap", "told", "seconds"),
    [
        ({"awake": 65.0}, ["daemon.stalled", "daemon.hold_began"], 60.0),
        ({"awake": 5.0, "asleep": 3600.0}, ["daemon.suspended", "daemon.hold_began"], 3600.0),
        ({"awake": 5.0, "step": -86_400.0}, ["daemon.clock_stepped"], -86_400.0),
        ({"awake": 5.0, "step": 86_400.0}, ["daemon.clock_stepped"], 86_400.0),
    ],
)
def test_what_was_odd_about_the_time_since_is_told(gap: dict[str, float], told: list[str], seconds: float) -> None:
    events = Rounds().settled().after(**gap)
    assert types(events) == told
    assert events[0].data["seconds"] == pytest.approx(seconds, abs=0.01)


def test_an_oddity_within_a_hold_begins_no_second_one() -> None:
    rounds = Rounds().settled()
    rounds.after(65.0)
    assert types(rounds.after(INTERVAL, asleep=60.0)) == ["daemon.suspended"]
    assert rounds.pace.hold.on


@pytest.mark.parametrize(
    "gap", [{"awake": 5.0, "asleep": 1e6}, {"awake": 1e6}, {"awake": 5.0, "step": 1e6}, {"awake": 5.0, "step": -1e6}]
)
def test_no_stall_suspend_or_step_adds_more_than_one_and_a_half_intervals(gap: dict[str, float]) -> None:
    rounds = Rounds().settled()
    before = rounds.pace.running
    rounds.after(**gap)
    assert rounds.pace.running - before <= 1.5 * INTERVAL


def test_rounds_that_were_woken_early_are_not_regular_until_an_interval_has_passed() -> None:
    rounds = Rounds()
    regular = []
    for _ in range(15):
        rounds.after(1.0)
        regular.append(rounds.pace.regular)
    assert regular == [False, False, False, False, True] * 3


def test_a_round_that_comes_a_little_early_is_regular() -> None:
    rounds = Rounds()
    rounds.after(4.6)
    assert rounds.pace.regular
    rounds.after(4.4)
    assert not rounds.pace.regular


def test_early_rounds_do_not_wear_the_hold_off() -> None:
    rounds = Rounds().settled()
    rounds.after(65.0)
    for _ in range(50):
        rounds.after(0.01)
    assert rounds.pace.hold.on


def test_slow_rounds_and_pressure_stretch_the_thresholds_and_on_time_they_relax() -> None:
    rounds = Rounds().settled()
    assert rounds.pace.health == 1.0
    rounds.after(15.0)
    assert rounds.pace.health == pytest.approx(3.0, abs=0.2)
    rounds.after(INTERVAL, pressure=100.0)
    assert rounds.pace.health == pytest.approx(2.0)
    rounds.after(INTERVAL)
    assert rounds.pace.health == 1.0


def test_sleep_is_no_slowness_of_crewd() -> None:
    rounds = Rounds().settled()
    rounds.after(INTERVAL, asleep=28_800.0)
    assert rounds.pace.health == 1.0


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.floats(min_value=0.0, max_value=1e4),
            st.sampled_from([0.0, 0.3, 60.0, 1e6]),
            st.sampled_from([0.0, -86_400.0, 0.5, 86_400.0]),
        ),
        max_size=40,
    )
)
def test_crewd_never_believes_to_have_watched_longer_than_it_was_awake(
    gaps: list[tuple[float, float, float]],
) -> None:
    rounds = Rounds()
    began, counted, regular_rounds = rounds.clock.mono, 0.0, 0
    for awake, asleep, step in gaps:
        rounds.after(awake, asleep, step)
        counted += rounds.pace.gap.counted
        regular_rounds += rounds.pace.regular
        assert 1.0 <= rounds.pace.health <= 5.0
        if asleep > 1.5 or awake > 3.1 * INTERVAL:
            assert rounds.pace.hold.on
    assert rounds.pace.running == pytest.approx(counted)
    assert rounds.pace.running <= rounds.clock.mono - began + 1e-6
    assert regular_rounds <= (rounds.clock.mono - began) / (0.9 * INTERVAL) + 1e-6
