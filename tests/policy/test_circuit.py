"""The circuit: a story told in steps of (what happened, when), and the promise that it never stays open too long."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crewd.model.failure import ErrorClass
from crewd.model.managed import CircuitState
from crewd.policy.circuit import (
    CLOCK_SLACK,
    CLOSED,
    HALF_OPEN,
    OPEN,
    CircuitOptions,
    advance,
    allows,
    failed,
    hinted,
    succeeded,
)
from crewd.policy.retry import RETRY_AFTER_MAX

OPTIONS = CircuitOptions()  # three of one class in 300 s; 60 s doubling to 900 s; 1, 2, 4 at a time, then all
NOW = 1_800_000_000.0
LIMITED = ErrorClass.RATE_LIMITED
FRESH = CircuitState("claude")


def after_failures(*seconds: float, error_class: ErrorClass = LIMITED, circuit: CircuitState = FRESH) -> CircuitState:
    for second in seconds:
        circuit = failed(circuit, error_class, None, NOW + second, OPTIONS)
    return circuit


def may_start(circuit: CircuitState, second: float, busy: int = 0) -> bool:
    return allows(circuit, busy, NOW + second, OPTIONS)[0]


def probed(circuit: CircuitState, second: float, times: int = 1) -> CircuitState:
    for number in range(times):
        circuit = succeeded(circuit, NOW + second + number, OPTIONS)
    return circuit


def test_a_fresh_circuit_lets_everyone_start() -> None:
    assert allows(FRESH, 10_000, NOW, OPTIONS) == (True, "", None)


def test_three_of_one_class_within_the_window_open_it() -> None:
    assert after_failures(0, 150).state == CLOSED
    assert after_failures(0, 150, 299).state == OPEN
    assert after_failures(0, 150, 300).state == OPEN
    assert after_failures(0, 150, 301).state == CLOSED


def test_an_older_failure_makes_room_for_a_newer_one() -> None:
    assert after_failures(0, 200, 400, 499).state == OPEN


def test_failures_of_several_classes_do_not_add_up() -> None:
    circuit = after_failures(0, 10)
    circuit = after_failures(20, 30, error_class=ErrorClass.PROVIDER_ERROR, circuit=circuit)
    assert circuit.state == CLOSED
    circuit = after_failures(40, error_class=ErrorClass.PROVIDER_ERROR, circuit=circuit)
    assert (circuit.state, circuit.opened_for) == (OPEN, "provider_error")


@pytest.mark.parametrize("error_class", [ErrorClass.WORKER_CRASH, ErrorClass.TASK_ERROR, ErrorClass.TIMEOUT])
def test_what_says_nothing_of_the_provider_changes_nothing(error_class: ErrorClass) -> None:
    assert after_failures(*range(50), error_class=error_class) == FRESH
    half_open = advance(after_failures(0, 1, 2), NOW + 62, OPTIONS)
    assert after_failures(70, error_class=error_class, circuit=half_open) == half_open


@pytest.mark.parametrize("error_class", [ErrorClass.BUDGET_EXCEEDED, ErrorClass.DISK_FULL])
def test_a_spent_budget_and_a_full_disk_open_it_at_once(error_class: ErrorClass) -> None:
    circuit = after_failures(0, error_class=error_class)
    assert (circuit.state, circuit.opened_for) == (OPEN, error_class)


def test_an_open_circuit_says_why_and_when_a_probe_may_start() -> None:
    circuit = after_failures(0, 1, 2)
    allowed, why, seconds = allows(circuit, 0, NOW + 10, OPTIONS)
    assert (allowed, seconds) == (False, 52.0)
    assert why == "the circuit claude is open for rate_limited: a probe in 52 s"
    assert not may_start(circuit, 61.9)
    assert may_start(circuit, 62)


def test_a_named_wait_is_never_undercut() -> None:
    circuit = failed(after_failures(0, 1), LIMITED, 3600.0, NOW + 2, OPTIONS)
    assert not may_start(circuit, 3601)
    assert may_start(circuit, 3602)


@pytest.mark.parametrize("error_class", [LIMITED, ErrorClass.PROVIDER_ERROR])
def test_a_provider_that_itself_names_a_long_wait_is_believed_at_once(error_class: ErrorClass) -> None:
    circuit = failed(FRESH, error_class, 3600.0, NOW, OPTIONS)
    assert (circuit.state, circuit.opened_for, circuit.probe_at) == (OPEN, error_class, NOW + 3600)
    assert failed(FRESH, error_class, OPTIONS.open_for, NOW, OPTIONS).probe_at == NOW + 60


def test_a_short_wait_or_none_opens_nothing_alone() -> None:
    for wait in (59.9, 4.0, 0.0, -1.0, None, math.nan):
        assert failed(FRESH, LIMITED, wait, NOW, OPTIONS).state == CLOSED


def test_of_a_long_wait_no_more_is_believed_than_a_day() -> None:
    for wait in (RETRY_AFTER_MAX, 1e9, math.inf):
        assert failed(FRESH, LIMITED, wait, NOW, OPTIONS).probe_at == NOW + RETRY_AFTER_MAX


@pytest.mark.parametrize("error_class", [ErrorClass.AUTH_ERROR, ErrorClass.TASK_ERROR, ErrorClass.TIMEOUT])
def test_a_long_wait_of_another_class_opens_nothing_alone(error_class: ErrorClass) -> None:
    assert failed(FRESH, error_class, 3600.0, NOW, OPTIONS).state == CLOSED


def test_one_that_was_under_way_may_lengthen_the_wait_and_never_shorten_it() -> None:
    circuit = after_failures(0, 1, 2)
    longer = failed(circuit, LIMITED, 120.0, NOW + 10, OPTIONS)
    assert (longer.probe_at, longer.openings) == (NOW + 130, 1)
    assert failed(circuit, LIMITED, 1.0, NOW + 10, OPTIONS).probe_at == NOW + 62
    assert may_start(succeeded(circuit, NOW + 10, OPTIONS), 11) is False


def test_it_recovers_with_one_two_and_four_at_a_time_and_closes_at_the_third_success() -> None:
    circuit = advance(after_failures(0, 1, 2), NOW + 62, OPTIONS)
    for successes, at_a_time in enumerate((1, 2, 4)):
        step = probed(circuit, 63, successes)
        assert (step.state, step.ramp) == (HALF_OPEN, at_a_time)
        assert may_start(step, 70, busy=at_a_time - 1)
        allowed, why, seconds = allows(step, at_a_time, NOW + 70, OPTIONS)
        assert (allowed, seconds) == (False, None)
        assert f"{at_a_time} at a time" in why
    assert probed(circuit, 63, 3) == FRESH


def test_a_failed_probe_opens_it_again_and_for_longer_up_to_the_bound() -> None:
    circuit, now, waits = after_failures(0, 1, 2), NOW + 2, list[float]()
    for _ in range(7):
        assert circuit.probe_at is not None
        waits.append(circuit.probe_at - now)
        now = circuit.probe_at
        circuit = failed(advance(circuit, now, OPTIONS), ErrorClass.PROVIDER_ERROR, None, now, OPTIONS)
        assert (circuit.state, circuit.opened_for) == (OPEN, "provider_error")
    assert waits == [60.0, 120.0, 240.0, 480.0, 900.0, 900.0, 900.0]


def test_a_failure_on_the_way_up_opens_it_again() -> None:
    circuit = probed(advance(after_failures(0, 1, 2), NOW + 62, OPTIONS), 63, 2)
    circuit = after_failures(70, circuit=circuit)
    assert (circuit.state, circuit.openings, circuit.ramp) == (OPEN, 2, 0)
    assert not may_start(circuit, 189)


def test_after_it_has_closed_the_next_opening_is_as_short_as_the_first() -> None:
    closed = probed(after_failures(0, 1, 2), 62, 3)
    again = after_failures(100, 101, 102, circuit=closed)
    assert (again.openings, again.probe_at) == (1, NOW + 162)


def test_whoever_forgets_to_advance_it_gets_the_same_answers() -> None:
    circuit = after_failures(0, 1, 2)
    advanced = advance(circuit, NOW + 62, OPTIONS)
    assert advanced.state == HALF_OPEN
    for second in (62, 70):
        for busy in (0, 1, 2):
            now = NOW + second
            assert allows(circuit, busy, now, OPTIONS) == allows(advanced, busy, now, OPTIONS)
        assert failed(circuit, LIMITED, None, now, OPTIONS) == failed(advanced, LIMITED, None, now, OPTIONS)
        assert succeeded(circuit, now, OPTIONS) == succeeded(advanced, now, OPTIONS)


def test_successes_do_not_hide_failures_within_the_window() -> None:
    circuit = after_failures(0, 1)
    circuit = after_failures(20, circuit=probed(circuit, 5, 10))
    assert circuit.state == OPEN


def test_a_clock_that_was_set_back_does_not_keep_it_open() -> None:
    circuit = after_failures(0, 1, 2)
    assert not may_start(circuit, -30)  # a clock that is corrected
    assert may_start(circuit, -3600)
    assert advance(circuit, NOW - 3600, OPTIONS).state == HALF_OPEN


def test_many_who_asked_to_wait_do_not_add_up_when_the_clock_is_set_back() -> None:
    circuit = after_failures(0, 1, 2)
    for day in range(4):
        circuit = failed(circuit, LIMITED, RETRY_AFTER_MAX, NOW + 10 + day * 80_000, OPTIONS)
    assert not may_start(circuit, 10 + 3 * 80_000)
    assert may_start(circuit, 10)


def test_failures_from_before_the_clock_was_set_back_leave_the_window_too() -> None:
    circuit = after_failures(0, 1)
    circuit = after_failures(-86_400, error_class=ErrorClass.PROVIDER_ERROR, circuit=circuit)
    assert after_failures(-86_400 + 301, circuit=circuit).state == CLOSED


def test_it_remembers_no_more_failures_than_it_takes_to_open() -> None:
    circuit = FRESH
    for second in range(1000):
        circuit = failed(circuit, LIMITED, None, NOW + second / 100, OPTIONS)
    assert len(circuit.failures) == OPTIONS.failures


def test_an_open_circuit_of_which_nothing_more_is_known_may_be_probed() -> None:
    assert may_start(CircuitState("claude", state=OPEN), 0)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"failures": 0, "ramp_after": 0}, "failures must be at least 1: got 0; ramp_after must be"),
        ({"window": 0.0}, "window must be a number of seconds above 0: got 0"),
        ({"open_for_max": math.inf}, "open_for_max must be a number"),
        ({"open_for": math.nan}, "open_for must be a number"),
        ({"open_for": 1000.0}, "open_for must not exceed open_for_max: got 1000, 900"),
    ],
)
def test_options_that_make_no_sense_are_refused_all_at_once(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        CircuitOptions(**wrong)


def hints(*seconds: float, error_class: ErrorClass = LIMITED, circuit: CircuitState = FRESH) -> CircuitState:
    for second in seconds:
        circuit = hinted(circuit, error_class, NOW + second, OPTIONS)
    return circuit


def test_what_somebody_else_was_refused_counts_as_one_failure_beside_our_own() -> None:
    assert after_failures(1, circuit=hints(0)).state == CLOSED
    assert after_failures(1, 2, circuit=hints(0)).state == OPEN
    circuit = hints(2, circuit=after_failures(0, 1))
    assert (circuit.state, circuit.opened_for, circuit.probe_at) == (OPEN, "rate_limited", NOW + 62)


def test_hints_alone_open_nothing_however_many_they_are() -> None:
    assert hints(*range(1000)).state == CLOSED
    once = CircuitOptions(failures=1)
    assert hinted(FRESH, LIMITED, NOW, once).state == CLOSED
    two = CircuitOptions(failures=2)
    assert hinted(hinted(FRESH, LIMITED, NOW, two), LIMITED, NOW + 1, two).state == CLOSED


def test_hints_count_once_a_window() -> None:
    assert after_failures(3, circuit=hints(0, 1, 2)).state == CLOSED
    # The hint of second 0 is forgotten after 300 s, whatever came meanwhile; then another one counts.
    assert after_failures(302, 303, circuit=hints(*range(300))).state == CLOSED
    assert after_failures(302, 303, circuit=hints(*range(302))).state == OPEN


def test_a_hint_of_one_class_is_none_of_another() -> None:
    assert after_failures(1, 2, circuit=hints(0, error_class=ErrorClass.PROVIDER_ERROR)).state == CLOSED


@pytest.mark.parametrize("error_class", [ErrorClass.WORKER_CRASH, ErrorClass.TASK_ERROR, ErrorClass.TIMEOUT])
def test_a_hint_that_says_nothing_of_the_provider_changes_nothing(error_class: ErrorClass) -> None:
    assert hints(0, error_class=error_class) == FRESH


@pytest.mark.parametrize("error_class", [ErrorClass.BUDGET_EXCEEDED, ErrorClass.DISK_FULL, ErrorClass.AUTH_ERROR])
def test_the_spent_budget_of_somebody_else_opens_nothing(error_class: ErrorClass) -> None:
    assert hints(0, 1, 2, error_class=error_class).state == CLOSED


def test_a_circuit_that_is_open_or_recovers_hears_no_hint() -> None:
    circuit = after_failures(0, 1, 2)
    assert hints(3, 10, 61, circuit=circuit) == circuit
    half_open = probed(advance(circuit, NOW + 62, OPTIONS), 63)
    assert hints(64, 65, circuit=half_open) == half_open
    assert hints(62, circuit=circuit) == advance(circuit, NOW + 62, OPTIONS)


options = st.builds(
    CircuitOptions,
    failures=st.integers(1, 5),
    window=st.floats(1.0, 1e6),
    open_for=st.floats(1e-3, 900.0),
    open_for_max=st.floats(900.0, 1e6),
    ramp_from=st.integers(1, 5),
    ramp_after=st.integers(1, 6),
)
happenings = st.tuples(
    st.sampled_from(["fails", "succeeds", "waits"]),
    st.sampled_from(ErrorClass),
    st.none() | st.floats(allow_nan=True, allow_infinity=True) | st.floats(0.0, 1e5),
    st.floats(-1e5, 1e5),
)


def follow(
    happenings: list[Any], options: CircuitOptions, circuit: CircuitState = FRESH, now: float = NOW
) -> tuple[CircuitState, float]:
    for what, error_class, retry_after, passed in happenings:
        now += passed
        match what:
            case "fails":
                circuit = failed(circuit, error_class, retry_after, now, options)
            case "succeeds":
                circuit = succeeded(circuit, now, options)
            case _:
                circuit = advance(circuit, now, options)
        assert circuit.state in (CLOSED, OPEN, HALF_OPEN)
        assert (circuit.ramp > 0) == (circuit.state == HALF_OPEN)
        assert len(circuit.failures) <= options.failures * len(ErrorClass)
    return circuit, now


@given(st.lists(happenings, max_size=30), options, st.floats(0.0, 1e9))
def test_it_never_stays_open_past_the_longest_wait_wherever_the_clock_goes(
    story: list[Any], options: CircuitOptions, set_back: float
) -> None:
    circuit, now = follow(story, options)
    now -= set_back
    allowed, why, seconds = allows(circuit, 0, now, options)
    if allowed:
        return
    assert why
    assert seconds is not None
    assert 0 < seconds <= max(options.open_for_max, RETRY_AFTER_MAX) + CLOCK_SLACK
    assert allows(circuit, 0, now + seconds + 1e-3, options)[0]


@given(st.lists(happenings, max_size=30), options, st.none() | st.floats(0.0, RETRY_AFTER_MAX))
def test_with_a_clock_that_only_goes_on_the_longest_wait_is_that_of_the_options_or_the_named_one(
    story: list[Any], options: CircuitOptions, named: float | None
) -> None:
    circuit, now = follow([(what, each, named, abs(passed)) for what, each, _, passed in story], options)
    seconds = allows(circuit, 0, now, options)[2] or 0.0
    assert seconds <= max(options.open_for_max, named or 0.0) + 1e-3


@given(st.lists(happenings, max_size=30), options)
def test_successes_alone_always_close_it(story: list[Any], options: CircuitOptions) -> None:
    circuit, now = follow(story, options)
    seconds = allows(circuit, 0, now, options)[2] or 0.0
    for _ in range(options.ramp_after):
        circuit = succeeded(circuit, now + seconds + 1e-3, options)
    assert circuit.state == CLOSED


@given(options, st.lists(st.floats(0.0, 100.0), max_size=80), st.integers(0, 10**6))
def test_a_wait_is_always_a_number_however_often_it_opens(
    options: CircuitOptions, passed: list[float], openings: int
) -> None:
    now = NOW
    circuit = CircuitState("claude", state=HALF_OPEN, ramp=1, openings=openings)
    for seconds in passed:
        circuit = failed(circuit, ErrorClass.BUDGET_EXCEEDED, None, now, options)
        assert circuit.probe_at is not None
        assert 0 < circuit.probe_at - now <= options.open_for_max + 1e-3
        now = circuit.probe_at + seconds


hint_stories = st.lists(
    st.tuples(
        st.sampled_from(["fails", "succeeds", "waits", "hints"]),
        st.sampled_from(ErrorClass),
        st.none() | st.floats(0.0, 1e5),
        st.floats(0.0, 400.0),
    ),
    max_size=30,
)


@given(hint_stories, options)
def test_a_hint_never_opens_alone_never_closes_and_never_prolongs(story: list[Any], options: CircuitOptions) -> None:
    circuit, now = FRESH, NOW
    for what, error_class, retry_after, passed in story:
        now += passed
        if what != "hints":
            circuit, now = follow([(what, error_class, retry_after, 0.0)], options, circuit, now)
            continue
        before, circuit = advance(circuit, now, options), hinted(circuit, error_class, now, options)
        assert len(circuit.failures) <= (options.failures + 1) * len(ErrorClass)
        if before.state != CLOSED:
            assert circuit == before
        elif circuit.state == OPEN:
            assert any(each == error_class and at >= now - options.window for at, each in circuit.failures)
            assert circuit.probe_at == now + options.open_for
        else:
            assert circuit.state == CLOSED
        assert hinted(circuit, error_class, now, options) == circuit


@given(hint_stories, options)
def test_with_hints_a_circuit_opens_no_later_and_at_most_one_failure_sooner(
    story: list[Any], options: CircuitOptions
) -> None:
    """Until one of them opens: all failures are of one class, and name no wait."""
    without, beside, now, own = FRESH, FRESH, NOW, list[float]()
    for what, _, _, passed in story:
        now += passed
        if what == "hints":
            beside = hinted(beside, LIMITED, now, options)
        elif what == "fails":
            own.append(now)
            without, beside = (failed(each, LIMITED, None, now, options) for each in (without, beside))
        if without.state == OPEN:
            assert beside.state == OPEN
        if beside.state == OPEN:
            recent = sum(1 for at in own if at >= now - options.window)
            assert recent >= max(1, options.failures - 1)
            return
