"""Retries: tables for the rules, and properties for the bounds: delays stay in their window, and a policy ends."""

import math
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from crewd.model.action import Decision, GiveUp, RetryAt
from crewd.model.failure import ErrorClass, Failure
from crewd.model.plan import Jitter, RetryPolicy, RetryRule
from crewd.policy.retry import DELAY_MAX, RETRY_AFTER_MAX, after_failure, named_wait

NOW = 1_800_000_000.0
CRASH = Failure(ErrorClass.WORKER_CRASH)
LIMITED = Failure(ErrorClass.RATE_LIMITED, retry_after=7.0)


def after(
    policy: RetryPolicy, failure: Failure = CRASH, *, counted: int = 1, of_class: int | None = None,
    roll: float = 0.5, previous_delay: float | None = None, first_started_at: float = NOW, now: float = NOW,
) -> Decision:  # fmt: skip
    return after_failure(
        policy,
        failure,
        counted=counted,
        of_class=counted if of_class is None else of_class,
        previous_delay=previous_delay,
        first_started_at=first_started_at,
        now=now,
        roll=roll,
    )


def retried(decision: Decision) -> RetryAt:
    assert isinstance(decision, RetryAt)
    return decision


def given_up(decision: Decision) -> GiveUp:
    assert isinstance(decision, GiveUp)
    return decision


def patient(**changes: Any) -> RetryPolicy:
    return RetryPolicy(**{"max_attempts": 10**7, **changes})


@pytest.mark.parametrize(
    ("jitter", "counted", "floor", "ceiling"),
    [
        (Jitter.NONE, 1, 5.0, 5.0),
        (Jitter.NONE, 3, 20.0, 20.0),
        (Jitter.NONE, 50, 300.0, 300.0),
        (Jitter.FULL, 1, 0.0, 5.0),
        (Jitter.FULL, 3, 0.0, 20.0),
        (Jitter.FULL, 10**6, 0.0, 300.0),
        (Jitter.EQUAL, 3, 10.0, 20.0),
        (Jitter.EQUAL, 10**6, 150.0, 300.0),
    ],
)
def test_the_delay_doubles_up_to_the_cap_and_chance_spreads_it(
    jitter: Jitter, counted: int, floor: float, ceiling: float
) -> None:
    policy = patient(jitter=jitter)
    for roll, delay in ((0.0, floor), (0.5, (floor + ceiling) / 2)):
        decision = retried(after(policy, counted=counted, roll=roll))
        assert (decision.floor, decision.delay, decision.ceiling) == (floor, delay, ceiling)
        assert decision.due_at == NOW + delay


def test_decorrelated_jitter_reaches_to_three_times_the_delay_before() -> None:
    policy = patient(jitter=Jitter.DECORRELATED)
    windows = [(None, 5.0, 15.0), (15.0, 5.0, 45.0), (2.0, 5.0, 15.0), (250.0, 5.0, 300.0), (math.inf, 5.0, 300.0)]
    for previous, floor, ceiling in windows:
        decision = retried(after(policy, previous_delay=previous))
        assert (decision.floor, decision.ceiling) == (floor, ceiling)


@pytest.mark.parametrize("jitter", Jitter)
def test_a_named_wait_is_never_undercut_and_chance_only_adds_to_it(jitter: Jitter) -> None:
    delays = [retried(after(patient(jitter=jitter), LIMITED, roll=roll)).delay for roll in (0.0, 0.3, 0.999)]
    assert delays[0] == 7.0  # the window of 5 s moved up
    assert sorted(delays) == delays
    assert delays[-1] < 7.0 + 15.0
    assert (delays[-1] > 7.0) == (jitter is not Jitter.NONE)


def test_the_cap_bounds_the_backoff_and_not_the_wait_that_was_asked_for() -> None:
    failure = Failure(ErrorClass.RATE_LIMITED, retry_after=3600.0)
    decision = retried(after(patient(cap=10.0), failure, counted=9))
    assert (decision.floor, decision.ceiling) == (3600.0, 3610.0)
    assert "3600 s were asked for" in decision.reason


def test_a_window_that_begins_later_than_the_named_wait_stays_where_it_is() -> None:
    decision = retried(after(patient(jitter=Jitter.EQUAL), LIMITED, counted=6))
    assert (decision.floor, decision.ceiling) == (80.0, 160.0)


@pytest.mark.parametrize(
    ("named", "waited"),
    [(None, 0.0), (0.0, 0.0), (-5.0, 0.0), (math.nan, 0.0), (math.inf, RETRY_AFTER_MAX), (1e300, RETRY_AFTER_MAX)],
)
def test_a_wait_that_is_no_number_of_seconds_is_no_wait_and_a_huge_one_ends(
    named: float | None, waited: float
) -> None:
    assert named_wait(named) == waited
    assert retried(after(patient(), Failure(ErrorClass.RATE_LIMITED, retry_after=named))).floor == waited


