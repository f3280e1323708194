"""The crash-loop breaker: it slows what crashes again and again, never beyond its bound, and forgets by itself."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crewd.policy.crash_loop import CrashLoop, CrashLoopOptions, crashed, delay_of, is_crash

OPTIONS = CrashLoopOptions()  # three close together, 5 s doubling to 300 s, halved every 900 s
NOW = 1_800_000_000.0


def after_crashes(count: int, apart: float = 0.0) -> tuple[CrashLoop, float]:
    loop, now = CrashLoop(), NOW
    for number in range(count):
        now = NOW + number * apart
        loop = crashed(loop, now, OPTIONS)
    return loop, now


def test_what_never_crashed_starts_at_once() -> None:
    assert delay_of(CrashLoop(), NOW, OPTIONS) == 0.0


def test_below_the_threshold_nothing_waits_and_from_there_each_crash_doubles_the_wait() -> None:
    waits = [delay_of(*after_crashes(count), OPTIONS) for count in range(1, 12)]
    assert waits == [0.0, 0.0, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0, 300.0, 300.0]


def test_the_wait_is_over_when_it_has_been_waited() -> None:
    loop, now = after_crashes(4)
    assert [delay_of(loop, now + passed, OPTIONS) for passed in (0.0, 4.0, 9.5, 10.0, 1e6)] == [10, 6, 0.5, 0, 0]


def test_crashes_far_apart_are_no_loop() -> None:
    for count in range(30):
        assert delay_of(*after_crashes(count, apart=3600.0), OPTIONS) == 0.0


def test_a_loop_that_waits_as_it_is_told_goes_on_being_slowed() -> None:
    loop, now, waits = CrashLoop(), NOW, list[float]()
    for _ in range(60):
        loop = crashed(loop, now, OPTIONS)
        waits.append(delay_of(loop, now, OPTIONS))
        now += waits[-1] + 2.0
    assert min(waits[20:]) > 60.0


def test_a_quiet_time_undoes_even_a_long_loop() -> None:
    loop, now = after_crashes(10_000, apart=0.01)
    later = now + 4 * OPTIONS.half_life
    assert delay_of(crashed(loop, later, OPTIONS), later, OPTIONS) == 0.0


def test_a_tiny_delay_may_double_for_ever() -> None:
    options = CrashLoopOptions(delay=5e-324, delay_max=1e300)
    loop = CrashLoop()
    for _ in range(2_000):
        loop = crashed(loop, NOW, options)
    assert delay_of(loop, NOW, options) >= 0.0


def test_a_clock_that_was_set_back_makes_nobody_wait_for_it() -> None:
    loop, now = after_crashes(9)
    assert delay_of(loop, now - 30.0, OPTIONS) == 300.0  # a clock that is corrected
    assert delay_of(loop, now - 3600.0, OPTIONS) == 0.0
    assert crashed(loop, now - 3600.0, OPTIONS).at == now - 3600.0


@pytest.mark.parametrize(
    ("lasted", "crash"), [(0.0, True), (9.9, True), (10.0, False), (-1.0, False), (3600.0, False)]
)
def test_only_what_ends_soon_after_its_start_has_crashed(lasted: float, crash: bool) -> None:
    assert is_crash(NOW, NOW + lasted, OPTIONS) is crash


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"threshold": 0.0, "delay": -1.0}, "threshold = 0, delay = -1"),
        ({"half_life": math.nan}, "half_life = nan"),
        ({"delay_max": math.inf}, "delay_max = inf"),
        ({"delay": 600.0}, "600 and 300"),
    ],
)
def test_options_that_make_no_sense_are_refused_with_their_values(wrong: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        CrashLoopOptions(**wrong)


options = st.builds(
    CrashLoopOptions,
    half_life=st.floats(1e-3, 1e6),
    threshold=st.floats(0.5, 50.0),
    delay=st.floats(5e-324, 10.0),
    delay_max=st.floats(10.0, 1e300),
)


@given(options, st.lists(st.floats(-1e6, 1e6), max_size=40))
def test_no_wait_exceeds_its_bound_and_none_is_negative(options: CrashLoopOptions, steps: list[float]) -> None:
    loop, now = CrashLoop(), NOW
    for step in steps:
        assert 0.0 <= delay_of(loop, now, options) <= options.delay_max
        now += step
        loop = crashed(loop, now, options)
        assert math.isfinite(loop.score)


@given(st.integers(1, 30), st.floats(0.0, 1e5), st.floats(0.0, 1e5))
def test_time_alone_only_shortens_a_wait(count: int, one: float, other: float) -> None:
    loop, now = after_crashes(count)
    sooner, later = sorted((one, other))
    assert delay_of(loop, now + sooner, OPTIONS) >= delay_of(loop, now + later, OPTIONS)