@pytest.mark.parametrize(
    ("error_class", "reason"),
    [
        (ErrorClass.WORKER_CRASH, "max-retries"),
        (ErrorClass.RATE_LIMITED, "max-retries"),
        (ErrorClass.HEARTBEAT_LOST, "heartbeat-dead"),
    ],
)
def test_after_the_last_attempt_the_reason_names_what_was_used_up(error_class: ErrorClass, reason: str) -> None:
    policy = RetryPolicy(max_attempts=3)
    assert isinstance(after(policy, Failure(error_class), counted=2), RetryAt)
    decision = given_up(after(policy, Failure(error_class), counted=3))
    assert decision == GiveUp(reason, f"{error_class}: 3 of 3 attempts are used")


def test_one_attempt_means_no_retry() -> None:
    assert given_up(after(RetryPolicy(max_attempts=1))).reason == "max-retries"


@pytest.mark.parametrize(
    ("error_class", "reason", "because"),
    [
        (ErrorClass.SPAWN_FAILED, "not-retryable", "not retried unless"),
        (ErrorClass.INPUT_INVALID, "not-retryable", "not retried unless"),
        (ErrorClass.TASK_ERROR, "not-retryable", "not retried unless"),
        (ErrorClass.DISK_FULL, "not-retryable", "not retried unless"),
        (ErrorClass.AUTH_ERROR, "not-retryable", "waits for a human"),
        (ErrorClass.BUDGET_EXCEEDED, "budget", "not retried unless"),
    ],
)
def test_some_classes_are_not_retried_at_all(error_class: ErrorClass, reason: str, because: str) -> None:
    decision = given_up(after(RetryPolicy(), Failure(error_class)))
    assert decision.reason == reason
    assert because in decision.because
    assert error_class in decision.because


@pytest.mark.parametrize("error_class", [ErrorClass.OUTPUT_INVALID, ErrorClass.PROTOCOL_ERROR, ErrorClass.UNKNOWN])
def test_some_classes_are_tried_once_more_and_no_oftener(error_class: ErrorClass) -> None:
    policy = RetryPolicy(max_attempts=9)
    assert isinstance(after(policy, Failure(error_class), counted=5, of_class=1), RetryAt)
    assert given_up(after(policy, Failure(error_class), counted=6, of_class=2)).reason == "max-retries"


def test_the_workers_own_word_is_heard_before_the_default() -> None:
    no = Failure(ErrorClass.WORKER_CRASH, retryable=False)
    assert given_up(after(RetryPolicy(), no)).reason == "not-retryable"
    yes = Failure(ErrorClass.TASK_ERROR, retryable=True)
    assert isinstance(after(RetryPolicy(), yes, counted=2), RetryAt)
    assert given_up(after(RetryPolicy(), yes, counted=3)).reason == "max-retries"


def test_no_word_of_a_worker_retries_what_waits_for_a_human() -> None:
    assert "human" in given_up(after(RetryPolicy(), Failure(ErrorClass.AUTH_ERROR, retryable=True))).because


def test_the_workers_word_does_not_lengthen_what_is_tried_once_more() -> None:
    failure = Failure(ErrorClass.OUTPUT_INVALID, retryable=True)
    assert isinstance(after(RetryPolicy(), failure, counted=2), GiveUp)


@dataclass
class Ruled:
    """One rule of a run file, the failure that meets it, and how many attempts follow each other."""

    rule: RetryRule
    failure: Failure
    attempts: int
    reason: str = "max-retries"
    policy: dict[str, Any] = field(default_factory=dict)


@pytest.mark.parametrize(
    "case",
    [
        Ruled(RetryRule(retry=False), Failure(ErrorClass.TIMEOUT, retryable=True), 1, "not-retryable"),
        Ruled(RetryRule(retry=True), Failure(ErrorClass.TASK_ERROR), 5),
        Ruled(RetryRule(retry=True), Failure(ErrorClass.TASK_ERROR, retryable=False), 5),
        Ruled(RetryRule(retry=True), Failure(ErrorClass.AUTH_ERROR), 5),
        Ruled(RetryRule(retry=True), Failure(ErrorClass.UNKNOWN), 5),  # like any other failure, not once
        Ruled(RetryRule(max_attempts=3), Failure(ErrorClass.TASK_ERROR), 3),  # granting attempts grants retries
        Ruled(RetryRule(max_attempts=1), Failure(ErrorClass.TIMEOUT), 1),
        Ruled(RetryRule(max_attempts=4), Failure(ErrorClass.UNKNOWN), 4),
        Ruled(RetryRule(max_attempts=99), Failure(ErrorClass.TIMEOUT), 5),  # the promised bound holds
        Ruled(RetryRule(max_attempts=2), Failure(ErrorClass.HEARTBEAT_LOST), 2, "heartbeat-dead"),
        Ruled(RetryRule(cap=1.0), Failure(ErrorClass.TASK_ERROR), 1, "not-retryable"),
    ],
)
def test_the_run_file_has_the_first_word_on_its_classes(case: Ruled) -> None:
    policy = RetryPolicy(max_attempts=5, classes={case.failure.error_class: case.rule})
    decisions = [after(policy, case.failure, counted=number) for number in range(1, case.attempts + 1)]
    assert all(isinstance(decision, RetryAt) for decision in decisions[:-1])
    assert given_up(decisions[-1]).reason == case.reason


def test_a_rule_has_its_own_base_factor_and_cap() -> None:
    rule = RetryRule(base=1.0, factor=3.0, cap=20.0)
    policy = patient(jitter=Jitter.NONE, classes={ErrorClass.WORKER_CRASH: rule})
    assert [retried(after(policy, counted=number)).delay for number in (1, 2, 3, 4)] == [1.0, 3.0, 9.0, 20.0]
    assert retried(after(policy, Failure(ErrorClass.TIMEOUT), counted=2)).delay == 10.0


def test_no_retry_starts_after_the_time_allowed() -> None:
    policy = RetryPolicy(jitter=Jitter.NONE, elapsed_max=60.0)
    assert isinstance(after(policy, now=NOW + 55.0), RetryAt)
    decision = given_up(after(policy, now=NOW + 55.1))
    assert decision.reason == "max-retries"
    assert "60 s" in decision.because


def test_a_clock_that_was_set_back_neither_lends_time_nor_takes_any() -> None:
    policy = RetryPolicy(jitter=Jitter.NONE, elapsed_max=4.0)
    assert isinstance(
        after(policy, first_started_at=NOW + 3600.0), GiveUp
    )  # 5 s are more than 4 s, whenever it began
    decision = retried(after(RetryPolicy(elapsed_max=60.0), first_started_at=NOW + 3600.0))
    assert decision.due_at >= NOW


def test_a_decision_says_which_attempt_failed_and_when_the_next_starts() -> None:
    decision = retried(after(RetryPolicy(jitter=Jitter.NONE)))
    assert decision.reason == "worker_crash: attempt 1 of 3 failed, the next in 5.0 s"


numbers = st.floats(allow_nan=True, allow_infinity=True)
sensible = st.floats(min_value=0.0, max_value=1e9)
rules = st.builds(
    RetryRule,
    retry=st.none() | st.booleans(),
    max_attempts=st.none() | st.integers(1, 9),
    base=st.none() | numbers,
    factor=st.none() | numbers,
    cap=st.none() | numbers,
)
policies = st.builds(
    RetryPolicy,
    max_attempts=st.integers(1, 12),
    base=sensible | numbers,
    factor=st.floats(0.5, 10.0) | numbers,
    cap=sensible | numbers,
    jitter=st.sampled_from(Jitter),
    elapsed_max=st.none() | sensible,
    classes=st.dictionaries(st.sampled_from(ErrorClass), rules, max_size=4),
)
failures = st.builds(
    Failure,
    error_class=st.sampled_from(ErrorClass),
    retryable=st.none() | st.booleans(),
    retry_after=st.none() | sensible | numbers,
)
rolls = st.floats(min_value=0.0, max_value=1.0, exclude_max=True)


@given(policies, failures, st.integers(1, 10**6), rolls, st.none() | numbers, st.floats(-1e9, 1e9))
def test_any_delay_lies_in_its_window_and_is_a_time_that_can_be_waited(
    policy: RetryPolicy, failure: Failure, counted: int, roll: float, previous: float | None, skew: float
) -> None:
    policy = replace(policy, max_attempts=10**7, elapsed_max=None)
    decision = after(
        policy, failure, counted=counted, of_class=1, roll=roll, previous_delay=previous, first_started_at=NOW + skew
    )
    if isinstance(decision, RetryAt):
        assert 0.0 <= decision.floor <= decision.delay <= decision.ceiling <= DELAY_MAX + RETRY_AFTER_MAX
        assert decision.due_at >= NOW + named_wait(failure.retry_after)
        assert decision.due_at == NOW + decision.delay


@given(policies, st.lists(st.tuples(failures, rolls, st.floats(-1e5, 1e5)), min_size=12, max_size=12))
def test_every_policy_ends_within_its_attempts(
    policy: RetryPolicy, story: list[tuple[Failure, float, float]]
) -> None:
    now, delay = NOW, None
    seen: dict[ErrorClass, int] = {}
    for counted, (failure, roll, passed) in enumerate(story, start=1):
        seen[failure.error_class] = seen.get(failure.error_class, 0) + 1
        decision = after_failure(
            policy, failure, counted=counted, of_class=seen[failure.error_class], previous_delay=delay,
            first_started_at=NOW, now=now, roll=roll,
        )  # fmt: skip
        if isinstance(decision, GiveUp):
            assert decision.because
            assert decision.reason in ("max-retries", "heartbeat-dead", "not-retryable", "budget")
            return
        assert counted < policy.max_attempts
        delay = retried(decision).delay
        now = retried(decision).due_at + passed
    raise AssertionError("it never gave up")


@given(st.integers(1, 10**6), st.integers(1, 10**6), rolls)
def test_a_later_failure_never_waits_less_than_an_earlier_one(one: int, other: int, roll: float) -> None:
    for jitter in (Jitter.NONE, Jitter.FULL, Jitter.EQUAL):
        sooner, later = (
            retried(after(patient(jitter=jitter), counted=counted, roll=roll)).delay
            for counted in sorted((one, other))
        )
        assert sooner <= later
